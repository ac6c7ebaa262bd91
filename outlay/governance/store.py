"""Store: where budgets and usage records are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Protocol, runtime_checkable

from outlay.errors import OutlayError
from outlay.governance.amounts import aware, usd_nano, usd_of
from outlay.governance.budget import ExternalAgentBudget
from outlay.governance.config import ExternalAgentBudgetConfig
from outlay.governance.scope import BudgetScope, check_place
from outlay.governance.usage import BudgetUsageRecord, PeriodUsage

RECORDS_MAX = 100_000
"""How many usage records, budgets and resets together an `InMemoryBudgetStore` keeps."""


class BudgetStoreFull(OutlayError):
    """A store in memory has no room left: it refuses what comes, and forgets nothing."""


@runtime_checkable
class BudgetStore(Protocol):
    """Keeps budgets and usage, each under an agent and a scope; scopes are apart from each other.

    A store refuses with a `ValueError` what it cannot keep; it never accepts and ignores.
    """

    async def get_budget(self, agent_id: str, scope: BudgetScope) -> ExternalAgentBudget | None:
        """The budget of an agent in a scope; None where there is none."""
        ...

    async def update_budget(
        self, agent_id: str, scope: BudgetScope, budget: ExternalAgentBudget
    ) -> None:
        """Set the budget of an agent in a scope."""
        ...

    async def record_usage(self, record: BudgetUsageRecord) -> None:
        """Keep what an invocation has used, under the record's agent and scope."""
        ...

    async def get_period_usage(
        self, agent_id: str, scope: BudgetScope, start: datetime, end: datetime
    ) -> PeriodUsage:
        """What was used from `start` up to and without `end`.

        Where `reset_period_usage` was called within that time, only what was recorded after.
        """
        ...

    async def reset_period_usage(self, agent_id: str, scope: BudgetScope) -> None:
        """Begin the present period anew, with nothing used; what was recorded stays."""
        ...


@dataclass(slots=True)
class _Log:
    """The records of an agent in a scope as they came, and when, after how many, it was reset."""

    records: list[BudgetUsageRecord] = field(default_factory=list)
    resets: list[tuple[datetime, int]] = field(default_factory=list)


@runtime_checkable
class ChecksConfig(Protocol):
    """A store that keeps less than a configuration can ask for, and says so beforehand."""

    def check_config(self, config: ExternalAgentBudgetConfig) -> None:
        """See that it keeps what a configuration asks for; a `ValueError` says what it does not."""
        ...


class InMemoryBudgetStore:
    """A `BudgetStore` in memory: for tests, and for a process on its own. Safe in any thread.

    A budget is kept itself, not a copy: what an enforcer counts on it is seen by whoever gets it.
    Nothing is ever forgotten; beyond its bound the store refuses what comes.

    Args:
        records_max: how many records, budgets and resets it keeps in all.
        clock: the time, with a zone; when a reset was.

    Raises:
        BudgetStoreFull: from `record_usage`, `update_budget` and `reset_period_usage`, at the
            bound.
        ValueError: an empty id, what is no scope, budget or record, a time without a zone.
    """

    def __init__(
        self,
        *,
        records_max: int = RECORDS_MAX,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if type(records_max) is not int or records_max < 1:
            raise ValueError(f"records_max must be at least 1, not {records_max!r}")
        self._records_max = records_max
        self._clock = clock
        self._lock = threading.Lock()
        self._budgets: dict[tuple[str, BudgetScope], ExternalAgentBudget] = {}
        self._logs: dict[tuple[str, BudgetScope], _Log] = {}
        self._kept = 0

    async def get_budget(self, agent_id: str, scope: BudgetScope) -> ExternalAgentBudget | None:
        """The budget that was set, the object itself; None where there is none."""
        return self._budgets.get(_key(agent_id, scope))

    async def update_budget(
        self, agent_id: str, scope: BudgetScope, budget: ExternalAgentBudget
    ) -> None:
        """Set the budget of an agent in a scope."""
        key = _key(agent_id, scope)
        if not isinstance(budget, ExternalAgentBudget):
            raise ValueError(f"update_budget takes an ExternalAgentBudget, not {budget!r}")
        with self._lock:
            if key not in self._budgets:
                self._take_room()
            self._budgets[key] = budget

    async def record_usage(self, record: BudgetUsageRecord) -> None:
        """Keep a record."""
        if not isinstance(record, BudgetUsageRecord):
            raise ValueError(f"record_usage takes a BudgetUsageRecord, not {record!r}")
        with self._lock:
            self._take_room()
            self._log(_key(record.agent_id, record.scope)).records.append(record)

    async def get_period_usage(
        self, agent_id: str, scope: BudgetScope, start: datetime, end: datetime
    ) -> PeriodUsage:
        """What was used from `start` up to and without `end`; after the last reset in between."""
        key = _key(agent_id, scope)
        start, end = aware("start", start).astimezone(UTC), aware("end", end).astimezone(UTC)
        if start > end:
            raise ValueError("start must not be after end")
        with self._lock:
            log = self._logs.get(key)
            if log is None:
                return PeriodUsage()
            counted_from = max((n for at, n in log.resets if start <= at < end), default=0)
            records = log.records[counted_from:]
        return _sum([r for r in records if start <= r.timestamp.astimezone(UTC) < end])

    async def reset_period_usage(self, agent_id: str, scope: BudgetScope) -> None:
        """Begin the present period anew; `records` still has everything."""
        key, now = _key(agent_id, scope), aware("the store's clock", self._clock())
        with self._lock:
            self._take_room()
            log = self._log(key)
            log.resets.append((now.astimezone(UTC), len(log.records)))

    def records(self, agent_id: str, scope: BudgetScope) -> list[BudgetUsageRecord]:
        """Every record of an agent in a scope, in the order in which they came."""
        with self._lock:
            log = self._logs.get(_key(agent_id, scope))
            return list(log.records) if log is not None else []

    def _log(self, key: tuple[str, BudgetScope]) -> _Log:
        return self._logs.setdefault(key, _Log())

    def _take_room(self) -> None:
        if self._kept >= self._records_max:
            raise BudgetStoreFull(
                f"the store keeps {self._records_max} records, and has no room for another"
            )
        self._kept += 1


def _key(agent_id: str, scope: BudgetScope) -> tuple[str, BudgetScope]:
    check_place(agent_id, scope)
    return agent_id, scope


def _sum(records: list[BudgetUsageRecord]) -> PeriodUsage:
    return PeriodUsage(
        cost=usd_of(
            sum(usd_nano("cost", record.cost) for record in records),
            as_decimal=any(isinstance(record.cost, Decimal) for record in records),
        ),
        tokens=sum(record.tokens_used for record in records),
        invocations=len(records),
        input_tokens=sum(record.input_tokens for record in records),
        output_tokens=sum(record.output_tokens for record in records),
        failures=sum(not record.success for record in records),
    )
