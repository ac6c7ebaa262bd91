"""How many windows a flush looks at, and what waits for that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from outlay.alert import Alert
from outlay.detection import DEFAULT_DETECTION, Detection
from schemas.messages import AlertDefaults
from streams import flush, looks, messages
from streams.totals_state import TotalsState
from tests.streams.alert_rig import ORGANIZATION, TOPICS, Rig
from tests.streams.simulated_broker import Record

START = datetime(2026, 2, 26, 21, 0, tzinfo=UTC)
SCOPES = [f"{ORGANIZATION}/agent:a{number}" for number in range(25)]
MAX = 10


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A partition of more budgets than one flush looks at, all looked at once."""
    monkeypatch.setattr(looks, "LOOKS_PER_FLUSH_MAX", MAX)
    rig = Rig(START)
    rig.ask("put", ORGANIZATION)
    for scope in SCOPES:
        rig.ask("put", scope, daily_execution_limit=10)
    flushes(rig, 8)
    return rig


def flushes(rig: Rig, count: int) -> list[list[Alert]]:
    return [rig.flush() for _ in range(count)]


def scopes_of(told: list[list[Alert]]) -> list[str]:
    return sorted(alert.scope for each in told for alert in each)


def test_a_flush_looks_at_a_bounded_number_and_the_rest_is_not_committed(rig: Rig) -> None:
    """A late batch for all budgets, of a window that no new owner looks at by itself."""
    before = rig.committed[TOPICS.partials]
    for scope in SCOPES:
        rig.use({"2026-02-24": (0, 5)}, scope)
    first = rig.flush()
    assert len(first) == MAX
    assert rig.committed[TOPICS.partials] == before
    rig.restart()
    rest = flushes(rig, 3)
    assert max(map(len, rest)) <= MAX
    assert scopes_of([first, *rest]) == sorted(SCOPES)
    assert rig.committed[TOPICS.partials] == len(rig.logs[TOPICS.partials])


def test_what_moves_does_not_wait_for_what_is_looked_at_anew(rig: Rig) -> None:
    """After a take-over, or when a day begins; and its offset is committed meanwhile."""
    rig.now += timedelta(hours=3)
    rig.use({"2026-02-27": (0, 5)}, SCOPES[-1])
    assert scopes_of([rig.flush()]) == [SCOPES[-1]]
    assert rig.committed[TOPICS.partials] == len(rig.logs[TOPICS.partials])
    assert not scopes_of(flushes(rig, 8))


def test_an_organizations_new_configuration_is_heeded_in_slices_and_outlives_a_crash(
    rig: Rig,
) -> None:
    """It is committed when it was read; a new owner looks at all budgets by itself."""
    for scope in SCOPES:
        rig.use({"2026-02-26": (0, 3)}, scope)
    assert not scopes_of(flushes(rig, 4))
    rig.ask("put_alerts", ORGANIZATION, thresholds=["0.3"], include_forecast=False)
    assert not rig.flush()
    first = rig.flush()
    assert 0 < len(first) <= MAX
    assert rig.committed[TOPICS.partials] == len(rig.logs[TOPICS.partials])
    rig.restart()
    rest = flushes(rig, 8)
    assert max(map(len, rest)) <= MAX
    assert scopes_of([first, *rest]) == sorted(SCOPES)


def test_what_moves_again_and_again_holds_up_nobody(rig: Rig) -> None:
    """Those that wait the longest are looked at first."""
    told = []
    for used in (5, 8, 9):  # each time there is something to be told of each
        for scope in SCOPES:
            rig.use({"2026-02-26": (0, used)}, scope)
        told.append(rig.flush())
    assert set(scopes_of(told)) == {*SCOPES}


def test_what_is_told_again_at_a_take_over_is_cut_into_transactions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As all else: one of a hundred thousand configurations would take longer than it may."""
    rig = Rig(START)
    for scope in SCOPES:
        rig.ask("put", scope)
        rig.ask("put_alerts", scope)
    rig.flush()
    rig.restart()
    monkeypatch.setattr(flush, "TRANSACTION_MESSAGES_MAX", MAX)
    monkeypatch.setattr(flush, "UNIT_MESSAGES_MAX", MAX)
    rig.apply()
    plan = rig.state.flush(int(START.timestamp() * 1000))
    assert plan is not None
    configs = [
        len(each.messages)
        for transaction in plan.transactions
        for each in transaction.outputs
        if each.topic == TOPICS.alert_configs
    ]
    assert configs == [10, 10, 5]
    assert max(transaction.size for transaction in plan.transactions) <= MAX


@pytest.mark.parametrize("thresholds", ['["NaN"]', '["1","0.5"]', "[0]"])
def test_defaults_that_cannot_be_are_a_dead_letter(thresholds: str) -> None:
    """They would stop every worker that looks, again after each start."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=1)
    rig.use({"2026-02-26": (0, 1)})
    detection = (
        f'{{"thresholds":{thresholds},"alert_once_per_threshold":true,'
        '"include_forecast":true,"cooldown_minutes":15}'
    )
    rig.logs[TOPICS.partials].append(
        b'{"partition":0,"floor_day":0,"progress":null,"entries":{},"alert_defaults":'
        b'{"organization:acme":{"version":1,"day":1,"detection":' + detection.encode() + b"}}}"
    )
    assert len(flushes(rig, 2)[0]) == 4
    assert [m.topic for m in rig.published].count(TOPICS.rejected) == 1


