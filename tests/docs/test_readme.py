"""The README's code runs, and what it and the other pages list is all there is."""

import contextlib
import io
import re
from pathlib import Path
from typing import get_args

import pytest

from outlay import DecisionFeed, Scope, TopicNames
from outlay.cli.budgets_yaml import load
from outlay.stack.processes import RESTART_WINDOW_S, RESTARTS_MAX
from schemas.settings import Settings, settings_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
ADDRESS = "127.0.0.1:9092"
LINES_MAX = 10


def test_emitting_and_checking_take_ten_lines():
    """That is what a reader is promised."""
    assert len(PYTHON_BLOCKS) == 3
    for block in PYTHON_BLOCKS:
        assert len([line for line in block.splitlines() if line.strip()]) <= LINES_MAX


def run(block, bootstrap_servers):
    """Run a block against a broker; what it printed."""
    assert block.count(ADDRESS) == 1
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.replace(ADDRESS, bootstrap_servers), "README.md", "exec"), {})
    return printed.getvalue()


def test_the_readmes_code_does_what_it_says(stack):
    """A budget is set, usage reported, and the next call blocked, with the reason."""
    set_budget, emit, check = PYTHON_BLOCKS
    assert run(set_budget, stack.bootstrap_servers) == "ok\n"
    run(emit, stack.bootstrap_servers)
    scope = Scope("acme", team_id="search").key
    with DecisionFeed(stack.bootstrap_servers) as feed:
        feed.wait_ready()
        feed.wait_until(
            lambda: feed.decisions[scope].decision.state == "exceeded" or None, timeout_s=60
        )
    said = run(check, stack.bootstrap_servers)
    assert scope in said
    assert "$0.01 used" in said
    assert "monthly budget exceeded" in said


def test_the_file_of_budgets_can_be_read(tmp_path):
    """As it stands there."""
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "budgets.yaml"
    path.write_text(block)
    assert load(path).budgets["organization:acme"].monthly_budget_usd == 1000


def test_the_configuration_table_is_that_of_the_settings():
    """Rendered, not written."""
    table = README.partition("<!-- settings: python -m schemas.settings -->\n")[2]
    assert table.partition("<!-- /settings -->")[0] == settings_table()


def test_every_endpoint_is_named():
    """With its path as the API has it."""
    from api.app import create_app

    paths = create_app(Settings()).openapi()["paths"]
    named = re.findall(r"`(GET|PATCH|POST|PUT|DELETE) (/\S+)`", README)
    wanted = {
        (method.upper(), path.replace(":path", ""))
        for path, methods in paths.items()
        for method in methods
    }
    assert set(named) == wanted


def test_every_topic_is_named():
    """As it is called by default."""
    names = TopicNames()
    topics = (
        names.usage,
        names.partials,
        names.wants,
        names.budgets,
        names.decisions,
        names.audit,
        names.alerts,
        names.alert_configs,
        names.alert_state,
        names.alert_deliveries,
        names.alerts_dead,
        names.rejected,
    )
    section = README.partition("## Topics")[2].partition("## ")[0]
    for topic in topics:
        assert f"| `{topic}`" in section


def test_the_exit_codes_are_those_of_the_code():
    """The one of a fenced worker, and how often `outlay up` starts a process again."""
    from streams.worker import EXIT_FENCED

    assert f"\n| {EXIT_FENCED} | `outlay worker` |" in README
    assert (RESTARTS_MAX, RESTART_WINDOW_S) == (5, 120)
    assert "five times within two minutes at most" in README


def test_every_metric_is_explained():
    """Those of the workers, the history, the alerts and the API; and no others."""
    from prometheus_client import REGISTRY

    import streams.metrics  # noqa: F401 - it registers the workers' metrics
    from api.metrics import ApiMetrics
    from streams.alerting.metrics import AlertMetrics
    from streams.history_metrics import HistoryMetrics, Lane

    measured = {"outlay_stream_position"}  # collected only while a worker runs
    histories = [HistoryMetrics(of=lane).registry for lane in get_args(Lane)]
    for registry in (REGISTRY, *histories, ApiMetrics().registry, AlertMetrics().registry):
        for metric in registry.collect():
            if metric.name.startswith("outlay_"):
                suffix = "_total" if metric.type == "counter" else ""
                measured.add(metric.name + suffix)
    explained = re.findall(r"^\| `(outlay_\w+)` \|", OPERATIONS, re.MULTILINE)
    assert set(explained) == measured


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_lead_somewhere(page):
    """Those to other files of the project."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_decision_is_listed():
    """In the order of their numbers."""
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("0*.md"))
