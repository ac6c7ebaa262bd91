"""An agent's budget over HTTP: names and shapes that users of the earlier systems know."""

import json
from decimal import Decimal
from urllib.parse import quote

import pytest

from outlay.budget import Amounts, Budget
from outlay.errors import BudgetRefused, BudgetRequestTimeout, FeedNotReady
from outlay.scope import Scope
from outlay.window import Window
from streams.clickhouse_errors import HistoryAway
from streams.clickhouse_queries import ScopeUsage

A1 = Scope("acme", agent_id="a1")
URL = "/api/v1/external-agents/a1"
ACME = {"organization_id": "acme"}


def _decimals(response):
    return json.loads(response.content, parse_float=Decimal)


def test_budget_of_the_month(api):
    """All names of the reference, amounts as numbers with every digit."""
    limits = Budget(monthly_budget_usd=Decimal(1000), monthly_execution_limit=100)
    month = Amounts(850_123_456_789, 80, 70, 30)
    api.feed.set(A1, limits, day=Amounts(1), month=month)
    response = api.client.get(f"{URL}/budget", params=ACME)
    assert response.status_code == 200
    assert _decimals(response) == {
        "external_agent_id": "a1",
        "organization_id": "acme",
        "period": "monthly",
        "period_start": "2026-11-01T00:00:00Z",
        "period_end": "2026-12-01T00:00:00Z",
        "cost_used": Decimal("850.123456789"),
        "cost_limit": 1000,
        "cost_remaining": Decimal("149.876543211"),
        "invocations": 80,
        "invocations_limit": 100,
        "invocations_remaining": 20,
        "tokens_used": 100,
        "tokens_limit": None,
        "tokens_remaining": None,
        "usage_percentage": Decimal("0.850123"),
        "warning_triggered": True,
        "limit_exceeded": False,
    }
    assert "outlay-stale" not in response.headers


def test_amounts_have_digits_that_a_float_would_lose(api):
    """A number is written from the decimal: 999,999,999.999999999 has more than a float holds."""
    month = Amounts(999_999_999_999_999_999)
    api.feed.set(A1, Budget(monthly_budget_usd=Decimal(1)), month=month)
    response = api.client.get(f"{URL}/budget", params=ACME)
    assert b'"cost_used":999999999.999999999,' in response.content
    assert b'"cost_remaining":-999999998.999999999,' in response.content
    assert response.json()["limit_exceeded"] is True


def test_budget_of_the_day(api):
    """Where only days are limited, the period is the day."""
    limits = Budget(daily_budget_usd=Decimal(2), daily_token_limit=50)
    api.feed.set(A1, limits, day=Amounts(10**9, 3, 20, 5), month=Amounts(10**12, 99))
    body = api.client.get(f"{URL}/budget", params=ACME).json()
    assert (body["period"], body["period_start"], body["period_end"]) == (
        "daily",
        "2026-11-21T00:00:00Z",
        "2026-11-22T00:00:00Z",
    )
    assert (body["cost_used"], body["cost_remaining"], body["invocations"]) == (1, 1, 3)
    assert (body["tokens_used"], body["tokens_remaining"]) == (25, 25)
    assert (body["usage_percentage"], body["warning_triggered"]) == (0.5, False)


def test_a_limit_of_zero_is_all_used(api):
    """No division by it."""
    api.feed.set(A1, Budget(monthly_budget_usd=Decimal(0)))
    body = api.client.get(f"{URL}/budget", params=ACME).json()
    assert (body["usage_percentage"], body["limit_exceeded"]) == (1, True)


def test_without_a_budget_usage_comes_from_the_history(api):
    """Null limits, and the sums of the window from ClickHouse."""
    api.history.used = Amounts(5 * 10**8, 2, 3, 4)
    body = api.client.get(f"{URL}/budget", params=ACME).json()
    assert (body["cost_used"], body["cost_limit"], body["cost_remaining"]) == (0.5, None, None)
    assert (body["invocations"], body["tokens_used"], body["usage_percentage"]) == (2, 7, 0)
    assert api.history.asked == [
        ScopeUsage(A1, Window("2026-11-21")),
        ScopeUsage(A1, Window("2026-11")),
    ]


