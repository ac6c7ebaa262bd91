"""The SQL of each query, without a server."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from outlay.budget import Amounts
from outlay.scope import Scope
from outlay.window import Window
from streams.clickhouse_queries import (
    REPORT_ROWS_MAX,
    HistoryTotal,
    ScopeUsage,
    SpendReport,
    SpendRow,
    WholeHistory,
)

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)


def test_spend_by_day_and_team():
    """The range is half-open, ids go in as parameters, and teams are per organization."""
    report = SpendReport(START, END, "day", "team", "acme")
    assert report.to_sql() == (
        """SELECT
    toYYYYMMDD(occurred_at) AS window,
    {organization_id:String} AS organization,
    team_id AS grouped,
    reinterpret(sum(cost_usd), 'Int128') AS cost_nano,
    sum(toInt128(executions)) AS executions,
    sum(toInt128(input_tokens)) AS input_tokens,
    sum(toInt128(output_tokens)) AS output_tokens,
    count() AS records
FROM usage
WHERE occurred_at >= {start:DateTime64(6, 'UTC')} AND occurred_at < {end:DateTime64(6, 'UTC')}
  AND organization_id = {organization_id:String}
GROUP BY window, organization, grouped
ORDER BY window, organization, grouped
"""
        f"LIMIT {REPORT_ROWS_MAX + 1}"
    )
    assert report.parameters() == {
        "start": "2026-11-01 00:00:00.000000",
        "end": "2026-12-01 00:00:00.000000",
        "organization_id": "acme",
    }
    row = report.row([20261105, "acme", "", 5, 1, 2, 3, 4])
    assert row == SpendRow("2026-11-05", "acme", None, Amounts(5, 1, 2, 3), 4)


@pytest.mark.parametrize(
    ("start", "end", "interval", "window"),
    [
        (START, END, "month", "toUInt32(202611)"),
        (START, END + timedelta(microseconds=1), "month", "toYYYYMM(occurred_at)"),
        (START - timedelta(microseconds=1), END, "month", "toYYYYMM(occurred_at)"),
        (START, START + timedelta(days=1), "day", "toUInt32(20261101)"),
        (START, START + timedelta(days=1, microseconds=1), "day", "toYYYYMMDD(occurred_at)"),
        (
            datetime(2026, 11, 30, 23, tzinfo=timezone(timedelta(hours=-1))),
            datetime(2026, 12, 31, tzinfo=UTC),
            "month",
            "toUInt32(202612)",
        ),
    ],
)
def test_a_range_within_one_window_names_it(start, end, interval, window):
    """In UTC; a constant costs nothing to group by."""
    assert f"\n    {window} AS window," in SpendReport(start, end, interval).to_sql()


def test_spend_by_month_and_model_sums_over_organizations():
    """A model means the same everywhere."""
    sql = SpendReport(START, END + timedelta(microseconds=1), "month", "model").to_sql()
    assert "toYYYYMM(occurred_at) AS window" in sql
    assert "'' AS organization" in sql
    assert "organization_id" not in sql
    row = SpendReport(START, END, "month", "model").row([202611, "", "gpt", 5, 1, 2, 3, 4])
    assert row == SpendRow("2026-11", None, "gpt", Amounts(5, 1, 2, 3), 4)


def test_times_of_other_zones_are_asked_for_in_utc():
    """Windows are UTC's."""
    zone = timezone(timedelta(hours=2))
    report = SpendReport(START.astimezone(zone), END.astimezone(zone))
    assert report.parameters()["start"] == "2026-11-01 00:00:00.000000"


@pytest.mark.parametrize(
    ("start", "end", "problem"),
    [
        (END, START, "from must be before to"),
        (START, START, "from must be before to"),
        (START.replace(tzinfo=None), END, "needs a zone"),
        (START.replace(year=1899), END, "1900 to 2299"),
    ],
)
def test_a_range_that_cannot_be_is_refused(start, end, problem):
    """Said before ClickHouse is asked."""
    with pytest.raises(ValueError, match=problem):
        SpendReport(start, end)


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        (Scope("o"), ["organization_id"]),
        (Scope("o", team_id="t"), ["organization_id", "team_id"]),
        (Scope("o", user_id="u"), ["organization_id", "user_id"]),
        (Scope("o", team_id="t", user_id="u"), ["organization_id", "team_id", "user_id"]),
        (Scope("o", agent_id="a"), ["organization_id", "agent_id"]),
    ],
)
def test_usage_of_a_scope_asks_for_its_ids(scope, names):
    """All five kinds of scopes."""
    query = ScopeUsage(scope, Window("2026-11"))
    assert [name for name in query.parameters() if name.endswith("_id")] == names
    for name in names:
        assert f"AND {name} = {{{name}:String}}" in query.to_sql()
    assert query.parameters()["end"] == "2026-12-01 00:00:00.000000"


def test_the_whole_history():
    """Rows, distinct ids, late ones and amounts."""
    assert "WHERE" not in WholeHistory().to_sql()
    assert WholeHistory("acme").parameters() == {"organization_id": "acme"}
    row = WholeHistory().row([1, 2, 3, 4, 5, 6, 7])
    assert row == HistoryTotal(5, 6, 7, Amounts(1, 2, 3, 4))
