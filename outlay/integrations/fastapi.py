"""FastAPI: a dependency that asks the budgets before the handler, and records its cost after."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal

try:
    from fastapi import Depends, Request
    from fastapi.exceptions import RequestValidationError
    from starlette.requests import ClientDisconnect
except ImportError as error:
    raise ImportError(
        "outlay.integrations.fastapi needs FastAPI: pip install 'fastapi>=0.165'"
    ) from error

from outlay.counting import QuietLog
from outlay.errors import BudgetExceededError, TooManyReservations
from outlay.gateway import RESERVATION_EXPIRES_S, BudgetGateway
from outlay.guarding import Actual
from outlay.integrations.call import BudgetCall
from outlay.integrations.fallbacks import Ending, Fallbacks, logger
from outlay.integrations.fastapi_problem import (
    BudgetProblem,
    budget_responses,
    problem_of,
    problem_response,
)
from outlay.integrations.problem import BUSY, blocked_problem, problem
from outlay.integrations.terms import (
    check_estimate,
    check_gateway,
    check_settings,
    check_who,
    estimates_of,
    ids_of,
)
from outlay.money import Money
from outlay.reservation import Reservation
from outlay.scope import ID_LENGTH_MAX
from outlay.standing import CheckResult

__all__ = [
    "BudgetCall",
    "BudgetProblem",
    "budget_responses",
    "problem_response",
    "require_budget",
]

AGENT_PARAMETERS = ("agent_id", "external_agent_id")
"""The parameters of a path that name the agent, where `who` does not."""


def require_budget(
    gateway: BudgetGateway | Callable[..., Any] | None = None,
    *,
    who: Mapping[str, str | None] | Callable[..., Any],
    estimate: Money | Mapping[str, Any] | Callable[..., Any] | None = None,
    actual: Callable[[Request], Actual | None] | Literal["estimate"] | None = None,
    cost_on_error: Money = 0,
    status_code: int = 402,
    expires_s: float = RESERVATION_EXPIRES_S,
) -> Callable[..., AsyncIterator[BudgetCall]]:
    """A dependency that holds what a call may cost, or answers before its handler runs.

    A call that a budget has no room for is answered with `status_code`, one whose budgets are not
    known, where they say so, with 503. Of the others, what the handler has said to its
    `BudgetCall` is recorded with one execution once the response is sent, streams included, or
    when it has failed, then with `success=False`. Where it said nothing:

    - `actual` is asked;
    - a handler that ended well counts as estimated, and the log says so;
    - one that failed counts as `cost_on_error`;
    - one that was cut off, by its client or as it was cancelled, counts as estimated;
    - of a request that never came to its handler nothing is recorded.

    `who`, `estimate` and `gateway` may be functions with parameters of their own, as any
    dependency: the path's, the body, `Depends`. Name the body as the handler does: FastAPI takes
    two names for two parts of it. It is for HTTP routes; give `Depends` no `scope`, with
    `"function"` a stream would be recorded before it begins.

    Args:
        gateway: checks, and records through its emitter; by default `app.state.outlay_gateway`.
        who: the ids that the call counts for: a mapping, or an object that has them as
            attributes (a user), with `organization_id` and maybe `team_id`, `user_id`,
            `agent_id`. Without an agent it is the path's `agent_id` or `external_agent_id`.
        estimate: what a call costs at most, in USD; or a mapping with the estimates of
            `BudgetGateway.reserve`. None: not known.
        actual: given the request, what the call has used: its cost, a mapping with the arguments
            of `BudgetCall.settle`, or None. `"estimate"`: the estimate is the price.
        cost_on_error: in USD.
        expires_s: after how many seconds the estimate is held no more.

    Raises:
        ValueError: an argument that cannot be. What a function returned that cannot be, is raised
            in the request.
    """
    check_settings(actual, cost_on_error, status_code, expires_s)
    if gateway is not None and not callable(gateway):
        check_gateway(gateway)
    if not callable(who):
        check_who(who)
    if not callable(estimate):
        check_estimate(estimate)
    log = QuietLog(logger)
    from_gateway, from_who, from_estimate = (
        Depends(_as_dependency(given)) for given in (gateway, who, estimate)
    )

    async def held_budget(
        request: Request,
        found: Any = from_gateway,
        ids: Any = from_who,
        estimated: Any = from_estimate,
    ) -> AsyncIterator[BudgetCall]:
        asked = estimates_of(estimated)
        reservation = _reserve(
            request,
            _found_gateway(found, request),
            _with_agent(ids_of(ids), request) | asked,
            status_code,
            expires_s,
        )
        call = BudgetCall(reservation)
        settled = {name.removeprefix("estimated_"): amount for name, amount in asked.items()}
        fallbacks = Fallbacks(settled, actual == "estimate", cost_on_error, log)

        def tell() -> Actual | None:
            return actual(request) if callable(actual) else None

        try:
            yield call
        except BaseException as error:
            call.end(_ending(error), tell, fallbacks)
            raise
        call.end("completed", tell, fallbacks)

    return held_budget


def _as_dependency(given: Any) -> Callable[..., Any]:
    """A function for what may be one or a constant; not sync, which would cost a thread."""
    if callable(given):
        dependency: Callable[..., Any] = given
        return dependency

    async def constant() -> Any:
        return given

    return constant


def _found_gateway(found: Any, request: Request) -> BudgetGateway:
    if found is None:
        found = getattr(request.app.state, "outlay_gateway", None)
    return check_gateway(found)


def _with_agent(ids: dict[str, Any], request: Request) -> dict[str, Any]:
    """The ids, with the agent of the path where there is none among them."""
    if ids["agent_id"] is not None:
        return ids
    for name in AGENT_PARAMETERS:
        if name in request.path_params:
            agent_id = str(request.path_params[name])
            if not 1 <= len(agent_id) <= ID_LENGTH_MAX:
                message = f"must have 1 to {ID_LENGTH_MAX} characters"
                place = {"loc": ("path", name), "input": agent_id}
                raise RequestValidationError([{"type": "value_error", "msg": message, **place}])
            return ids | {"agent_id": agent_id}
    raise ValueError(f"no agent: who gives none, nor does the path ({', '.join(AGENT_PARAMETERS)})")


def _reserve(
    request: Request,
    gateway: BudgetGateway,
    asked: Mapping[str, Any],
    status_code: int,
    expires_s: float,
) -> Reservation:
    path = request.url.path
    try:
        return gateway.reserve(**asked, expires_s=expires_s)
    except BudgetExceededError as error:
        result = error.result
        assert isinstance(result, CheckResult)  # as of every reservation
        members = blocked_problem(
            result,
            gateway.explain(**asked),
            path=path,
            status_code=status_code,
            knows_cost=asked.get("estimated_cost_usd") is not None,
        )
        cause: Exception = error
    except TooManyReservations as error:
        members = problem(BUSY, 503, str(error), path)
        cause = error
    raise problem_of(request, members) from cause


def _ending(error: BaseException) -> Ending:
    """How a request ended that raised: whether its handler ran shows in what it went through."""
    if isinstance(error, RequestValidationError):
        return "not run"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").startswith("fastapi."):
            if frame.f_code.co_name == "run_endpoint_function":
                break
            if frame.f_code.co_name == "solve_dependencies":
                return "not run"
    cut_off = not isinstance(error, Exception) or isinstance(error, ClientDisconnect)
    return "cut off" if cut_off else "failed"
