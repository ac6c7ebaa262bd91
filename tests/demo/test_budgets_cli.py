"""`outlay budgets`: a file of budgets, compared with a stream and applied to it."""

from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay import Budget, OutlayError, Scope
from outlay.alert_config import AlertConfig, AlertConfigRecord, encode_config_record
from outlay.alert_configs import AlertConfigs
from outlay.cli.budgets import run_apply, run_diff, run_export
from outlay.cli.budgets_yaml import dump, load
from outlay.stack import Stack
from outlay.testing import InMemoryStream
from tests.demo.test_cli import outlay
from tests.library.library_fakes import FakeTopic
from tests.library.test_alert_configs import Reader as EndedReader

FILE = """\
version: 1
budgets:
  organization:acme:
    monthly_budget_usd: 1000.10
    warning_threshold: 0.8
  organization:acme/team:search:
    daily_execution_limit: 1_000
    enforcement_mode: soft
  organization:acme/agent:free:
"""


@dataclass
class InMemory:
    """An `outlay.cli.budgets.Stream` in memory."""

    stream: InMemoryStream
    configs: FakeTopic = field(default_factory=lambda: FakeTopic(1))

    def alerts(self):
        return AlertConfigs(reader_factory=lambda: EndedReader(self.configs))

    def feed(self):
        return self.stream.new_feed()

    def client(self, feed):
        return PublishingBudgets(self)


class PublishingBudgets:
    """The stream's budgets; alert configurations are published with their versions, too."""

    def __init__(self, over):
        self._over = over

    def __getattr__(self, name):
        return getattr(self._over.stream.budgets, name)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        pass

    async def aput_alerts(self, scope, config, **options):
        decision = await self._over.stream.budgets.aput_alerts(scope, config, **options)
        record = AlertConfigRecord(scope, decision.version, config)
        self._over.configs.append(scope.encode(), encode_config_record(record), 0)
        return decision

    async def adelete_alerts(self, scope, **options):
        decision = await self._over.stream.budgets.adelete_alerts(scope, **options)
        self._over.configs.append(scope.encode(), None, 0)
        return decision


@pytest.fixture
def stream():
    with InMemoryStream() as stream:
        yield stream


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "budgets.yaml"
    path.write_text(FILE)
    return path


def budgets_of(stream):
    return {key: known.decision.budget for key, known in stream.feed.decisions.items()}


def test_a_file_is_applied_once(stream, file, capsys):
    """A second time changes nothing; amounts are what is written there, not floats."""
    over = InMemory(stream)
    assert run_diff(over, file, prune=False) == 1
    assert run_apply(over, file, prune=False, dry_run=True) == 0
    assert budgets_of(stream) == {}
    assert run_apply(over, file, prune=False, dry_run=False) == 0
    said = capsys.readouterr().out
    assert "+ organization:acme/team:search\n  + daily_execution_limit: 1000\n" in said
    assert said.endswith("3 to add, 0 to change, 0 to delete, 0 unchanged\napplied 3\n")
    assert budgets_of(stream) == {
        "organization:acme": Budget(
            monthly_budget_usd=Decimal("1000.10"), warning_threshold=Decimal("0.8")
        ),
        "organization:acme/team:search": Budget(
            daily_execution_limit=1000, enforcement_mode="soft"
        ),
        "organization:acme/agent:free": Budget(),
    }
    assert run_diff(over, file, prune=True) == 0
    assert run_apply(over, file, prune=True, dry_run=False) == 0
    assert "3 unchanged" in capsys.readouterr().out
    assert {known.decision.version for known in stream.feed.decisions.values()} == {1}


ALERTS = """\
budgets:
  organization:acme:
    monthly_budget_usd: 1000
    alerts:
      webhook_url: ${HOOK_URL}
      webhook_secrets:
        - ${HOOK_SECRET}
      thresholds: [0.5, 0.80, 1]
      cooldown_minutes: 5
  organization:acme/team:search:
    daily_execution_limit: 5
"""
URL, SECRET = "https://hooks.example/T0/very-secret", "whsec_" + "dmVyeXNlY3JldDEy" * 2


@pytest.fixture
def with_alerts(stream, file, monkeypatch, capsys):
    """A file with alerts was applied, and the environment has what it names."""
    monkeypatch.setenv("HOOK_URL", URL)
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    over = InMemory(stream)
    file.write_text(ALERTS)
    capsys.readouterr()
    assert run_apply(over, file, prune=False, dry_run=False) == 0
    over.said = capsys.readouterr().out
    return over


def configs_of(over):
    with over.alerts() as own:
        own.wait_current()
        return {key: record.config for key, record in own.records.items()}


