"""The FastAPI dependency after the handler: what is recorded, however it ends."""

import logging
from decimal import Decimal
from typing import Annotated

import msgspec
import pytest
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request

from outlay.integrations.fastapi import BudgetCall
from tests.integrations.serving import ACME, WHO, Serving, monthly, warnings_of


def serve(serving, work, **options):
    """A route whose handler does this work with its call."""
    budget = serving.require(**options)

    @serving.app.post("/invoke/{agent_id}")
    async def invoke(agent_id: str, call: Annotated[BudgetCall, Depends(budget)]):
        return work(call)


def settles(call):
    call.settle(
        "0.25",
        input_tokens=7,
        output_tokens=5,
        provider="p",
        model="m",
        metadata={"duration_ms": 1500},
    )


def test_what_a_handler_has_settled_is_recorded_once_it_has_ended(caplog):
    """All that it said, for the ids of the call, in the budget at once; no warning."""
    with Serving(monthly(1)) as serving:
        before_end = []

        def work(call):
            settles(call)
            before_end.append((len(serving.records), serving.open))

        who = {"organization_id": "acme", "team_id": "t", "user_id": "u"}
        serve(serving, work, who=who)
        assert serving.post().status_code == 200
        (record,) = serving.records
        assert before_end == [(0, 1)]
        assert (record.organization_id, record.team_id, record.user_id) == ("acme", "t", "u")
        assert (record.agent_id, record.cost_usd, record.success) == ("a1", "0.25", True)
        assert (record.input_tokens, record.output_tokens, record.executions) == (7, 5, 1)
        assert (record.provider, record.model) == ("p", "m")
        assert msgspec.json.decode(record.metadata) == {"duration_ms": 1500}
        left = serving.gateway.check(**WHO).remaining_usd
        assert left == Decimal("0.75")
        assert warnings_of(caplog) == []


@pytest.mark.parametrize("error", [RuntimeError("down"), HTTPException(502), HTTPException(404)])
@pytest.mark.parametrize(
    ("say", "cost"), [(settles, "0.25"), (lambda call: call.spent("0.5"), "0.5"), (None, 0)]
)
def test_a_handler_that_fails_is_recorded_with_what_it_said(error, say, cost):
    """As no success; with nothing said, as one execution that cost nothing."""

    def work(call):
        if say:
            say(call)
        raise error

    with Serving() as serving:
        serve(serving, work)
        assert serving.post().status_code >= 404
        assert serving.spent == [(Decimal(cost), False)]
        assert serving.records[0].executions == 1


def test_what_a_failed_call_costs_is_a_setting(caplog):
    """Recorded where nothing was said."""
    caplog.set_level(logging.INFO, "outlay.integrations")

    def work(call):
        raise RuntimeError

    with Serving() as serving:
        serve(serving, work, cost_on_error="0.05")
        serving.post()
        assert serving.spent == [(Decimal("0.05"), False)]
        assert "failed before its cost was said: $0.05" in caplog.text


@pytest.mark.parametrize(("estimate", "cost"), [("0.75", "0.75"), (None, 0)])
def test_a_handler_that_says_nothing_counts_as_estimated_with_a_warning(caplog, estimate, cost):
    """Nothing where there is no estimate; the warning says which."""
    with Serving() as serving:
        serve(serving, lambda call: None, estimate=estimate)
        serving.post()
        assert serving.spent == [(Decimal(cost), True)]
        (warning,) = warnings_of(caplog)
        assert "nobody said its cost" in warning
        assert ("without any estimate" in warning) == (estimate is None)


def test_an_estimate_may_be_the_price(caplog):
    """Then it is recorded with its tokens and executions, and there is nothing to warn of."""
    price = {
        "estimated_cost_usd": "0.2",
        "estimated_input_tokens": 3,
        "estimated_output_tokens": 4,
        "executions": 2,
    }
    with Serving() as serving:
        serve(serving, lambda call: None, estimate=price, actual="estimate")
        serving.post()
        (record,) = serving.records
        assert (record.cost_usd, record.executions) == ("0.20", 2)
        assert (record.input_tokens, record.output_tokens) == (3, 4)
        assert warnings_of(caplog) == []


@pytest.mark.parametrize(
    ("told", "cost"),
    [("0.3", "0.3"), ({"cost_usd": "0.4", "output_tokens": 2}, "0.4"), (None, 1), (-1, 1)],
)
def test_a_router_asks_what_its_handlers_cost(caplog, told, cost):
    """Handlers without the call leave it in the request; what cannot be is logged, not lost."""
    with Serving() as serving:
        budget = serving.require(actual=lambda request: request.state.cost)
        router = APIRouter(dependencies=[Depends(budget)])

        @router.post("/invoke/{agent_id}")
        def invoke(agent_id: str, request: Request):
            request.state.cost = told

        serving.app.include_router(router)
        assert serving.post().status_code == 200
        assert serving.spent == [(Decimal(cost), True)]
        assert bool(warnings_of(caplog)) == (told in (None, -1))


