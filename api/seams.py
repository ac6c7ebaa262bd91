"""What the API needs of others, as small as it can be; tests put their own in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from outlay.budget import Budget
from outlay.decision import Decision
from outlay.scope import Scope
from outlay.standing import KnownBudget
from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from streams.clickhouse_errors import HistoryAway
from streams.clickhouse_queries import Query

PING_TIMEOUT_S = 5.0
"""How long ClickHouse may take for a sign of life."""

T = TypeVar("T")


class Feed(Protocol):
    """The decisions, followed in the background: `outlay.feed.DecisionFeed`."""

    @property
    def ready(self) -> bool:
        """Whether it has caught up."""

    @property
    def partitions(self) -> int:
        """How many partitions the decisions topic has."""

    @property
    def decisions(self) -> Mapping[str, KnownBudget]:
        """What is known, by the scope's key."""

    def age_s(self, partition: int) -> float:
        """How long ago a partition's last watermark was seen."""

    def is_stale(self, scope_key: str) -> bool:
        """Whether what is known of a scope may be out of date."""

    async def await_until(self, look: Callable[[], T | None], timeout_s: float) -> T:
        """What `look` finds once it finds something; a `TimeoutError` when that takes longer."""


class Budgets(Protocol):
    """Changes budgets: `outlay.budgets.BudgetClient`, whose errors it raises."""

    async def apatch(
        self,
        scope: Scope | str,
        changes: Mapping[str, Any],
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float,
    ) -> Decision:
        """Change some fields, or make a budget; the decision that carries it."""

    async def aput(
        self,
        scope: Scope | str,
        budget: Budget,
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float,
    ) -> Decision:
        """Set the whole budget; the decision that carries it."""

    async def adelete(
        self,
        scope: Scope | str,
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float,
    ) -> None:
        """Take the budget away."""


class History(Protocol):
    """Answers from ClickHouse, or raises `HistoryError`."""

    async def ask(self, query: Query[T]) -> list[T]:
        """The rows of a query's answer."""

    async def ping(self) -> None:
        """Return when it answers."""


class ClickHouseHistory:
    """The real one: reports on one connection, signs of life on another, so that none waits."""

    def __init__(self, settings: Settings) -> None:
        self._reports = ClickHouse(settings, name="reports")
        self._quick = ClickHouse(settings, name="ping")

    async def ask(self, query: Query[T]) -> list[T]:
        """The rows of a query's answer."""
        return await self._reports.ask(query)

    async def ping(self) -> None:
        """Return when it answers and has its tables."""
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                found = await self._quick.run(lambda client: client.command("EXISTS VIEW usage"))
        except TimeoutError:
            raise HistoryAway(f"no answer within {PING_TIMEOUT_S:g} s") from None
        if not found:
            raise HistoryAway("its tables are not there yet: the history process makes them")

    async def close(self) -> None:
        """Let go of both."""
        await asyncio.gather(self._reports.close(), self._quick.close())