def test_alerts_of_a_file_are_applied_once_and_no_secret_is_printed(with_alerts, file):
    """With what the environment has for the names; a second time changes nothing."""
    assert configs_of(with_alerts) == {
        "organization:acme": AlertConfig(
            webhook_url=URL,
            webhook_secrets=(SECRET,),
            thresholds=("0.5", "0.8", "1"),
            cooldown_minutes=5,
        )
    }
    said = with_alerts.said
    assert "  + alerts.webhook_url: https://hooks.example/…\n" in said
    assert "  + alerts.webhook_secrets: 1 secret\n" in said
    assert "very-secret" not in said
    assert SECRET not in said
    assert run_diff(with_alerts, file, prune=True) == 0
    assert budgets_of(with_alerts.stream)["organization:acme"].monthly_budget_usd == 1000


def test_another_secret_is_a_change_that_is_not_told(with_alerts, file, capsys, monkeypatch):
    """That it is another is; the budget's version rises once."""
    monkeypatch.setenv("HOOK_SECRET", other := "whsec_" + "b3RoZXJzZWNyZXQx" * 2)
    capsys.readouterr()
    assert run_diff(with_alerts, file, prune=False) == 1
    said = capsys.readouterr().out
    assert "~ organization:acme  (version 2)\n  - alerts.webhook_secrets: 1 secret" in said
    assert "  + alerts.webhook_secrets: 1 secret (another)\n" in said
    run_apply(with_alerts, file, prune=False, dry_run=False)
    assert configs_of(with_alerts)["organization:acme"].webhook_secrets == (other,)
    assert with_alerts.stream.feed.decisions["organization:acme"].decision.version == 3


def test_a_file_that_says_nothing_of_alerts_leaves_them(with_alerts, file):
    """And null takes them away."""
    file.write_text("budgets: {organization:acme: {monthly_budget_usd: 7}}")
    run_apply(with_alerts, file, prune=False, dry_run=False)
    assert set(configs_of(with_alerts)) == {"organization:acme"}
    file.write_text("budgets: {organization:acme: {monthly_budget_usd: 7, alerts: null}}")
    assert run_diff(with_alerts, file, prune=False) == 1
    run_apply(with_alerts, file, prune=False, dry_run=False)
    assert configs_of(with_alerts) == {}
    assert run_diff(with_alerts, file, prune=False) == 0


def test_exported_alerts_name_variables_and_hold_no_secret(with_alerts, file, capsys, monkeypatch):
    """Without them the file is refused, so nothing is lost; with them nothing is to be done."""
    capsys.readouterr()
    run_export(with_alerts, [])
    text = capsys.readouterr().out
    assert "very-secret" not in text
    assert SECRET not in text
    file.write_text(text)
    with pytest.raises(ValueError, match=r"ORGANIZATION_ACME_WEBHOOK_.+ is not set"):
        run_diff(with_alerts, file, prune=False)
    monkeypatch.setenv("ORGANIZATION_ACME_WEBHOOK_URL", URL)
    monkeypatch.setenv("ORGANIZATION_ACME_WEBHOOK_SECRET_1", SECRET)
    assert run_diff(with_alerts, file, prune=True) == 0


@pytest.mark.parametrize(
    ("alerts", "said"),
    [
        ("{webhook_secrets: [whsec_very-secret]}", "names of environment variables"),
        ("{webhook_url: 'https://hooks.example/…'}", "masked"),
        ("{webhook_url: '${NOT_SET_AT_ALL}'}", "NOT_SET_AT_ALL is not set"),
        ("{webhook_url: '${HOOK_SECRET}'}", "must be an http or https URL"),
        ("{webhook_secrets: ['${HOOK_URL}']}", "webhook_secrets must be"),
        ("{thresholds: [0.9, 0.5]}", "ascending"),
        ("{colour: red}", "colour"),
        ("5", "alerts"),
    ],
)
def test_alerts_that_cannot_be_are_refused(with_alerts, file, alerts, said):
    """With the budget whose they are, and without what is secret."""
    file.write_text(f"budgets: {{organization:acme: {{alerts: {alerts}}}}}")
    with pytest.raises(ValueError, match="organization:acme") as caught:
        run_diff(with_alerts, file, prune=False)
    assert said in str(caught.value)
    assert "very-secret" not in str(caught.value)


def test_what_the_file_does_not_name_is_deleted_when_that_is_asked_for(stream, file):
    """Of its organizations only."""
    over = InMemory(stream)
    for scope in (Scope("acme", user_id="u"), Scope("b")):
        stream.budgets.put(scope, Budget())
    run_apply(over, file, prune=False, dry_run=False)
    assert len(budgets_of(stream)) == 5
    run_apply(over, file, prune=True, dry_run=False)
    assert "organization:acme/user:u" not in budgets_of(stream)
    assert "organization:b" in budgets_of(stream)


