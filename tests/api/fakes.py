"""Stand-ins for what the API asks: a feed, a client of budgets and a history, all in memory."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from outlay.budget import NOTHING, Amounts, Budget
from outlay.decision import Decision, window_usage
from outlay.scope import Scope
from outlay.standing import KnownBudget
from streams.clickhouse_queries import ScopeUsage, SpendReport

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY, MONTH = "2026-11-21", "2026-11"


def decision(scope: Scope, budget: Budget, windows: dict[str, Amounts], version: int = 1):
    """A decision as the stream publishes it."""
    usages = {name: window_usage(amounts, {}) for name, amounts in windows.items()}
    return Decision(scope.key, version, "ok", budget, usages, "request", NOW)


@dataclass
class FakeFeed:
    """A feed that has caught up, with the budgets that it is given."""

    decisions: dict[str, KnownBudget] = field(default_factory=dict)
    ready: bool = True
    partitions: int = 2
    silent_s: float = 0.5

    def set(self, scope: Scope, budget: Budget, **windows: Amounts) -> None:
        """Give a scope a budget; `day` and `month` are those of NOW."""
        names = {"day": DAY, "month": MONTH}
        usages = {names[name]: amounts for name, amounts in windows.items()}
        self.decisions[scope.key] = KnownBudget(decision(scope, budget, usages), 0)

    def age_s(self, partition: int) -> float:
        """The same for all."""
        return self.silent_s

    def is_stale(self, scope_key: str) -> bool:
        """By the default bound."""
        return self.silent_s > 10

    def outcome(self, request_id: str) -> None:
        """None is known."""

    async def await_until(self, look, timeout_s):
        """It does not come."""
        await asyncio.Event().wait()


@dataclass
class FakeBudgets:
    """Carries changes out at once in the feed; raises `problem` when there is one."""

    feed: FakeFeed
    problem: Exception | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    requested_by: str | None = None

    async def apatch(
        self, scope, changes, *, expected_version, request_id, requested_by, timeout_s
    ):
        """Apply the changes as the stream does."""
        assert (expected_version, bool(request_id)) == (None, True)
        self.requested_by = requested_by
        self.asked.append(dict(changes))
        if self.problem is not None:
            raise self.problem
        known = self.feed.decisions.get(scope.key)
        before = Budget() if known is None else known.decision.budget
        windows = {} if known is None else known.amounts
        made = decision(scope, before.changed(changes), windows)
        self.feed.decisions[scope.key] = KnownBudget(made, 0)
        return made


@dataclass
class FakeHistory:
    """Answers with what it is given; remembers what it was asked."""

    used: Amounts = NOTHING
    rows: list[Any] = field(default_factory=list)
    problem: Exception | None = None
    asked: list[Any] = field(default_factory=list)

    async def ask(self, query):
        """Rows for a report, one sum for a scope."""
        self.asked.append(query)
        if self.problem is not None:
            raise self.problem
        assert isinstance(query, ScopeUsage | SpendReport)
        return [self.used] if isinstance(query, ScopeUsage) else self.rows

    async def ping(self):
        """Alive, unless there is a problem."""
        if self.problem is not None:
            raise self.problem
