"""The worker in memory: it counts usage, decides budget requests and publishes decisions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import datetime

from outlay.budget import Rules, evaluate
from outlay.budget_request import Held, requested
from outlay.decision import (
    OUTCOME_PREFIX,
    WATERMARK_KEY,
    BudgetRequest,
    Decision,
    Outcome,
    Watermark,
    encode,
    window_usage,
)
from outlay.testing.memory_totals import MemoryTotals
from outlay.testing.memory_usage import Arrived
from outlay.topics import partition_of
from outlay.window import told_windows, window_names

RECENT_MAX = 16
"""How many answers are kept per scope, for requests that come again; as many as by the stream."""

Publication = tuple[int, bytes, bytes | None]
"""A message for the decisions topic: its partition, key and value."""


class _Kept:
    """What a scope has, or had: versions go on after a budget is taken away."""

    def __init__(self, held: Held, version: int, request_id: str) -> None:
        self.held = held
        self.budget = budget = held.budget
        self.version = version
        self.request_id = request_id
        self.rules = None if budget is None else Rules(budget)


_NO_BUDGET = _Kept(Held(), 0, "")


class MemoryWorker:
    """Totals and budgets of all scopes, and what of them is to be published."""

    def __init__(self, usage_partitions: int, decisions_partitions: int) -> None:
        self._decisions_partitions = decisions_partitions
        self._totals = MemoryTotals(usage_partitions)
        self._budgets: dict[str, _Kept] = {}
        self._recent: dict[str, deque[Outcome]] = {}
        self._moved: set[str] = set()
        self._outcomes: list[Outcome] = []
        self._day = 0

    def count(self, message: Arrived) -> None:
        """Add a message's usage to the totals."""
        self._moved |= self._totals.count(message) & self._budgets.keys()

    def decide(self, request: BudgetRequest, now: datetime) -> None:
        """Carry a budget request out, or refuse it; one that comes again gets the same answer."""
        recent = self._recent.setdefault(request.scope, deque(maxlen=RECENT_MAX))
        outcome = next((each for each in recent if each.request_id == request.request_id), None)
        if outcome is None:
            outcome = self._carry_out(request, now)
            recent.append(outcome)
        self._outcomes.append(outcome)

    def _carry_out(self, request: BudgetRequest, now: datetime) -> Outcome:
        kept = self._budgets.get(request.scope, _NO_BUDGET)
        try:
            held = requested(kept.held, kept.version, request)
        except ValueError as error:
            version = 0 if kept.budget is None else kept.version
            return Outcome(request.request_id, request.scope, False, version, str(error), now)
        kept = self._budgets[request.scope] = _Kept(held, kept.version + 1, request.request_id)
        self._moved.add(request.scope)
        version = 0 if kept.budget is None else kept.version
        return Outcome(request.request_id, request.scope, True, version, "", now)

    def publish(self, now: datetime) -> Iterator[Publication]:
        """What is to be published now: decisions, then outcomes, and then how far they reach."""
        if now.toordinal() != self._day:
            self._day = now.toordinal()
            self._moved |= {key for key, kept in self._budgets.items() if kept.budget is not None}
        for key in sorted(self._moved):
            decision = self._decision(key, now)
            yield self._home(key), key.encode(), None if decision is None else encode(decision)
        self._moved.clear()
        for outcome in self._outcomes:
            key = outcome.scope
            yield self._home(key), OUTCOME_PREFIX + key.encode(), encode(outcome)
        self._outcomes.clear()
        watermark = encode(Watermark(self._totals.progress, now))
        for partition in range(self._decisions_partitions):
            yield partition, WATERMARK_KEY, watermark

    def _decision(self, key: str, now: datetime) -> Decision | None:
        kept = self._budgets[key]
        if kept.budget is None or kept.rules is None:
            return None
        used = [self._totals.amounts(key, name) for name in window_names(now.toordinal())]
        return Decision(
            scope=key,
            version=kept.version,
            state=evaluate(kept.rules, *used).state,
            budget=kept.budget,
            windows={
                name: window_usage(*total)
                for name in told_windows(now)
                if (total := self._totals.total(key, name)) is not None
            },
            request_id=kept.request_id,
            published_at=now,
        )

    def _home(self, key: str) -> int:
        return partition_of(key.encode(), self._decisions_partitions)
