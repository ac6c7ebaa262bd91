"""Answer: what a gateway explains of a call, in the words of a `BudgetCheckResult`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from outlay.budget import LimitKind
from outlay.explaining import Explanation, LimitExplanation, ScopeExplanation
from outlay.governance.amounts import Usd, nearest_nano, usd_of
from outlay.governance.results import BudgetCheckResult
from outlay.governance.rules import share_used


def answer(explanation: Explanation) -> BudgetCheckResult:
    """The result of a check over all scopes that a call counts in.

    Its numbers are those of the scope that blocks, and else of the scope that leaves the least;
    of a scope with a daily and a monthly budget the month's, unless the day's blocks.
    """
    result = explanation.result
    decider = next((each for each in explanation.scopes if each.scope == result.scope), None)
    passed = None if decider is None else _passed(decider)
    if result.allowed or decider is None:
        counted = explanation.scopes
        budget = _least([found for each in counted if (found := _budget_of(each)) is not None])
    else:
        counted = (decider,)
        budget = _budget_of(decider, None if passed is None else passed.window)
    executions = _least([each for scope in counted for each in _of_kind(scope, "executions")])
    warns = result.allowed and any(each.state != "ok" for each in explanation.scopes)
    only_near = result.allowed and decider is not None and passed is None
    return BudgetCheckResult(
        allowed=result.allowed,
        reason="" if only_near else result.reason,
        remaining_budget_usd=None if budget is None else usd_number(budget.remaining),
        remaining_executions=None if executions is None else int(executions.remaining),
        usage_percentage=0.0 if budget is None else _used_share(budget),
        degraded_mode=result.degraded,
        warning_triggered=warns,
        warning_message=result.reason if warns else None,
    )


def usd_number(amount: Decimal | int) -> Usd:
    """An amount of USD as a number for users: a float where exactly that float means it."""
    return usd_of(nearest_nano(Fraction(amount)))


def _used_share(budget: LimitExplanation) -> float:
    limit = nearest_nano(Fraction(budget.limit))
    return share_used(max(limit - nearest_nano(Fraction(budget.remaining)), 0), limit)


def _passed(scope: ScopeExplanation) -> LimitExplanation | None:
    """The first limit that the call would pass: they come in the order of the checks."""
    return next((each for each in scope.limits if not each.fits), None)


def _budget_of(scope: ScopeExplanation, window: str | None = None) -> LimitExplanation | None:
    """The budget in USD that speaks for a scope: that of `window`, the month's, or the day's."""
    budgets = sorted(_of_kind(scope, "cost"), key=lambda each: len(each.window))
    asked_for = [each for each in budgets if each.window == window]
    return next(iter(asked_for + budgets), None)


def _of_kind(scope: ScopeExplanation, kind: LimitKind) -> list[LimitExplanation]:
    return [each for each in scope.limits if each.kind == kind]


def _least(limits: Sequence[LimitExplanation]) -> LimitExplanation | None:
    return min(limits, key=lambda each: each.remaining, default=None)