def test_what_an_organization_told_is_forgotten_a_day_before_its_version_is() -> None:
    """Forty days after its budget was deleted, a new one has version 1, and is heeded."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=10)
    for action in ("put", "put_alerts", "put_alerts", "delete"):
        rig.ask(action, ORGANIZATION)
    flushes(rig, 2)
    defaults, budget = f"{ORGANIZATION} defaults", ORGANIZATION.encode()
    rig.now += timedelta(days=39)
    rig.use({})
    rig.flush()
    assert defaults in rig.kept()
    rig.now += timedelta(days=1)
    rig.use({})
    rig.flush()
    assert defaults not in rig.kept()
    assert budget in rig.tables["B"]
    rig.now += timedelta(days=1)
    rig.use({})
    rig.flush()
    assert budget not in rig.tables["B"]
    rig.restart()
    rig.ask("put", ORGANIZATION)
    rig.ask("put_alerts", ORGANIZATION, thresholds=["0.3"], include_forecast=False)
    rig.use({"2026-04-08": (0, 3)})
    told = [alert for each in flushes(rig, 3) for alert in each]
    assert [str(alert.threshold) for alert in told] == ["0.3"]


def test_what_is_known_already_is_not_kept_again(rig: Rig) -> None:
    """Each take-over tells all partitions all defaults once more."""
    rig.ask("put_alerts", ORGANIZATION)
    flushes(rig, 2)
    defaults = f"{ORGANIZATION} defaults"
    assert defaults in rig.kept()
    del rig.tables["A"][defaults.encode()]  # whatever is written from now on
    rig.flush()
    rig.logs[TOPICS.partials].append(rig.logs[TOPICS.partials][-1])
    flushes(rig, 2)
    assert defaults not in rig.kept()


def test_what_was_told_of_a_budget_that_is_gone_is_taken_away_at_a_take_over() -> None:
    """A version without alerts may have deleted it meanwhile."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=1)
    rig.use({"2026-02-26": (0, 1)})
    rig.flush()
    rig.tables["A"][f"{SCOPES[0]} 2026-02-26".encode()] = b'{"made":1}'
    rig.restart()
    rig.flush()
    assert [key.partition(" ")[0] for key in rig.kept()] == [f"{ORGANIZATION}/team:t"]


def test_fields_of_a_newer_version_do_not_stop_a_worker() -> None:
    """What it does not know of a message it leaves alone."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=1)
    rig.logs[TOPICS.partials].append(
        messages.encode({"partition": 0, "floor_day": 0, "progress": 1, "entries": {}, "new": 1})
    )
    rig.logs[TOPICS.budgets].append(
        messages.encode({"request_id": "n", "scope": SCOPES[0], "action": "newer"})
    )
    rig.use({"2026-02-26": (0, 1)})
    assert len(rig.flush()) == 4
    assert isinstance(rig.state, TotalsState)
    assert [m.topic for m in rig.published].count(TOPICS.rejected) == 1


def test_a_refusal_tells_no_secret_that_stands_in_the_wrong_place() -> None:
    """Its reason goes to the outcome and the audit."""
    rig = Rig(START)
    rig.ask("put")
    for changes in ({"webhook_format": "whsec_a+b/c="}, {"email_recipients": ["whsec_a+b/c="]}):
        rig.ask("put_alerts", **changes)
    rig.flush()
    assert len([m for m in rig.published if m.topic == TOPICS.audit]) == 3
    assert not [m for m in rig.published if b"a+b/c" in (m.value or b"")]


def test_a_tombstone_of_the_changelog_takes_away_what_was_told_before() -> None:
    """What was deleted does not come back with the next owner, compacted or not."""
    rig = Rig(START)
    detection = Detection((Decimal("0.3"),), True, False, 15)
    rows = {
        f"{SCOPES[0]} 2026-02-26".encode(): b'{"made":1}',
        f"{ORGANIZATION} defaults".encode(): messages.encode(AlertDefaults(1, 1, detection)),
    }
    for offset, (key, value) in enumerate(rows.items()):
        rig.state.load("A", [Record(offset, key, value, 0)])
    crossings = rig.state.crossings
    assert crossings.seen["2026-02-26"].keys() == {SCOPES[0]}
    assert crossings.defaults.detection(SCOPES[0]) == detection
    rig.state.load("A", [Record(9, key, None, 0) for key in rows])
    assert not crossings.seen["2026-02-26"]
    assert crossings.defaults.detection(SCOPES[0]) == DEFAULT_DETECTION


def test_no_configuration_is_told_before_all_is_read_that_was_there() -> None:
    """After a take-over, as no decision and no alert is."""
    rig = Rig(START)
    rig.ask("put", ORGANIZATION)
    rig.ask("put_alerts", ORGANIZATION)
    flushes(rig, 2)
    rig.use({})
    rig.restart()
    now_ms = int(START.timestamp() * 1000)
    assert rig.state.holds
    assert rig.state.flush(now_ms) is None
    rig.apply()
    plan = rig.state.flush(now_ms)
    assert plan is not None
    assert TOPICS.alert_configs in {out.topic for t in plan.transactions for out in t.outputs}


def test_a_flush_that_is_cut_writes_what_was_told_behind_all_that_it_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crash between its transactions tells again, and loses nothing."""
    rig = Rig(START)
    for scope in SCOPES:
        rig.ask("put", scope, daily_execution_limit=1)
        rig.use({"2026-02-26": (0, 1)}, scope)
    monkeypatch.setattr(flush, "TRANSACTION_MESSAGES_MAX", MAX)
    monkeypatch.setattr(flush, "UNIT_MESSAGES_MAX", MAX)
    rig.apply()
    plan = rig.state.flush(int(START.timestamp() * 1000))
    assert plan is not None
    telling = [n for n, each in enumerate(plan.transactions) if each.outputs]
    keeping = [n for n, each in enumerate(plan.transactions) if each.changelog]
    assert max(telling) <= min(keeping)
