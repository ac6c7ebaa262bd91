"""The FastAPI dependency before the handler: what is let through, and what the others are told."""

import asyncio
from typing import Annotated

import pytest
from fastapi import Depends, HTTPException
from fastapi.responses import JSONResponse

from outlay import holds
from outlay.integrations import fastapi_problem
from outlay.integrations.fastapi import (
    BudgetCall,
    BudgetProblem,
    budget_responses,
    problem_response,
)
from outlay.integrations.problem import blocked_problem
from tests.integrations.serving import ACME, Serving, monthly

PROBLEM = "application/problem+json"


def serve(serving, seen=None, **options):
    """A route that says it has cost what was estimated."""
    budget = serving.require(**options)

    @serving.app.post("/invoke/{agent_id}", responses=budget_responses())
    async def invoke(agent_id: str, call: Annotated[BudgetCall, Depends(budget)]):
        if seen is not None:
            seen.append(call.result)
        call.settle(1)
        return {"agent": agent_id}


def test_a_call_without_room_is_a_problem_and_its_handler_does_not_run():
    """402, application/problem+json, with the window, what remains and what was asked."""
    with Serving(monthly("1.5")) as serving:
        serve(serving, seen := [])
        assert serving.post().status_code == 200
        answer = serving.post()
        assert answer.status_code == 402
        assert answer.headers["content-type"] == PROBLEM
        assert "retry-after" not in answer.headers
        assert answer.json() == {
            "type": "urn:outlay:problem:budget-exceeded",
            "title": "Budget exceeded",
            "status": 402,
            "detail": "organization:acme in 2026-11: monthly budget exceeded: "
            "$1.00 used + $1.00 asked > $1.50 limit",
            "instance": "/invoke/a1",
            "scope": "organization:acme",
            "state": "ok",
            "remaining_usd": "0.50",
            "window": "2026-11",
            "limit_kind": "cost",
            "limit": "1.50",
            "remaining": "0.50",
            "asked": "1.00",
        }
        assert len(seen) == len(serving.records) == 1


def test_counts_and_unknown_costs_are_told_as_they_are():
    """A limit of executions has whole numbers; a cost that is not known is null, not the least."""
    with Serving(monthly(1, daily_execution_limit=0)) as serving:
        serve(serving, estimate=None)
        body = serving.post().json()
        assert body["limit_kind"] == "executions"
        assert (body["limit"], body["remaining"], body["asked"]) == (0, 0, 1)
        serving.stream.budgets.put(ACME, monthly(0, daily_execution_limit=9))
        body = serving.post().json()
        assert (body["limit_kind"], body["limit"], body["asked"]) == ("cost", "0.00", None)


def test_of_several_limits_the_one_of_the_reason_is_told():
    """The first that has no room, as the sentence says it."""
    with Serving(monthly(0, daily_budget_usd=0, daily_execution_limit=0)) as serving:
        serve(serving)
        body = serving.post().json()
        assert f"{body['scope']} in {body['window']}: monthly budget" in body["detail"]
        assert (body["window"], body["limit_kind"]) == ("2026-11", "cost")


def test_the_status_is_a_setting():
    """429 for those who want it, in the body too."""
    with Serving(monthly(0)) as serving:
        serve(serving, status_code=429)
        answer = serving.post()
        assert answer.status_code == answer.json()["status"] == 429


def test_a_handler_of_the_users_wins():
    """One for the class, or for the status code."""

    async def ours(request, error):
        assert isinstance(error, BudgetProblem)
        return JSONResponse({"why": error.members["state"]}, 418)

    for key in (BudgetProblem, 402):
        with Serving(monthly(0)) as serving:
            serving.app.add_exception_handler(key, ours)
            serve(serving)
            answer = serving.post()
            assert (answer.status_code, answer.json()) == (418, {"why": "exceeded"})


def test_a_handler_for_all_http_errors_does_not_see_it():
    """An app that styles its errors still answers with a problem, as is promised."""
    with Serving(monthly(0)) as serving:

        @serving.app.exception_handler(HTTPException)
        async def style(request, error):
            return JSONResponse({"styled": True}, error.status_code)

        serve(serving)
        assert serving.post().headers["content-type"] == PROBLEM


