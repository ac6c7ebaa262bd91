"""Problem: a call that is not let through, as RFC 9457 tells it to its client. Pure."""

from __future__ import annotations

from typing import Any

from outlay.explaining import Amount, Explanation, LimitExplanation, ScopeExplanation
from outlay.money import to_nano, to_usd
from outlay.standing import CheckResult

MEDIA_TYPE = "application/problem+json"

EXCEEDED = "urn:outlay:problem:budget-exceeded"
"""The `type` of a call that a budget has no room for."""

UNAVAILABLE = "urn:outlay:problem:feed-unavailable"
"""The `type` of a call that is blocked because the budgets are not known now."""

BUSY = "urn:outlay:problem:too-many-reservations"
"""The `type` of a call that comes while too many others are open."""

RETRY_AFTER_S = 5
"""When a client may ask again after a 503."""

SCHEMA: dict[str, Any] = {
    "title": "BudgetProblem",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "the contract"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "the reason, for people"},
        "instance": {"type": "string", "format": "uri-reference"},
        "scope": {"type": "string", "description": "whose budget blocks"},
        "state": {"type": "string", "enum": ["ok", "warning", "degraded", "exceeded"]},
        "remaining_usd": {
            "type": ["string", "null"],
            "description": "the least that is left in USD, over all scopes of the call",
        },
        "window": {"type": "string", "description": "the day or the month of the limit"},
        "limit_kind": {
            "type": "string",
            "enum": ["cost", "executions", "tokens", "input_tokens", "output_tokens"],
        },
        "limit": {"type": ["string", "integer"], "description": "a string in USD, or a count"},
        "remaining": {"type": ["string", "integer"], "description": "before this call"},
        "asked": {
            "type": ["string", "integer", "null"],
            "description": "by this call; null: not known",
        },
    },
}
"""The JSON Schema of the bodies."""


def blocked_problem(
    result: CheckResult,
    explanation: Explanation,
    *,
    path: str,
    status_code: int,
    knows_cost: bool,
) -> dict[str, Any]:
    """The members of the answer to a call that was blocked.

    Args:
        result: the answer of the check.
        explanation: the numbers to it, of the same moment or a later one.
        path: of the request.
        status_code: for a call that a budget has no room for; others are 503.
        knows_cost: whether a cost was asked for, and not the least there is in its place.
    """
    if not explanation.result.allowed:
        result = explanation.result  # so that the sentence and the numbers are of one moment
    scope = next((each for each in explanation.scopes if each.scope == result.scope), None)
    if _is_unavailable(result, scope):
        members = problem(UNAVAILABLE, 503, result.reason, path)
        return members if scope is None else members | {"scope": scope.scope, "state": scope.state}
    members = problem(EXCEEDED, status_code, result.reason, path)
    remaining_usd = None if result.remaining_usd is None else to_usd(to_nano(result.remaining_usd))
    members |= {"scope": result.scope, "state": result.state, "remaining_usd": remaining_usd}
    limits = () if scope is None or scope.allowed else scope.limits
    limit = next((each for each in limits if not each.fits), None)
    return members if limit is None else members | _limit_members(limit, knows_cost)


def problem(kind: str, status: int, detail: str, path: str) -> dict[str, Any]:
    """The members that every problem has."""
    title = kind.rpartition(":")[2].replace("-", " ").capitalize()
    return {"type": kind, "title": title, "status": status, "detail": detail, "instance": path}


def _is_unavailable(result: CheckResult, scope: ScopeExplanation | None) -> bool:
    """Whether it is blocked for what is not known, and not for what is used."""
    if not result.stale:
        return False
    return not result.scope or (scope is not None and scope.stale and scope.on_stale == "block")


def _limit_members(limit: LimitExplanation, knows_cost: bool) -> dict[str, Any]:
    def written(amount: Amount) -> str | int:
        return amount if isinstance(amount, int) else to_usd(to_nano(amount))

    asks = knows_cost or limit.kind != "cost"
    return {
        "window": limit.window,
        "limit_kind": limit.kind,
        "limit": written(limit.limit),
        "remaining": written(limit.remaining),
        "asked": written(limit.asked) if asks else None,
    }