def test_governance_status(api):
    """All names of the reference; what belongs to other systems is null."""
    limits = Budget(
        monthly_budget_usd=Decimal(10),
        daily_budget_usd=Decimal(5),
        monthly_execution_limit=10,
        enforcement_mode="soft",
    )
    api.feed.set(A1, limits, day=Amounts(4_600_000_000, 1), month=Amounts(5_000_000_000, 6))
    body = api.client.get(f"{URL}/governance-status", params=ACME).json()
    assert body == {
        "external_agent_id": "a1",
        "organization_id": "acme",
        "budget": {
            "monthly_budget_usd": 10,
            "monthly_spent_usd": 5,
            "remaining_monthly_usd": 5,
            "daily_budget_usd": 5,
            "daily_spent_usd": 4.6,
            "remaining_daily_usd": 0.4,
            "monthly_execution_limit": 10,
            "monthly_execution_count": 6,
            "remaining_executions": 4,
            "usage_percentage": 0.92,
            "warning_triggered": True,
            "degraded_mode": True,
        },
        "rate_limit": None,
        "policy": None,
        "timestamp": "2026-11-21T12:00:00Z",
    }


def test_patch_makes_a_budget_and_changes_it(api):
    """The first has the limits given and the defaults; the second changes what it names."""
    first = api.client.patch(
        f"{URL}/budget/config",
        params=ACME,
        content=b'{"monthly_budget_usd": 123456789.123456789, "daily_execution_limit": 7}',
    )
    assert first.status_code == 200
    assert _decimals(first) == {
        "message": "Budget configuration updated",
        "external_agent_id": "a1",
        "budget_limit_monthly": Decimal("123456789.123456789"),
        "budget_limit_daily": None,
        "current_usage": {"cost_used": 0, "invocations": 0},
    }
    body = {"monthly_budget_usd": "5", "warning_threshold": 0.5, "daily_execution_limit": None}
    second = api.client.patch(f"{URL}/budget/config", params=ACME, json=body)
    assert second.json()["budget_limit_monthly"] == 5
    known = api.feed.decisions[A1.key].decision.budget
    assert known == Budget(monthly_budget_usd=Decimal(5), warning_threshold=Decimal("0.5"))
    assert api.budgets.asked[1] == {
        "monthly_budget_usd": "5.00",
        "warning_threshold": "0.50",
        "daily_execution_limit": None,
    }


@pytest.mark.parametrize("name", ["warning_threshold", "degradation_threshold"])
def test_a_threshold_of_null_is_reset(api, name):
    """To the default, as the description says."""
    api.feed.set(A1, Budget(warning_threshold=Decimal("0.1"), degradation_threshold=Decimal(1)))
    response = api.client.patch(f"{URL}/budget/config", params=ACME, json={name: None})
    assert response.status_code == 200
    known = api.feed.decisions[A1.key].decision.budget
    assert getattr(known, name) == getattr(Budget(), name)
    assert api.budgets.asked == [{name: None}]


@pytest.mark.parametrize("value", ["0", "-1", "1.000001", "0.1234567", "1e999", '"ten"', '"NaN"'])
def test_a_bad_threshold_is_told_what_a_threshold_is(api, assert_problem, value):
    """Not that an amount of USD is wrong."""
    content = f'{{"warning_threshold": {value}}}'
    response = api.client.patch(f"{URL}/budget/config", params=ACME, content=content)
    problem = assert_problem(response, 422, "invalid-request")
    says = "a threshold must be above 0 and at most 1, with at most six decimals"
    assert problem["detail"] == f"body.warning_threshold: {says}"
    assert problem["errors"] == [{"location": "body.warning_threshold", "message": says}]