def test_where_starlette_keeps_no_handlers_the_status_and_reason_are_the_same(monkeypatch):
    """Another version may keep them elsewhere: then it is FastAPI's own shape, never a 500.

    A handler that is registered by hand works there, too.
    """
    monkeypatch.setattr(fastapi_problem, "_HANDLERS", "elsewhere")
    with Serving(monthly(0)) as serving:
        serve(serving)
        answer = serving.post()
        assert answer.status_code == 402
        assert "monthly budget exceeded" in answer.json()["detail"]
    with Serving(monthly(0)) as serving:
        serving.app.add_exception_handler(BudgetProblem, problem_response)
        serve(serving)
        assert serving.post().headers["content-type"] == PROBLEM


def test_a_feed_that_is_not_there_is_503():
    """With a time to come back at; only where the gateway is told to block then."""
    with Serving(broker_away=True, on_not_ready="block") as serving:
        serve(serving)
        answer = serving.post()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        body = answer.json()
        assert body["type"] == "urn:outlay:problem:feed-unavailable"
        assert body["status"] == 503
        assert "scope" not in body
    with Serving(broker_away=True) as serving:
        serve(serving, seen := [])
        assert serving.post().status_code == 200
        assert seen[0].stale
        serving.stream.broker_away = False


@pytest.mark.parametrize(
    ("on_stale", "limit", "status"), [("block", 9, 503), ("allow", 9, 200), ("allow", 0, 402)]
)
def test_a_feed_gone_stale_is_503_only_where_that_is_what_blocks(on_stale, limit, status):
    """A budget that is used up is 402, however old the decision."""
    with Serving(monthly(limit, on_stale=on_stale)) as serving:
        serve(serving)
        serving.stream.stall()
        serving.stream.clock.advance(seconds=60)
        answer = serving.post()
        assert answer.status_code == status
        if status == 503:
            assert answer.json()["scope"] == ACME.key
        serving.stream.resume()


def test_too_many_open_calls_are_503(monkeypatch):
    """That is no question of money, and over soon."""
    monkeypatch.setattr(holds, "RESERVATIONS_MAX", 0)
    with Serving(monthly(9)) as serving:
        serve(serving)
        answer = serving.post()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["type"] == "urn:outlay:problem:too-many-reservations"


def test_a_soft_budget_degrades():
    """Its handler runs, and can see that it should be cheap."""
    with Serving(monthly(0, enforcement_mode="soft")) as serving:
        serve(serving, seen := [])
        assert serving.post().status_code == 200
        assert seen[0].degraded
        assert seen[0].state == "exceeded"


def test_of_fifty_at_once_exactly_ten_fit():
    """$1 each and $10 for all: what is asked for is held in one step with the check."""
    with Serving(monthly(10)) as serving:
        running, most = 0, 0
        budget = serving.require()

        @serving.app.post("/invoke/{agent_id}")
        async def invoke(agent_id: str, call: Annotated[BudgetCall, Depends(budget)]):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.05)
            call.settle(1)
            running -= 1

        async def ask():
            async with serving.client() as client:
                answers = await asyncio.gather(*(client.post("/invoke/a1") for _ in range(50)))
                return sorted(answer.status_code for answer in answers)

        assert asyncio.run(ask()) == [200] * 10 + [402] * 40
        assert most == 10
        assert serving.spent == [(1, True)] * 10


def test_the_openapi_tells_of_the_problems():
    """With `responses=budget_responses()`; and `estimate`'s parameters do not appear twice."""
    with Serving() as serving:
        serve(serving)
        responses = serving.app.openapi()["paths"]["/invoke/{agent_id}"]["post"]["responses"]
        assert set(responses) >= {"200", "402", "503"}
        schema = responses["402"]["content"][PROBLEM]["schema"]
    with Serving(monthly(0)) as serving:
        serve(serving)
        assert set(serving.post().json()) <= set(schema["properties"])
    assert set(budget_responses(429)) == {429, 503}


def test_a_budget_that_has_room_by_the_time_it_is_explained_tells_no_numbers():
    """The answer stays what the check said; numbers of another moment would contradict it."""
    with Serving(monthly(0)) as serving:
        asked = {"organization_id": "acme", "estimated_cost_usd": 1}
        result = serving.gateway.check(**asked)
        serving.stream.budgets.put(ACME, monthly(9))
        explanation = serving.gateway.explain(**asked)
        members = blocked_problem(result, explanation, path="/", status_code=402, knows_cost=True)
        assert members["detail"] == result.reason
        assert (members["status"], members["scope"]) == (402, ACME.key)
        assert "limit" not in members
