"""Counting: what a budget has used, of the current day, week and month; nothing is ever lost.

A budget is counted on from any thread and by several enforcers. What is done to it takes
microseconds, so that one lock for all budgets does, and a budget stays plain data.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, get_args

from outlay.budget import LIMIT_MAX, NOTHING, Amounts
from outlay.governance.amounts import TOTAL_USD_MAX
from outlay.governance.budget import ExternalAgentBudget
from outlay.governance.config import ExternalAgentBudgetConfig
from outlay.governance.periods import Period
from outlay.governance.rollover import LastPeriod
from outlay.money import NANO_PER_USD

PERIODS: tuple[Period, ...] = get_args(Period)  # from the shortest

_lock = threading.Lock()
_INSTANT = timedelta(microseconds=1)


def _renew_lock() -> None:
    """In the child of a fork, where the thread that held the lock is not."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class _Current(NamedTuple):
    """When the day, week and month began that hold from one time up to another."""

    begins: datetime
    ends: datetime
    starts: dict[Period, datetime]


class Calendar:
    """The days, weeks and months of a configuration, the current ones kept ready; in UTC."""

    def __init__(self, config: ExternalAgentBudgetConfig) -> None:
        self._config = config
        self.period: Period = config.period
        self._current: _Current | None = None

    def starts(self, now: datetime) -> dict[Period, datetime]:
        """When the day, the week and the month began that a time falls in."""
        current = self._current
        if current is None or not current.begins <= now < current.ends:
            bounds = {period: self._config.boundaries_of(period, now) for period in PERIODS}
            starts = {period: start.astimezone(UTC) for period, (start, _) in bounds.items()}
            ends = min(end.astimezone(UTC) for _, end in bounds.values())
            current = self._current = _Current(max(starts.values()), ends, starts)
        return current.starts

    def start_before(self, start: datetime) -> datetime:
        """When the configured period began that ended at a time."""
        before, _ = self._config.boundaries_of(self.period, start - _INSTANT)
        return before.astimezone(UTC)


def used_at(
    budget: ExternalAgentBudget, calendar: Calendar, now: datetime
) -> dict[Period, Amounts]:
    """What is used of the day, week and month that a time falls in; they become the current."""
    with _lock:
        _turn(budget, calendar, now)
        return {period: budget.used(period) for period in PERIODS}


def add(budget: ExternalAgentBudget, calendar: Calendar, now: datetime, more: Amounts) -> None:
    """Count an invocation at a time, in each period or in none.

    Raises:
        ValueError: a sum would be more than a budget can count.
    """
    with _lock:
        _turn(budget, calendar, now)
        sums = {period: budget.used(period) + more for period in PERIODS}
        for period, used in sums.items():
            _check_room(period, used)
        for period, used in sums.items():
            budget.set_used(period, used)


def begin_anew(
    budget: ExternalAgentBudget,
    calendar: Calendar,
    now: datetime,
    counted: Mapping[Period, Amounts],
    used: Amounts,
) -> None:
    """Begin a new period, and with it a new day, that do not count what was `counted` before.

    What has come in since stays counted. A shorter period than the configured one is begun anew
    as well, a longer one goes on. `used` is what the old period is remembered for.
    """
    with _lock:
        _turn(budget, calendar, now)
        for period in PERIODS[: PERIODS.index(calendar.period) + 1]:
            budget.set_used(period, _less(budget.used(period), counted[period]))
        budget.last_period = LastPeriod(calendar.period, used)


def _turn(budget: ExternalAgentBudget, calendar: Calendar, now: datetime) -> None:
    """Have the counts be those of the periods that a time falls in, and never go back in time."""
    counted_at = budget.counted_at
    if counted_at is None:
        budget.counted_at = now
        return
    counted_at = counted_at.astimezone(UTC)
    if now <= counted_at:
        return
    budget.counted_at = now
    for period, start in calendar.starts(now).items():
        if start <= counted_at:
            continue
        if period == calendar.period:
            skipped = counted_at < calendar.start_before(start)
            used = NOTHING if skipped else budget.used(period)
            budget.last_period = LastPeriod(period, used)
        budget.set_used(period, NOTHING)


def _check_room(period: Period, used: Amounts) -> None:
    counts = (used.executions, used.input_tokens, used.output_tokens)
    if used.cost_nano >= TOTAL_USD_MAX * NANO_PER_USD or max(counts) > LIMIT_MAX:
        raise ValueError(f"the {period} counts of the budget have no room for another call")


def _less(used: Amounts, counted: Amounts) -> Amounts:
    """What came since; a new period that has begun in between has nothing of it."""
    return Amounts(
        max(used.cost_nano - counted.cost_nano, 0),
        max(used.executions - counted.executions, 0),
        max(used.input_tokens - counted.input_tokens, 0),
        max(used.output_tokens - counted.output_tokens, 0),
    )
