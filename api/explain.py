"""Explaining a budget: its numbers, the rule that they lead to, and what it has been through."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api.any_path import ANY
from api.callers import Caller, needs
from api.checking import written
from api.live import Live, live
from api.problems import ProblemError, described
from api.scope_paths import BUDGETS_PATH, ScopePath, SentPathRoute, path_scope
from api.services import STALE_HEADER
from api.transitions import Transition
from outlay.budget import LIMIT_MAX, NOTHING, Amounts, describe, evaluate
from outlay.decision import WindowUsage, window_usage
from outlay.explaining import LimitExplanation, ScopeExplanation, ScopeView, explain_scope
from outlay.money import to_nano
from outlay.scope import Scope
from outlay.standing import KnownBudget
from outlay.window import Window, day_ordinal
from schemas import http
from schemas import http_check as bodies

AMOUNT_LENGTH_MAX = 40
"""The longest amount in a query, in characters."""

router = APIRouter(tags=["budgets"], route_class=SentPathRoute)

_Count = Annotated[int, Query(ge=0, le=LIMIT_MAX)]
_Usd = Annotated[
    str, Query(max_length=AMOUNT_LENGTH_MAX, description="USD, as a decimal.", examples=["0.05"])
]


async def _asked(
    estimated_cost_usd: _Usd = "0",
    estimated_input_tokens: _Count = 0,
    estimated_output_tokens: _Count = 0,
    executions: _Count = 0,
) -> Amounts:
    try:
        cost_nano = to_nano(estimated_cost_usd)
        if cost_nano < 0:
            raise ValueError("must not be negative")
    except ValueError as error:
        location = "query.estimated_cost_usd"
        errors = [{"location": location, "message": str(error)}]
        raise ProblemError("invalid-request", f"{location}: {error}", errors=errors) from None
    return Amounts(cost_nano, executions, estimated_input_tokens, estimated_output_tokens)


@router.get(
    f"{BUDGETS_PATH}/{{scope:{ANY}}}/explain",
    response_model=bodies.ExplainAnswer,
    responses=described("invalid-request", "not-found", "feed-unavailable"),
)
async def get_explanation(
    scope: ScopePath,
    request: Request,
    caller: Annotated[Caller, Depends(needs("viewer"))],
    have: Annotated[Live, Depends(live)],
    asked: Annotated[Amounts, Depends(_asked)],
) -> Response:
    """A budget's totals and limits, the rule that decides of what is asked, and its last changes.

    Without anything asked the rule says how the budget stands. Changes of the state are those that
    this process has seen since it started.
    """
    found = path_scope(request, "/explain")
    caller.check(found.organization_id, request.url.path)
    known = have.feed.decisions.get(found.key)
    if known is None:
        raise ProblemError("not-found", f"{found.key} has no budget")
    body = _explain(have, found, known, asked)
    headers = {STALE_HEADER: "true"} if body.stale else {}
    return Response(http.encode(body), 200, headers, "application/json")


def _explain(have: Live, scope: Scope, known: KnownBudget, asked: Amounts) -> bodies.ExplainAnswer:
    at, feed, decision = have.now(), have.feed, known.decision
    day = day_ordinal(at)
    used = decision.used(day)
    age_s = feed.scope_age_s(scope.key)
    explained = explain_scope(
        scope.key,
        ScopeView(known, used),
        day,
        asked,
        stale=feed.is_stale(scope.key),
        age_s=age_s,
    )
    return bodies.ExplainAnswer(
        scope=scope.key,
        kind=scope.kind,
        organization_id=scope.organization_id,
        version=decision.version,
        state=explained.state,
        enforcement_mode=decision.budget.enforcement_mode,
        on_stale=decision.budget.on_stale,
        at=at,
        published_at=decision.published_at,
        stale=explained.stale,
        age_s=round(age_s, 3) if math.isfinite(age_s) else None,
        rule=_rule(known, explained, used, asked, feed.stale_after_s),
        windows=[
            _window(window, decision.windows.get(window.name), explained)
            for window in (Window.day(at), Window.month(at))
        ],
        transitions=[_transition(each) for each in have.transitions.of(scope.key)],
        transitions_since=have.transitions.since,
    )


def _window(
    window: Window, usage: WindowUsage | None, explained: ScopeExplanation
) -> bodies.ExplainedWindow:
    usage = usage or window_usage(NOTHING, {})
    return bodies.ExplainedWindow(
        window=window.name,
        kind=window.kind,
        resets_at=window.end,
        used=bodies.DecisionWindow(
            cost_usd=usage.cost_usd,
            executions=usage.executions,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
        ),
        limits=[_limit(limit) for limit in explained.limits if limit.window == window.name],
        offsets=_offsets(usage.offsets),
    )


def _transition(transition: Transition) -> bodies.TransitionBody:
    return bodies.TransitionBody(
        at=transition.at,
        from_state=transition.from_state,
        to_state=transition.to_state,
        version=transition.version,
        offsets={window: _offsets(of) for window, of in sorted(transition.offsets.items())},
    )


def _offsets(offsets: Mapping[int, int]) -> dict[str, int]:
    return {str(partition): offset for partition, offset in sorted(offsets.items())}


def _limit(limit: LimitExplanation) -> bodies.ExplainedLimit:
    return bodies.ExplainedLimit(
        kind=limit.kind,
        limit=written(limit.limit),
        used=written(limit.used),
        asked=written(limit.asked),
        remaining=written(limit.remaining),
        used_share=f"{limit.used_share:.6f}",
        fits=limit.fits,
    )


def _rule(
    known: KnownBudget,
    explained: ScopeExplanation,
    used: tuple[Amounts, Amounts],
    asked: Amounts,
    stale_after_s: float,
) -> bodies.Rule:
    """What decided: `on_stale`, the limit that is passed, or the one that is used the most."""
    evaluation = evaluate(known.rules, *used, asked)
    limit = evaluation.blocked_by or evaluation.tightest
    told = None if limit is None else explained.limits[known.rules.limits.index(limit)]
    by: Literal["limit", "share", "stale", "none"]
    if explained.stale and explained.on_stale == "block":
        by = "stale"
        sentence = f"no decisions for over {stale_after_s:g} s, and this budget blocks then"
    elif limit is None or told is None:
        by, sentence = "none", "the budget has no limits"
    elif evaluation.blocked_by is not None:
        by, sentence = "limit", describe(limit, *used, asked)
        if evaluation.allowed:
            sentence += "; the budget is soft, and allows it degraded"
    else:
        kind = "USD" if limit.kind == "cost" else limit.kind.replace("_", " ")
        by = "share"
        sentence = f"{explained.state}: {told.used_share:.2%} of {kind} in {told.window} are used"
    return bodies.Rule(
        allowed=explained.allowed,
        degraded=explained.degraded,
        decided_by=by,
        window=None if told is None else told.window,
        limit_kind=None if told is None else told.kind,
        sentence=sentence,
    )
