"""Report: what a training spent, and what ended it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal

from outlay.errors import BudgetExceededError
from outlay.training.exact import plain
from outlay.training.lines import BudgetStatus

EndedBy = Literal["running", "completed", "budget_exceeded", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training spent so far, or in all when it has ended; amounts in USD, exact.

    Attributes:
        steps: how many steps were taken, those with a cost known afterwards included.
        cost_usd: what they cost.
        total_cost_usd: what the enforcer has in all, with what was spent before or elsewhere.
        max_budget_usd: the limit.
        remaining_usd: the limit less the total; negative where more was spent.
        status: how the enforcer's budget stands.
        ended_by: `running` before the end; `completed`; `budget_exceeded`: by a
            `BudgetExceededError`, or after one that the loop caught and took no further step
            after; `failed`: by another error; `interrupted`: by what is no `Exception`, as
            `KeyboardInterrupt`, a cancellation, or `SystemExit`.
        steps_not_emitted: how many steps' records the emitter refused. What they held went with
            the next record that it took.
        cost_not_emitted_usd: what it never took, to nine decimals: the stream has that much less.
    """

    steps: int
    cost_usd: Decimal
    total_cost_usd: Decimal
    max_budget_usd: Decimal
    remaining_usd: Decimal
    status: BudgetStatus
    ended_by: EndedBy
    steps_not_emitted: int
    cost_not_emitted_usd: Decimal


def ended_by(error: BaseException | None, refused_last: bool) -> EndedBy:
    """What ended a training that was left with an error, or with none."""
    if error is None:
        return "budget_exceeded" if refused_last else "completed"
    if isinstance(error, BaseExceptionGroup):  # of a task group: the budget, if only that
        stopped, others = error.split(BudgetExceededError)
        if stopped is not None and others is None:
            return "budget_exceeded"
    if isinstance(error, BudgetExceededError):
        return "budget_exceeded"
    return "failed" if isinstance(error, Exception) else "interrupted"


def as_fields(report: TrainingReport) -> dict[str, Any]:
    """A report's fields for logs: amounts as decimal strings."""
    return {
        name: plain(value) if isinstance(value, Decimal) else value
        for name, value in asdict(report).items()
    }
