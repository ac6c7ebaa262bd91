"""Reports over HTTP: amounts as decimal strings, ranges half-open and in UTC."""

from datetime import UTC, datetime

import pytest

from outlay.budget import Amounts
from streams.clickhouse_errors import HistoryAway
from streams.clickhouse_queries import REPORT_ROWS_MAX, SpendReport, SpendRow

URL = "/api/v1/reports/spend"
NOVEMBER = {"from": "2026-11-01", "to": "2026-12-01"}


def test_spend(api):
    """Rows, and their total, exact."""
    api.history.rows = [
        SpendRow("2026-11-05", "acme", "search", Amounts(1, 2, 3, 4), 2),
        SpendRow("2026-11-06", "acme", None, Amounts(10**20, 1, 0, 0), 1),
    ]
    params = NOVEMBER | {"interval": "day", "group_by": "team", "organization_id": "acme"}
    body = api.client.get(URL, params=params).json()
    assert body == {
        "from": "2026-11-01T00:00:00Z",
        "to": "2026-12-01T00:00:00Z",
        "interval": "day",
        "group_by": "team",
        "organization_id": "acme",
        "rows": [
            {
                "window": "2026-11-05",
                "organization_id": "acme",
                "group": "search",
                "cost_usd": "0.000000001",
                "executions": 2,
                "input_tokens": 3,
                "output_tokens": 4,
                "records": 2,
            },
            {
                "window": "2026-11-06",
                "organization_id": "acme",
                "group": None,
                "cost_usd": "100000000000.00",
                "executions": 1,
                "input_tokens": 0,
                "output_tokens": 0,
                "records": 1,
            },
        ],
        "total": {
            "cost_usd": "100000000000.000000001",
            "executions": 3,
            "input_tokens": 3,
            "output_tokens": 4,
            "records": 3,
        },
    }


def test_times_of_any_zone(api):
    """They are one instant, and answered in UTC."""
    params = {"from": "2026-11-01T02:00:00+02:00", "to": "2026-11-01T01:30:00Z"}
    body = api.client.get(URL, params=params).json()
    assert (body["from"], body["to"]) == ("2026-11-01T00:00:00Z", "2026-11-01T01:30:00Z")
    start, end = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, 1, 30, tzinfo=UTC)
    assert api.history.asked == [SpendReport(start, end)]


@pytest.mark.parametrize(
    ("changed", "location"),
    [
        ({"from": None}, "query.from"),
        ({"to": "soon"}, "query.to"),
        ({"to": "2026-11-31"}, "query.to"),
        ({"to": "2026-11-30T00:00:00"}, "query.to"),
        ({"from": "2026-12-01"}, "query.from"),
        ({"from": "0001-01-01"}, "query.from"),
        ({"interval": "week"}, "query.interval"),
        ({"group_by": "cost_usd; DROP TABLE usage"}, "query.group_by"),
        ({"organization_id": ""}, "query.organization_id"),
    ],
)
def test_parameters_that_cannot_be_are_refused(api, assert_problem, changed, location):
    """Naming the part, before ClickHouse is asked."""
    params = {name: value for name, value in (NOVEMBER | changed).items() if value is not None}
    problem = assert_problem(api.client.get(URL, params=params), 422, "invalid-request")
    assert [error["location"] for error in problem["errors"]] == [location]
    assert api.history.asked == []


def test_a_report_has_a_bound(api, assert_problem):
    """It is said, and nothing is left out in silence."""
    row = SpendRow("2026-11-05", "acme", "t", Amounts(), 0)
    api.history.rows = [row] * (REPORT_ROWS_MAX + 1)
    assert_problem(api.client.get(URL, params=NOVEMBER), 422, "report-too-large")


def test_clickhouse_away(api, assert_problem):
    """503, and a client may try again."""
    api.history.problem = HistoryAway("gone")
    assert_problem(api.client.get(URL, params=NOVEMBER), 503, "history-unavailable")