def test_a_budget_that_was_changed_meanwhile_is_left_alone(stream, file):
    """The rest is applied, and what was not is said."""
    over = InMemory(stream)
    run_apply(over, file, prune=False, dry_run=False)
    file.write_text(FILE.replace("1000.10", "2000").replace("1_000", "2_000"))
    put = stream.budgets.aput

    async def overtaken(scope, budget, **options):
        if scope == "organization:acme":
            await put(scope, Budget(monthly_budget_usd=3))
        return await put(scope, budget, **options)

    stream.budgets.aput = overtaken
    with pytest.raises(OutlayError, match=r"applied 1 of 2; organization:acme: .*version 2"):
        run_apply(over, file, prune=False, dry_run=False)
    assert budgets_of(stream)["organization:acme"].monthly_budget_usd == 3
    assert budgets_of(stream)["organization:acme/team:search"].daily_execution_limit == 2000


def test_what_is_exported_can_be_applied(stream, file, capsys, tmp_path):
    """And leaves nothing to do; only the organizations asked for are in it."""
    over = InMemory(stream)
    run_apply(over, file, prune=False, dry_run=False)
    stream.budgets.put(Scope("b"), Budget(daily_budget_usd="0.000000001"))
    capsys.readouterr()
    assert run_export(over, []) == 0
    exported = tmp_path / "exported.yaml"
    exported.write_text(capsys.readouterr().out)
    assert load(exported).budgets == budgets_of(stream)
    assert run_diff(over, exported, prune=True) == 0
    capsys.readouterr()
    run_export(over, ["b"])
    exported.write_text(capsys.readouterr().out)
    assert set(load(exported).budgets) == {"organization:b"}


def same(budgets, tmp_path_factory):
    path = tmp_path_factory.mktemp("yaml") / "budgets.yaml"
    path.write_text(dump(budgets))
    return load(path).budgets == budgets


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=9).map(lambda text: Scope(text, agent_id=text).key),
        st.builds(
            Budget,
            monthly_budget_usd=st.decimals(0, 10**8, places=9),
            daily_token_limit=st.none() | st.integers(0, 10**15),
            on_stale=st.sampled_from(["allow", "block"]),
        ),
        max_size=3,
    )
)
def test_files_say_what_budgets_say(tmp_path_factory, budgets):
    """Whatever their scopes are called."""
    assert same(budgets, tmp_path_factory)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("budgets: {organization:a: {}, organization:a: {}}", "stands there twice"),
        ("budgets:\n  organization:a: &x {}\n  organization:b: *x", "aliases"),
        ("budgets:\n  1: {}", "not a name"),
        ("budgets: {organization:a: {monthly_budget_usd: .nan}}", "line 1: not a number"),
        ("budgets: {organization:a: {monthly_budget_usd: 1e999999}}", "organization:a: "),
        ("budgets: [", "line 1"),
        ("!!python/object:os.system {}", "python"),
        ("[" * 5_000, "budgets.yaml"),
    ],
)
def test_a_file_that_cannot_be_is_refused(tmp_path, text, said):
    """With the file and the place."""
    path = tmp_path / "budgets.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"budgets\.yaml") as caught:
        load(path)
    assert said in str(caught.value)


def test_on_a_real_stream(kafka, file):
    """From the command line: applied, equal, changed by another, exported."""
    settings = {"OUTLAY_TOPIC_PREFIX": "code", "OUTLAY_APP_ID": "code"}
    with Stack(broker=kafka, owns_broker=False, api=False, settings=settings) as stack:
        stack.wait_ready()
        where = {
            "OUTLAY_KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
            "OUTLAY_TOPIC_PREFIX": "code",
        }
        applied = outlay("budgets", "apply", "-f", str(file), **where)
        assert (applied.returncode, applied.stderr) == (0, "")
        assert applied.stdout.endswith("applied 3\n")
        assert outlay("budgets", "diff", "-f", str(file), **where).returncode == 0
        exported = outlay("budgets", "export", **where)
        file.write_text(exported.stdout.replace("1000.10", "7"))
        differs = outlay("budgets", "diff", "-f", str(file), **where)
        assert differs.returncode == 1
        assert "  - monthly_budget_usd: 1000.10\n  + monthly_budget_usd: 7" in differs.stdout
        missing = outlay("budgets", "apply", "-f", "nowhere.yaml", **where)
        assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