@pytest.mark.parametrize(
    ("body", "location"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b"{}", "body"),
        (b'{"monthly_budget_usd": NaN}', "body"),
        (b'{"monthly_budget_usd": -1}', "body.monthly_budget_usd"),
        (b'{"monthly_budget_usd": true}', "body.monthly_budget_usd"),
        (b'{"monthly_budget_usd": 1e9}', "body.monthly_budget_usd"),
        (b'{"monthly_budget_usd": "ten"}', "body.monthly_budget_usd"),
        (b'{"daily_execution_limit": 1.5}', "body.daily_execution_limit"),
        (b'{"daily_execution_limit": true}', "body.daily_execution_limit"),
        (b'{"warning_threshold": 0}', "body.warning_threshold"),
        (b'{"warning_threshold": 1.01}', "body.warning_threshold"),
        (b'{"warning_threshold": 0.1234567}', "body.warning_threshold"),
        (b'{"enforcement_mode": "maybe"}', "body.enforcement_mode"),
        (b'{"monthly_budget": 1}', "body.monthly_budget"),
        (b"[" * 100_000, "body"),
    ],
)
def test_a_body_that_cannot_be_is_refused(api, assert_problem, body, location):
    """Said here, naming the part, and never sent on."""
    response = api.client.patch(f"{URL}/budget/config", params=ACME, content=body[:60_000])
    problem = assert_problem(response, 422, "invalid-request")
    assert [error["location"] for error in problem["errors"]] == [location]
    assert api.budgets.asked == []


def test_a_body_over_its_bound_is_refused(api, assert_problem):
    """Before it is read to its end."""
    response = api.client.patch(f"{URL}/budget/config", params=ACME, content=b" " * 65_537)
    assert_problem(response, 413, "body-too-large")


@pytest.mark.parametrize(
    ("error", "status", "kind", "member"),
    [
        (BudgetRefused("warning above degradation", 3), 422, "budget-refused", ("version", 3)),
        (
            BudgetRequestTimeout("not seen", "r1"),
            503,
            "budget-timeout",
            ("budget_request_id", "r1"),
        ),
        (FeedNotReady("still loading"), 503, "feed-unavailable", None),
    ],
)
def test_what_becomes_of_a_change(api, assert_problem, error, status, kind, member):
    """Refused, or not known in time, or nobody there."""
    api.budgets.problem = error
    response = api.client.patch(f"{URL}/budget/config", params=ACME, json={"daily_budget_usd": 1})
    problem = assert_problem(response, status, kind)
    assert problem["detail"] == str(error)
    if member is not None:
        assert problem[member[0]] == member[1]


def test_without_the_feed_nobody_knows(api, assert_problem):
    """503, not an invented answer."""
    api.feed.ready = False
    for path in ("budget", "governance-status"):
        response = api.client.get(f"{URL}/{path}", params=ACME)
        assert_problem(response, 503, "feed-unavailable")
    assert api.history.asked == []


def test_a_stale_feed_is_said(api):
    """The last decision is still the best answer, and the header says how good it is."""
    api.feed.set(A1, Budget())
    api.feed.silent_s = 60
    response = api.client.get(f"{URL}/budget", params=ACME)
    assert (response.status_code, response.headers["outlay-stale"]) == (200, "true")


def test_without_clickhouse_an_agent_without_a_budget_has_no_answer(api, assert_problem):
    """One with a budget does not need it."""
    api.history.problem = HistoryAway("secret-host:8123 refused")
    problem = assert_problem(
        api.client.get(f"{URL}/budget", params=ACME), 503, "history-unavailable"
    )
    assert "secret-host" not in json.dumps(problem)
    api.feed.set(A1, Budget())
    assert api.client.get(f"{URL}/budget", params=ACME).status_code == 200


def test_the_organization_is_required(api, assert_problem):
    """An agent's id means nothing without it."""
    for params in ({}, {"organization_id": ""}, {"organization_id": "x" * 257}):
        problem = assert_problem(
            api.client.get(f"{URL}/budget", params=params), 422, "invalid-request"
        )
        assert problem["errors"][0]["location"] == "query.organization_id"


@pytest.mark.parametrize("agent", ["a/b", "a/budget", "ä b", "."])
def test_any_id_can_be_asked_for(api, agent):
    """Percent-encoded, as in every URL."""
    api.feed.set(Scope("acme", agent_id=agent), Budget(monthly_budget_usd=Decimal(3)))
    encoded = quote(agent, safe="").replace(".", "%2E")
    response = api.client.get(f"/api/v1/external-agents/{encoded}/budget", params=ACME)
    assert response.json()["external_agent_id"] == agent
    assert response.json()["cost_limit"] == 3


def test_an_agent_id_over_its_bound_is_refused(api, assert_problem):
    """The bound of every id."""
    url = f"/api/v1/external-agents/{'x' * 257}/budget"
    assert_problem(api.client.get(url, params=ACME), 422, "invalid-request")
