"""Enforcer: what a training may spend, what it has spent, and the log of the lines it crosses."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any, NamedTuple

from outlay.money import Money
from outlay.training.exact import cents, exact, minus, percentage, plus
from outlay.training.lines import BudgetStatus, Lines

WARNING_THRESHOLD_75 = 0.75
WARNING_THRESHOLD_90 = 0.90


class BudgetFigures(NamedTuple):
    """The amounts of an enforcer at one moment, exact and in USD, and its status."""

    current_cost_usd: Decimal
    max_budget_usd: Decimal
    remaining_usd: Decimal
    status: BudgetStatus


class BudgetEnforcer:
    """Keeps the sum of a training's costs, and compares it with a limit; safe in any thread.

    Amounts are in USD and exact: nothing is rounded, however many decimals there are, and
    whatever the decimal context says. (The stream keeps nine decimals; that rounding is done
    where a cost leaves for it, see `outlay.training.TrainingBudget`.) A float counts as its
    shortest text, so that ten times 0.1 is 1, which fits a limit of 1. Exactly the limit is not
    exceeded. A limit of zero has no room for any cost, and its only line is the limit itself.

    Each time the cost comes to a threshold, or above the limit, one event is logged to
    `outlay.training`, in order where several are crossed at once. What falls below a threshold
    (`current_cost_usd` is set, `reset`) is logged again when it is next crossed. The fields are
    in the record's `extra`: `event` (`budget_threshold_crossed`), `status`, `threshold` (a
    fraction of the limit), `current_cost_usd`, `max_budget_usd` (as decimal strings) and
    `utilization_percentage` (a float).

    Args:
        max_budget_usd: the limit, in USD.
        warning_threshold_75: the share of the limit from which on the status is `WARNING_75`.
        warning_threshold_90: the same for `WARNING_90`.

    Raises:
        ValueError: an amount that is not a finite number, negative, or a billion USD or more;
            a threshold outside (0, 1], or the first above the second. So for every method.
    """

    def __init__(
        self,
        max_budget_usd: Money,
        warning_threshold_75: Money = WARNING_THRESHOLD_75,
        warning_threshold_90: Money = WARNING_THRESHOLD_90,
    ) -> None:
        self._max_budget_usd = exact("max_budget_usd", max_budget_usd)
        self._threshold_75 = _threshold("warning_threshold_75", warning_threshold_75)
        self._threshold_90 = _threshold("warning_threshold_90", warning_threshold_90)
        if self._threshold_75 > self._threshold_90:
            raise ValueError("warning_threshold_75 must not be above warning_threshold_90")
        self._lines = Lines(self._max_budget_usd, self._threshold_75, self._threshold_90)
        self._current_cost_usd = Decimal("0.00")
        self._lock = threading.Lock()

    @property
    def max_budget_usd(self) -> Decimal:
        """The limit, in USD."""
        return self._max_budget_usd

    @property
    def warning_threshold_75(self) -> Decimal:
        """The first threshold, a share of the limit."""
        return self._threshold_75

    @property
    def warning_threshold_90(self) -> Decimal:
        """The second threshold, a share of the limit."""
        return self._threshold_90

    @property
    def current_cost_usd(self) -> Decimal:
        """What was spent, in USD; it can be set, as where a training goes on from a checkpoint."""
        return self._current_cost_usd

    @current_cost_usd.setter
    def current_cost_usd(self, cost_usd: Money) -> None:
        self._set(exact("current_cost_usd", cost_usd))

    def check_budget_available(self, required_amount: Money) -> tuple[bool, BudgetStatus]:
        """Whether a cost would fit, and the status with it; exactly the limit fits."""
        amount = exact("required_amount", required_amount)
        projected_usd = plus(self._current_cost_usd, amount)
        return projected_usd <= self._max_budget_usd, self._lines.status(projected_usd)

    def add_cost(self, amount: Money) -> BudgetStatus:
        """Add what was spent, also where it does not fit; the status after it."""
        added_usd = exact("amount", amount)
        with self._lock:
            before_usd = self._current_cost_usd
            after_usd = self._current_cost_usd = plus(before_usd, added_usd)
        self._lines.log_crossed(before_usd, after_usd)  # outside the lock: writing may wait
        return self._lines.status(after_usd)

    def try_add_cost(self, amount: Money) -> tuple[bool, BudgetStatus]:
        """`check_budget_available`, and `add_cost` where it fits, in one step for all threads.

        Returns:
            Whether it was added, and the status with it. What does not fit changes nothing.
        """
        added_usd = exact("amount", amount)
        with self._lock:
            before_usd = self._current_cost_usd
            after_usd = plus(before_usd, added_usd)
            fits = after_usd <= self._max_budget_usd
            if fits:
                self._current_cost_usd = after_usd
        if fits:
            self._lines.log_crossed(before_usd, after_usd)
        return fits, self._lines.status(after_usd)

    def get_remaining_budget(self) -> Decimal:
        """What is left, in USD; negative where more was spent than the limit."""
        return minus(self._max_budget_usd, self._current_cost_usd)

    def is_budget_exceeded(self) -> bool:
        """Whether more was spent than the limit."""
        return self._current_cost_usd > self._max_budget_usd

    def get_utilization_percentage(self) -> float:
        """What was spent, in percent of the limit; 0.0 for a limit of zero."""
        return percentage(self._current_cost_usd, self._max_budget_usd)

    def get_figures(self) -> BudgetFigures:
        """All amounts at one moment, exact."""
        cost_usd = self._current_cost_usd
        remaining_usd = minus(self._max_budget_usd, cost_usd)
        return BudgetFigures(
            cost_usd, self._max_budget_usd, remaining_usd, self._lines.status(cost_usd)
        )

    def get_status(self) -> dict[str, Any]:
        """The same for people and dashboards: amounts as floats, the status as its text.

        The keys are `status`, `current_cost_usd`, `max_budget_usd`, `remaining_usd`,
        `utilization_percentage` and `is_exceeded`.
        """
        figures = self.get_figures()
        return {
            "status": figures.status.value,
            "current_cost_usd": float(figures.current_cost_usd),
            "max_budget_usd": float(figures.max_budget_usd),
            "remaining_usd": float(figures.remaining_usd),
            "utilization_percentage": percentage(figures.current_cost_usd, self._max_budget_usd),
            "is_exceeded": figures.status is BudgetStatus.EXCEEDED,
        }

    def reset(self) -> None:
        """Begin again at nothing spent, with the same limit."""
        self._set(Decimal("0.00"))

    def _set(self, cost_usd: Decimal) -> None:
        with self._lock:
            before_usd, self._current_cost_usd = self._current_cost_usd, cost_usd
        self._lines.log_crossed(before_usd, cost_usd)


def check_budget(
    current_cost: Money, max_budget: Money, required_amount: Money = Decimal("0.00")
) -> tuple[bool, str]:
    """Whether a cost would fit a budget, without an enforcer, and the sentence that says so.

    Amounts are in USD; the sentence has them to two decimals. Exactly the limit fits.

        >>> check_budget(Decimal(80), Decimal(100), Decimal(20))
        (True, 'Budget OK: $0.00 remaining')

    Raises:
        ValueError: an amount that is not a finite number, negative, or a billion USD or more.
    """
    limit_usd = exact("max_budget", max_budget)
    projected_usd = plus(
        exact("current_cost", current_cost), exact("required_amount", required_amount)
    )
    if projected_usd <= limit_usd:
        return True, f"Budget OK: ${cents(minus(limit_usd, projected_usd))} remaining"
    return False, (
        f"Budget would be exceeded: ${cents(projected_usd)} projected > ${cents(limit_usd)} limit"
    )


def _threshold(name: str, value: Money) -> Decimal:
    threshold = exact(name, value)
    if not 0 < threshold <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1")
    return threshold
