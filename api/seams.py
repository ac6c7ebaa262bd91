"""What the API needs of others, as small as it can be; tests put their own in."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from outlay.alert_config import AlertConfig, AlertConfigRecord
from outlay.budget import Budget
from outlay.decision import Decision, Outcome
from outlay.scope import Scope
from outlay.standing import KnownBudget
from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from streams.clickhouse_errors import HistoryAway
from streams.clickhouse_queries import Query

PING_TIMEOUT_S = 5.0
"""How long ClickHouse may take for a sign of life."""

REPORT_TIMEOUT_S = 35.0
"""How long a query of a report may take, the wait for those before it included.

It is more than ClickHouse itself may work on one.
"""

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

    def outcome(self, request_id: str) -> Outcome | None:
        """What became of a budget request, if it was seen."""

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

    async def aput_alerts(
        self,
        scope: Scope | str,
        alerts: AlertConfig,
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float,
    ) -> Decision:
        """Set a budget's whole alert configuration; the decision with its version."""

    async def adelete_alerts(
        self,
        scope: Scope | str,
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float,
    ) -> Decision:
        """Take a budget's own alert configuration away; the decision with its version."""


class OwnAlerts(Protocol):
    """The budgets' own alert configurations, followed: `outlay.alert_configs.AlertConfigs`."""

    @property
    def ready(self) -> bool:
        """Whether they are known."""

    @property
    def problem(self) -> str:
        """Why they are not followed now; empty while they are."""

    def get(self, scope_key: str) -> AlertConfigRecord | None:
        """A scope's own configuration; None: it has none."""

    async def await_current(self, timeout_s: float) -> None:
        """Return when all that was published before this call is known; or a `FeedNotReady`."""


class History(Protocol):
    """Answers from ClickHouse, or raises `HistoryError`."""

    async def ask(self, query: Query[T]) -> list[T]:
        """The rows of a query's answer."""

    async def ping(self) -> None:
        """Return when it answers."""


class ClickHouseHistory:
    """The real one: reports on one connection, signs of life on another, so that none waits.

    A server that takes a question and answers nothing is given up after the bound of the question,
    and so is the connection, whose thread could not take the next one.
    """

    def __init__(self, settings: Settings) -> None:
        self._reports = ClickHouse(_impatient(settings, REPORT_TIMEOUT_S), name="reports")
        self._quick = ClickHouse(_impatient(settings, PING_TIMEOUT_S), name="ping")

    async def ask(self, query: Query[T]) -> list[T]:
        """The rows of a query's answer, within `REPORT_TIMEOUT_S`."""
        return await _within(REPORT_TIMEOUT_S, self._reports.ask(query))

    async def ping(self) -> None:
        """Return when it answers and has its tables, within `PING_TIMEOUT_S`."""
        found = await _within(
            PING_TIMEOUT_S, self._quick.run(lambda client: client.command("EXISTS VIEW usage"))
        )
        if not found:
            raise HistoryAway("its tables are not there yet: the history process makes them")

    async def close(self) -> None:
        """Let go of both."""
        await asyncio.gather(self._reports.close(), self._quick.close())


def _impatient(settings: Settings, timeout_s: float) -> Settings:
    """The same, but for how long a server may be silent, where the DSN does not say it."""
    dsn = settings.clickhouse_dsn
    if settings.history_is_embedded or "send_receive_timeout=" in dsn:
        return settings
    option = f"{'&' if '?' in dsn else '?'}send_receive_timeout={math.ceil(timeout_s)}"
    return settings.model_copy(update={"clickhouse_dsn": dsn + option})


async def _within(timeout_s: float, answer: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(timeout_s):
            return await answer
    except TimeoutError:
        raise HistoryAway(f"no answer within {timeout_s:g} s") from None
