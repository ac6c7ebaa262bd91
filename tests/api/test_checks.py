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


@pytest.fixture
def api():
    """The app over an in-memory stream, at noon of 2026-11-21."""
    with live_api() as made:
        yield made


def spend(api, cost_usd, **fields):
    """Usage of a1, decided on at once."""
    fields = {"organization_id": "acme", "agent_id": "a1", "cost_usd": cost_usd} | fields
    assert api.stream.emitter.emit(**fields)


def ask(api, **fields):
    """The answer to a check of acme."""
    return api.client.post(CHECK, json={"organization_id": "acme"} | fields)


def test_a_call_that_fits(api):
    """All fields of a check, amounts as strings, and when the windows are over."""
    api.stream.budgets.put(A1, Budget(monthly_budget_usd=Decimal(10)))
    spend(api, "2.5")
    response = ask(api, agent_id="a1", estimated_cost_usd="0.05")
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


def test_a_block_is_answered_with_200(api):
    """The question was answered: it says no, and when to come back."""
    api.stream.budgets.put(A1, Budget(daily_budget_usd=Decimal(1)))
    spend(api, "0.99")
    response = ask(api, agent_id="a1", estimated_cost_usd="0.011")
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
def test_the_answer_is_the_gateways(api, asked):
    """`POST /check` says what `BudgetGateway.check` says, for each kind of call."""
    put = api.stream.budgets.put
    put(A1, Budget(monthly_budget_usd=Decimal("0.5")))
    put(ACME, Budget(daily_execution_limit=1, enforcement_mode="soft"))
    put(Scope("acme", team_id="search"), Budget(daily_token_limit=100))
    spend(api, "0.20", team_id="search", user_id="u7", input_tokens=5)
    call = {"agent_id": "a1"} | asked
    body = ask(api, **call).json()
    wanted = api.stream.gateway.check(organization_id="acme", **call)
    left = None if wanted.remaining_usd is None else f"{wanted.remaining_usd:f}"
    assert (body["allowed"], body["state"], body["degraded"]) == (
        wanted.allowed,
        wanted.state,
        wanted.degraded,
    )
    assert (body["reason"], body["scope"]) == (wanted.reason, wanted.scope)
    assert (body["remaining_usd"], body["stale"]) == (left, wanted.stale)


def test_no_budget_allows(api):
    """And says nothing of limits."""
    response = ask(api, agent_id="nobody")
    assert (response.json()["allowed"], response.json()["remaining_usd"]) == (True, None)
    assert not {"ratelimit", "ratelimit-policy"} & set(response.headers)


def test_an_agents_check_says_it_with_the_status(api, assert_problem):
    """200 or 402, and a problem with the window, what remains and what was asked."""
    api.stream.budgets.put(A1, Budget(monthly_budget_usd=Decimal(10), daily_execution_limit=1))
    assert api.client.post(OF_A1, json={"estimated_cost_usd": 10}).status_code == 200
    spend(api, "9.5")
    response = api.client.post(OF_A1, json={"estimated_cost_usd": "0.6", "executions": 0})
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


def test_an_agents_check_needs_no_body(api, assert_problem):
    """A call of unknown cost is one execution; what it asks of the USD is not known."""
    assert api.client.post(OF_A1).status_code == 200
    api.stream.budgets.put(A1, Budget(daily_budget_usd=0))
    problem = assert_problem(api.client.post(OF_A1), 402, "budget-exceeded")
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
def test_what_cannot_be_asked(api, assert_problem, body, location):
    """422, and the part that is wrong."""
    problem = assert_problem(api.client.post(CHECK, content=body), 422, "invalid-request")
    assert problem["errors"][0]["location"].endswith(location)


def test_ids_and_bodies_have_bounds(api, assert_problem):
    """An agent's id in the path, too."""
    path = f"/api/v1/external-agents/{'x' * (ID_LENGTH_MAX + 1)}/check?organization_id=acme"
    assert_problem(api.client.post(path), 422, "invalid-request")
    assert_problem(api.client.post(CHECK, content=b" " * 70_000), 413, "body-too-large")


def test_no_feed_no_answer(assert_problem):
    """Then no budget is known, and nobody may go on as if there were none."""
    with live_api(broker_away=True) as api:
        assert_problem(ask(api), 503, "feed-unavailable")
        assert_problem(api.client.post(OF_A1), 503, "feed-unavailable")


def test_a_silent_feed_leaves_it_to_the_budget(api, assert_problem):
    """`on_stale` allows or blocks; the second form says that it is for lack of decisions."""
    api.stream.budgets.put(A1, Budget(monthly_budget_usd=1, on_stale="block"))
    api.stream.stall()
    api.stream.clock.advance(minutes=1)
    response = ask(api, agent_id="a1")
    assert (response.json()["allowed"], response.json()["stale"]) == (False, True)
    assert response.headers["outlay-stale"] == "true"
    problem = assert_problem(api.client.post(OF_A1), 503, "feed-unavailable")
    assert "blocks while there are none" in problem["detail"]
    assert ask(api, agent_id="a2").json()["allowed"] is True


def test_keys_ask_for_their_organization_alone(assert_problem):
    """Another's is not found; an emitter may ask; the agent's form needs no organization then."""
    with live_api(key_of("acme", "emitter")) as api:
        api.stream.budgets.put(Scope("other"), Budget(daily_execution_limit=0))
        assert ask(api).status_code == 200
        assert_problem(ask(api, organization_id="other"), 404, "not-found")
        foreign = api.client.post(OF_A1.replace("acme", "other"))
        assert_problem(foreign, 404, "not-found")
        assert api.client.post(OF_A1.partition("?")[0]).status_code == 200
    with live_api(key_of("acme", "operator")) as api:
        assert ask(api).status_code == 200
