"""Checks over HTTP: the gateway's answers, statuses and headers."""

from decimal import Decimal

import pytest

from outlay import Budget, Scope
from outlay.scope import ID_LENGTH_MAX
from tests.api.live_api import key_of, live_api

ACME = Scope("acme")
A1 = Scope("acme", agent_id="a1")
CHECK = "/api/v1/check"
OF_A1 = "/api/v1/external-agents/a1/check?organization_id=acme"
TO_MIDNIGHT_S = 12 * 3_600
TO_DECEMBER_S = 9 * 86_400 + TO_MIDNIGHT_S


def test_a_call_that_fits(live):
    """All fields of a check, amounts as strings, and when the windows are over."""
    live.stream.budgets.put(A1, Budget(monthly_budget_usd=Decimal(10)))
    live.spend("2.5")
    response = live.ask(agent_id="a1", estimated_cost_usd="0.05")
    assert response.status_code == 200
    assert response.json() == {
        "allowed": True,
        "state": "ok",
        "degraded": False,
        "reason": "",
        "scope": "",
        "remaining_usd": "7.50",
        "stale": False,
        "resets_at": {"day": "2026-11-22T00:00:00Z", "month": "2026-12-01T00:00:00Z"},
        "retry_after_s": None,
    }
    assert "retry-after" not in response.headers


def test_a_block_is_answered_with_200(live):
    """The question was answered: it says no, and when to come back."""
    live.stream.budgets.put(A1, Budget(daily_budget_usd=Decimal(1)))
    live.spend("0.99")
    response = live.ask(agent_id="a1", estimated_cost_usd="0.011")
    body = response.json()
    assert (response.status_code, body["allowed"], body["state"]) == (200, False, "degraded")
    assert body["scope"] == A1.key
    assert "daily budget exceeded: $0.99 used + $0.01 asked > $1.00 limit" in body["reason"]
    assert body["remaining_usd"] == "0.01"
    assert body["retry_after_s"] == TO_MIDNIGHT_S
    assert response.headers["retry-after"] == str(TO_MIDNIGHT_S)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"estimated_cost_usd": 0},
        {"estimated_cost_usd": "0.30"},
        {"estimated_cost_usd": "0.300000001"},
        {"executions": 0, "estimated_cost_usd": 0.1},
        {"estimated_input_tokens": 60, "estimated_output_tokens": 50, "team_id": "search"},
        {"user_id": "u7", "team_id": "search", "agent_id": None},
    ],
)
def test_the_answer_is_the_gateways(live, asked):
    """`POST /check` says what `BudgetGateway.check` says, for each kind of call."""
    put = live.stream.budgets.put
    put(A1, Budget(monthly_budget_usd=Decimal("0.5")))
    put(ACME, Budget(daily_execution_limit=1, enforcement_mode="soft"))
    put(Scope("acme", team_id="search"), Budget(daily_token_limit=100))
    live.spend("0.20", team_id="search", user_id="u7", input_tokens=5)
    call = {"agent_id": "a1"} | asked
    body = live.ask(**call).json()
    wanted = live.stream.gateway.check(organization_id="acme", **call)
    left = None if wanted.remaining_usd is None else f"{wanted.remaining_usd:f}"
    assert (body["allowed"], body["state"], body["degraded"]) == (
        wanted.allowed,
        wanted.state,
        wanted.degraded,
    )
    assert (body["reason"], body["scope"]) == (wanted.reason, wanted.scope)
    assert (body["remaining_usd"], body["stale"]) == (left, wanted.stale)


def test_no_budget_allows(live):
    """And says nothing of limits."""
    response = live.ask(agent_id="nobody")
    assert (response.json()["allowed"], response.json()["remaining_usd"]) == (True, None)
    assert not {"ratelimit", "ratelimit-policy"} & set(response.headers)


def test_an_agents_check_says_it_with_the_status(live, assert_problem):
    """200 or 402, and a problem with the window, what remains and what was asked."""
    live.stream.budgets.put(A1, Budget(monthly_budget_usd=Decimal(10), daily_execution_limit=1))
    assert live.client.post(OF_A1, json={"estimated_cost_usd": 10}).status_code == 200
    live.spend("9.5")
    response = live.client.post(OF_A1, json={"estimated_cost_usd": "0.6", "executions": 0})
    problem = assert_problem(response, 402, "budget-exceeded")
    told = {name: problem[name] for name in ("window", "limit_kind", "limit", "remaining", "asked")}
    assert told == {
        "window": "2026-11",
        "limit_kind": "cost",
        "limit": "10.00",
        "remaining": "0.50",
        "asked": "0.60",
    }
    assert (problem["allowed"], problem["scope"], problem["state"]) == (False, A1.key, "exceeded")
    assert problem["detail"] == problem["reason"]
    assert response.headers["retry-after"] == str(TO_DECEMBER_S)
    assert '"month-cost";r=500000' in response.headers["ratelimit"]