def test_a_router_and_its_handler_share_a_call():
    """The same dependency on both is asked once, and recorded once."""
    with Serving() as serving:
        budget = serving.require()
        router = APIRouter(dependencies=[Depends(budget)])

        @router.post("/invoke/{agent_id}")
        def invoke(agent_id: str, call: Annotated[BudgetCall, Depends(budget)]):
            call.settle("0.1")

        serving.app.include_router(router)
        serving.post()
        assert serving.spent == [(Decimal("0.1"), True)]
        assert serving.gateway.stats.checks == 1


def test_requests_that_never_come_to_their_handler_leave_nothing():
    """A wrong parameter beside the budget, or another dependency that refuses or fails."""
    ran = []

    def allowed(token: Annotated[str, Header()] = ""):
        if token == "crash":
            raise RuntimeError("the user database is away")
        if not token:
            raise HTTPException(401)

    with Serving(monthly(9)) as serving:
        budget = serving.require()
        router = APIRouter(dependencies=[Depends(budget)])

        @router.post("/invoke/{agent_id}")
        def invoke(
            agent_id: str, page: Annotated[int, Query()], _: Annotated[None, Depends(allowed)]
        ):
            ran.append(agent_id)

        serving.app.include_router(router)
        token = {"token": "t"}
        assert serving.post(params={"page": "x"}, headers=token).status_code == 422
        assert serving.post(params={"page": 1}).status_code == 401
        assert serving.post(params={"page": 1}, headers={"token": "crash"}).status_code == 500
        assert (ran, serving.records, serving.open) == ([], (), 0)
        assert serving.gateway.stats.checks == 3
        assert serving.post(params={"page": 1}, headers=token).status_code == 200
        assert serving.spent == [(1, True)]


def test_of_two_budgets_the_second_may_block():
    """What the first holds is given back, and nothing recorded; else each records its part."""
    with Serving(monthly(5)) as serving:
        ours, theirs = (
            serving.require(),
            serving.require(who={"organization_id": "guest"}, estimate=2),
        )

        @serving.app.post("/invoke/{agent_id}")
        def invoke(
            agent_id: str,
            our: Annotated[BudgetCall, Depends(ours)],
            their: Annotated[BudgetCall, Depends(theirs)],
        ):
            our.settle("0.1")
            their.settle("0.2")

        guest = type(ACME)("guest")
        serving.stream.budgets.put(guest, monthly(1))
        answer = serving.post()
        assert (answer.status_code, answer.json()["scope"]) == (402, guest.key)
        assert (serving.records, serving.open) == ((), 0)
        serving.stream.budgets.put(guest, monthly(2))
        assert serving.post().status_code == 200
        costs = {record.organization_id: record.cost_usd for record in serving.records}
        assert costs == {"acme": "0.10", "guest": "0.20"}


def test_an_emitter_that_does_not_take_it_is_warned_of(caplog):
    """Its buffer is full, or it is closed: the usage is lost, and the log says so."""
    with Serving() as serving:
        serve(serving, lambda call: call.settle(1))
        serving.stream.emitter.close()
        assert serving.post().status_code == 200
        assert any("did not take" in each for each in warnings_of(caplog))


def test_what_a_call_cost_is_not_asked_where_there_was_none():
    """`actual` hears of no request that another dependency has turned away."""
    asked = []

    def turned_away():
        raise HTTPException(401)

    with Serving(monthly(1)) as serving:
        budget = serving.require(actual=lambda request: asked.append(request) or "0.5")

        @serving.app.post(
            "/invoke/{agent_id}", dependencies=[Depends(budget), Depends(turned_away)]
        )
        def invoke(agent_id: str):
            raise AssertionError("called")

        assert serving.post().status_code == 401
        assert serving.records == ()
    assert asked == []


def test_what_was_said_before_a_request_was_turned_away_counts():
    """A dependency has spent, and then another one turns the request away."""
    with Serving(monthly(1)) as serving:
        budget = serving.require()

        def turned_away(call: Annotated[BudgetCall, Depends(budget)]):
            call.spent("0.25")
            raise HTTPException(403)

        serving.app.post("/invoke/{agent_id}", dependencies=[Depends(turned_away)])(lambda: None)
        assert serving.post().status_code == 403
        assert serving.spent == [(Decimal("0.25"), False)]
