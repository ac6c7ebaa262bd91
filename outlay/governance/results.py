"""Results: what a budget says to a call before it is made."""

from __future__ import annotations

from dataclasses import dataclass

from outlay.budget import Limit
from outlay.governance.amounts import Usd, usd_of
from outlay.governance.rules import (
    Finding,
    exceeded_sentence,
    share_used,
    strictest_state,
    warning_sentence,
)


@dataclass(frozen=True, slots=True)
class BudgetCheckResult:
    """What a budget says to a call; its numbers describe the spend before this call.

    Attributes:
        allowed: whether the call may be made.
        reason: which limit the call would pass, with the amounts to two decimals; empty where it
            passes none. From a service also that budgets are not known, or out of date.
        remaining_budget_usd: what is left of the month's budget, or of the day's where that blocks
            or is the only one; negative when overspent, None without a limit in USD.
        remaining_executions: the least that is left of the limits of executions; None without one.
        usage_percentage: the used share of the budget that `remaining_budget_usd` is of, as a
            fraction: 0.5 is half. 1.0 for a budget of zero, 0.0 without one.
        degraded_mode: whether the call should be made cheaper: a limit is nearly used up, or soft
            and would be passed.
        warning_triggered: whether an allowed call is made with a limit used to its warning
            threshold or above; False when blocked.
        warning_message: the sentence for it.
    """

    allowed: bool
    reason: str = ""
    remaining_budget_usd: Usd | None = None
    remaining_executions: int | None = None
    usage_percentage: float = 0.0
    degraded_mode: bool = False
    warning_triggered: bool = False
    warning_message: str | None = None


def result_of(findings: list[Finding], *, as_decimal: bool) -> BudgetCheckResult:
    """One answer of what all limits say; its amounts as `Decimal`s, or floats where they fit."""
    allowed = all(finding.evaluation.allowed for finding in findings)
    state = strictest_state(findings)
    warns = allowed and state != "ok"
    told = next((f for f in findings if f.evaluation.state == state), findings[0])
    cost = _cost_limit(findings)
    return BudgetCheckResult(
        allowed=allowed,
        reason="" if (passed := _passed(findings)) is None else exceeded_sentence(passed),
        remaining_budget_usd=None if cost is None else usd_of(cost[0], as_decimal=as_decimal),
        remaining_executions=_remaining_executions(findings),
        usage_percentage=0.0 if cost is None else cost[1],
        degraded_mode=any(finding.evaluation.degraded for finding in findings),
        warning_triggered=warns,
        warning_message=warning_sentence(told) if warns else None,
    )


def _passed(findings: list[Finding]) -> Finding | None:
    """Who says that the call would pass a limit: a hard limit before a soft one."""
    blocking = [finding for finding in findings if not finding.evaluation.allowed]
    soft = [finding for finding in findings if finding.evaluation.blocked_by is not None]
    return next(iter(blocking + soft), None)


def _cost_limit(findings: list[Finding]) -> tuple[int, float] | None:
    """What remains in nano-dollars, and the used share, of the budget in USD that is reported."""
    limits: list[tuple[Finding, Limit]] = []
    passed = _passed(findings)
    if passed is not None and not passed.evaluation.allowed and passed.evaluation.blocked_by:
        period = passed.period_of(passed.evaluation.blocked_by)
        if (limit := passed.cost_limit(period)) is not None:
            limits.append((passed, limit))
    limits += [(f, limit) for f in findings for limit in f.rules.limits if limit.kind == "cost"]
    if not limits:
        return None
    finding, limit = limits[0]
    used = finding.used_of(limit)
    return limit.limit - used, share_used(used, limit.limit)


def _remaining_executions(findings: list[Finding]) -> int | None:
    return min(
        (
            limit.limit - finding.used_of(limit)
            for finding in findings
            for limit in finding.rules.limits
            if limit.kind == "executions"
        ),
        default=None,
    )