def test_an_agents_check_needs_no_body(live, assert_problem):
    """A call of unknown cost is one execution; what it asks of the USD is not known."""
    assert live.client.post(OF_A1).status_code == 200
    live.stream.budgets.put(A1, Budget(daily_budget_usd=0))
    problem = assert_problem(live.client.post(OF_A1), 402, "budget-exceeded")
    assert (problem["remaining"], problem["asked"]) == ("0.00", None)


@pytest.mark.parametrize(
    ("body", "location"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        (b"{}", "body.organization_id"),
        (b'{"organization_id": ""}', "body.organization_id"),
        (b'{"organization_id": 7}', "body.organization_id"),
        (b'{"organization_id": "acme", "agent": "a1"}', "body.agent"),
        (b'{"organization_id": "acme", "estimated_cost_usd": -1}', "body.estimated_cost_usd"),
        (b'{"organization_id": "acme", "estimated_cost_usd": true}', "body.estimated_cost_usd"),
        (b'{"organization_id": "acme", "estimated_cost_usd": 1e400}', "body.estimated_cost_usd"),
        (b'{"organization_id": "acme", "estimated_cost_usd": NaN}', "body"),
        (b'{"organization_id": "acme", "executions": 1.5}', "body.executions"),
        (b'{"organization_id": "acme", "executions": -1}', "body.executions"),
        (b'{"organization_id": "acme", "executions": 1000000000000001}', "body.executions"),
        (b'{"organization_id": "acme", "estimated_input_tokens": "1"}', "estimated_input_tokens"),
    ],
)
def test_what_cannot_be_asked(live, assert_problem, body, location):
    """422, and the part that is wrong."""
    problem = assert_problem(live.client.post(CHECK, content=body), 422, "invalid-request")
    assert problem["errors"][0]["location"].endswith(location)


def test_ids_and_bodies_have_bounds(live, assert_problem):
    """An agent's id in the path, too."""
    path = f"/api/v1/external-agents/{'x' * (ID_LENGTH_MAX + 1)}/check?organization_id=acme"
    assert_problem(live.client.post(path), 422, "invalid-request")
    assert_problem(live.client.post(CHECK, content=b" " * 70_000), 413, "body-too-large")


def test_no_feed_no_answer(assert_problem):
    """Then no budget is known, and nobody may go on as if there were none."""
    with live_api(broker_away=True) as api:
        assert_problem(api.ask(), 503, "feed-unavailable")
        assert_problem(api.client.post(OF_A1), 503, "feed-unavailable")


def test_a_silent_feed_leaves_it_to_the_budget(live, assert_problem):
    """`on_stale` allows or blocks; the second form says that it is for lack of decisions."""
    live.stream.budgets.put(A1, Budget(monthly_budget_usd=1, on_stale="block"))
    live.stream.stall()
    live.stream.clock.advance(minutes=1)
    response = live.ask(agent_id="a1")
    assert (response.json()["allowed"], response.json()["stale"]) == (False, True)
    assert response.headers["outlay-stale"] == "true"
    problem = assert_problem(live.client.post(OF_A1), 503, "feed-unavailable")
    assert "blocks while there are none" in problem["detail"]
    assert live.ask(agent_id="a2").json()["allowed"] is True


def test_keys_ask_for_their_organization_alone(assert_problem):
    """Another's is not found; an emitter may ask; the agent's form needs no organization then."""
    with live_api(key_of("acme", "emitter")) as api:
        api.stream.budgets.put(Scope("other"), Budget(daily_execution_limit=0))
        assert api.ask().status_code == 200
        assert_problem(api.ask(organization_id="other"), 404, "not-found")
        foreign = api.client.post(OF_A1.replace("acme", "other"))
        assert_problem(foreign, 404, "not-found")
        assert api.client.post(OF_A1.partition("?")[0]).status_code == 200
    with live_api(key_of("acme", "operator")) as api:
        assert api.ask().status_code == 200
