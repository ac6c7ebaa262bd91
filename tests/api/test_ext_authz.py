"""Envoy's external authorization over HTTP: what it asks, and what it is answered."""

import asyncio
from decimal import Decimal

import pytest

from outlay import Budget, Scope
from tests.api.live_api import EventClient, key_of, live_api

A1 = Scope("acme", agent_id="a1")
PATH = "/api/v1/ext_authz"
WHO = {"x-outlay-organization": "acme", "x-outlay-agent": "a1"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")


@pytest.fixture
def api():
    """The app over an in-memory stream; a1 has 0.25 USD left of 1."""
    with live_api() as made:
        made.stream.budgets.put(A1, Budget(monthly_budget_usd=Decimal(1)))
        made.stream.emitter.emit(organization_id="acme", agent_id="a1", cost_usd="0.75")
        yield made


def ask(api, method="POST", path="/v1/chat/completions", **more):
    """The answer to Envoy; headers as it sends them, an empty body among them."""
    headers = WHO | {f"x-outlay-{name.replace('_', '-')}": each for name, each in more.items()}
    return api.client.request(method, PATH + path, headers=headers | {"content-length": "0"})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/", "/v1/chat?organization_id=theirs&x=1", "/a%2Fb//../c", "*"])
def test_any_method_and_path(api, method, path):
    """The path and its query are the client's: nothing in them is ours."""
    response = ask(api, method, path, estimated_cost_usd="0.25")
    assert (response.status_code, response.content) == (200, b"")
    response = ask(api, method, path, estimated_cost_usd="0.251")
    assert response.status_code == 402


def test_an_answer_says_how_the_budget_stands(api):
    """For Envoy to pass on, upstream or to the client."""
    headers = ask(api, estimated_cost_usd="0.10").headers
    told = {name: each for name, each in headers.items() if name.startswith("x-outlay-")}
    assert told == {
        "x-outlay-state": "warning",
        "x-outlay-degraded": "false",
        "x-outlay-stale": "false",
        "x-outlay-remaining-usd": "0.25",
    }
    assert headers["ratelimit"].startswith('"month-cost";r=250000;t=')
    assert "retry-after" not in headers


def test_a_blocked_request_is_a_problem(api):
    """With the window and the amounts, about the client's own path; and when to come back."""
    response = ask(api, path="/v1/chat?stream=1", estimated_cost_usd="0.30")
    problem = response.json()
    assert response.status_code == problem["status"] == 402
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["type"] == "urn:outlay:problem:budget-exceeded"
    assert problem["instance"] == "/v1/chat"
    told = {name: problem[name] for name in ("window", "remaining", "asked", "scope")}
    assert told == {"window": "2026-11", "remaining": "0.25", "asked": "0.30", "scope": A1.key}
    assert response.headers["retry-after"] == str(9 * 86_400 + 12 * 3_600)
    assert response.headers["x-outlay-state"] == "warning"


def test_all_that_a_check_takes_comes_in_headers(api):
    """Who and how much; ids are UTF-8."""
    team = Scope("acme", team_id="Müller & Söhne")
    api.stream.budgets.put(team, Budget(daily_token_limit=100, daily_execution_limit=2))
    named = {"team": "Müller & Söhne".encode(), "user": "u7"}
    assert ask(api, **named, estimated_input_tokens="60", executions="2").status_code == 200
    response = ask(
        api, **named, estimated_input_tokens="60", estimated_output_tokens="41", executions="2"
    )
    assert (response.status_code, response.json()["scope"]) == (402, team.key)
    response = ask(api, **named, executions="3")
    assert response.json()["limit_kind"] == "executions"


def test_an_unknown_cost_asks_for_the_least(api):
    """A budget that is used up exactly lets nothing through."""
    assert ask(api).status_code == 200
    api.stream.emitter.emit(organization_id="acme", agent_id="a1", cost_usd="0.25")
    assert ask(api).status_code == 402
    assert ask(api, estimated_cost_usd="0").status_code == 200


@pytest.mark.parametrize(
    ("headers", "location"),
    [
        ([], "header.x-outlay-organization"),
        ([("x-outlay-organization", "")], "header.x-outlay-organization"),
        ([("x-outlay-organization", "x" * 257)], "header.x-outlay-organization"),
        (
            [("x-outlay-organization", "acme"), ("X-Outlay-Organization", "other")],
            "header.x-outlay-organization",
        ),
        ([*WHO.items(), ("x-outlay-executions", "1.5")], "header.x-outlay-executions"),
        ([*WHO.items(), ("x-outlay-executions", "-1")], "header.x-outlay-executions"),
        ([*WHO.items(), ("x-outlay-executions", "9" * 5_000)], "header.x-outlay-executions"),
        (
            [*WHO.items(), ("x-outlay-estimated-cost-usd", "a lot")],
            "header.x-outlay-estimated-cost-usd",
        ),
        ([*WHO.items(), ("x-outlay-agnt", "a1")], "header.x-outlay-agnt"),
    ],
)
def test_headers_that_cannot_be(api, assert_problem, headers, location):
    """422, which Envoy answers its client with: a request is not let through by mistake."""
    response = api.client.get(PATH + "/v1/chat", headers=headers)
    problem = assert_problem(response, 422, "invalid-request")
    assert problem["errors"][0]["location"] == location


async def _status(api, *headers):
    """Of an answer to headers as they are: the test client would write them anew."""
    async with EventClient(api.app, headers=headers, path=f"{PATH}/v1/chat") as client:
        await client.ended()
        return client.status


def test_ids_are_utf_8(api):
    """Whatever else stands there is no id, and is not taken for one."""
    organization = b"x-outlay-organization"
    assert asyncio.run(_status(api, (organization, "é".encode()))) == 200
    assert asyncio.run(_status(api, (organization, b"\xe9"))) == 422


def test_no_feed_is_left_to_envoy(assert_problem):
    """503 is a failure to it, for which it has a rule of its own."""
    with live_api(broker_away=True) as api:
        assert_problem(ask(api), 503, "feed-unavailable")


def test_a_budget_that_blocks_a_silent_feed_is_an_answer(api):
    """402, so that a gateway that lets through what fails does not overrule the budget."""
    api.stream.budgets.patch(A1, {"on_stale": "block"})
    api.stream.stall()
    api.stream.clock.advance(minutes=1)
    response = ask(api)
    assert response.status_code == 402
    assert response.json()["type"] == "urn:outlay:problem:budget-stale"
    assert (response.headers["x-outlay-stale"], response.headers["retry-after"]) == ("true", "5")


def test_the_key_is_the_gateways(assert_problem):
    """A key of one organization needs no header for it, and sees no other."""
    with live_api(key_of("acme", "emitter")) as api:
        named = {"x-outlay-agent": "a1"}
        for method in ("GET", "POST"):
            answer = api.client.request(method, f"{PATH}/x?organization_id=other", headers=named)
            assert answer.status_code == 200
            foreign = {"x-outlay-organization": "other"}
            answer = api.client.request(method, f"{PATH}/x", headers=foreign)
            assert_problem(answer, 404, "not-found")


def test_metrics_name_no_path_of_a_client(api):
    """Of any method: they are made of whatever clients ask for."""
    ask(api, "GET", "/secret-path")
    ask(api, "POST", "/secret-path")
    text = api.client.get("/metrics").text
    assert "secret-path" not in text
    for method in ("GET", "POST"):
        assert f'{{method="{method}",route="{PATH}/{{original_path}}",status="200"}} 1.0' in text
