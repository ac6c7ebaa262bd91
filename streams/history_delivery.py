"""Delivery: takes batches of rows into ClickHouse, one after the other, and commits their offsets.

While one is on its way the next may be read. That one leaves only when this one has arrived, so
that what is committed never runs ahead of what is inserted.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, Protocol

import structlog
from aiokafka.errors import KafkaError

from streams.clickhouse_errors import HistoryAway
from streams.history_metrics import HistoryMetrics
from streams.history_rows import Rows
from streams.history_source import Source

PAUSE_MIN_S, PAUSE_MAX_S = 0.1, 15.0
"""The first and the longest pause between two attempts, in seconds."""

State = Literal["starting", "running", "waiting", "stopped"]

log = structlog.get_logger("outlay.history")


class Store(Protocol):
    """Where rows go; `ClickHouse` is the one."""

    async def migrate(self) -> list[str]:
        """Bring the schema up to date."""

    async def insert(self, table: str, columns: Sequence[tuple[str, str, Sequence[Any]]]) -> None:
        """Insert columns."""

    async def close(self) -> None:
        """Let go of it."""


class Pending:
    """What was read and is not committed: rows, and the next offset of each partition.

    It is `settled` when nothing is left to do for it: committed, or someone else's.
    """

    def __init__(self, generation: int, batch: Rows) -> None:
        self.generation = generation
        self.batch = batch
        self.offsets: dict[int, int] = {}
        self.since = time.monotonic()
        self.settled = False


class Delivery:
    """Inserts and commits, and goes on trying while ClickHouse or the broker is away.

    `state` is `waiting` meanwhile, and `problem` what was said. `applied` holds, by partition, the
    offsets that were committed.
    """

    def __init__(
        self,
        store: Store,
        source: Source,
        metrics: HistoryMetrics,
        stopping: asyncio.Event,
    ) -> None:
        self.state: State = "starting"
        self.problem = ""
        self.applied: dict[int, int] = {}
        self._store = store
        self._source = source
        self._metrics = metrics
        self._stopping = stopping
        self._leaving: Pending | None = None
        self._under_way: asyncio.Task[None] | None = None

    async def send(self, pending: Pending) -> bool:
        """Let it leave, after the one before has arrived; False when a stop came first.

        Raises:
            HistoryRefused, KafkaError: what waiting does not help against, of the one before.
        """
        await self.arrive()
        if self._leaving is not None and not self._leaving.settled:
            return False
        self._leaving = pending
        self._under_way = asyncio.create_task(self._take(pending))
        return True

    def check(self) -> None:
        """Raise what the one under way has failed with, if it has; waits for nothing."""
        if self._under_way is not None and self._under_way.done():
            self._under_way.result()

    async def arrive(self) -> None:
        """Wait for the one that is under way, however long ClickHouse is away.

        A rebalance ends the waiting, since the rows are someone else's then. A stop does, too,
        and leaves them for `last`.
        """
        if self._under_way is not None:
            await self._under_way

    async def last(self, pending: Pending) -> None:
        """One attempt at what a stop has left, and then at this one."""
        for each in (self._leaving, pending):
            if each is not None and not each.settled:
                await self._insert(each)
                await self._commit(each)

    async def close(self) -> None:
        """Give up what is under way."""
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.gather(self._under_way, return_exceptions=True)

    def is_ours(self, pending: Pending) -> bool:
        """Whether no partition was taken away since it was begun."""
        return pending.generation == self._source.generation

    def discard(self, pending: Pending) -> None:
        """Give it up, unless it is settled: who has its partitions now reads it again."""
        if not pending.settled:
            self._metrics.discarded.inc(len(pending.batch))
        pending.settled = True

    async def _take(self, pending: Pending) -> None:
        is_ours = partial(self.is_ours, pending)
        for step in (self._insert, self._commit):
            if not await self.retry(partial(step, pending), is_ours) and is_ours():
                return  # stopped
        self.discard(pending)

    async def _insert(self, pending: Pending) -> None:
        if not len(pending.batch) or not self.is_ours(pending):
            return
        # Not in the loop, which may have an API to serve.
        columns = await asyncio.to_thread(pending.batch.columns, time.time_ns() // 1_000_000)
        started = time.monotonic()
        await self._store.insert(pending.batch.table, columns)
        self._metrics.insert_seconds.observe(time.monotonic() - started)

    async def _commit(self, pending: Pending) -> None:
        if pending.offsets:
            if not self.is_ours(pending) or not await self._source.commit(pending.offsets):
                return
            self._count(pending)
        pending.settled = True

    def _count(self, pending: Pending) -> None:
        self.applied.update(pending.offsets)
        self._metrics.rows.inc(len(pending.batch))
        self._metrics.late.inc(pending.batch.late)
        self._metrics.rejected.inc(pending.batch.rejected)
        self._metrics.batches.inc()
        for partition, lag in self._source.lags(self.applied).items():
            self._metrics.lag.labels(str(partition)).set(lag)

    async def retry(
        self,
        attempt: Callable[[], Awaitable[object]],
        worth_it: Callable[[], bool] = lambda: True,
        pause_max_s: float = PAUSE_MAX_S,
    ) -> bool:
        """Attempt until it works; False when stopped first, or when it is not worth it any more."""
        pause_s = PAUSE_MIN_S
        while worth_it():
            try:
                await attempt()
            except (HistoryAway, OSError, KafkaError) as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    raise
                self._waits_for(error, pause_s)
            else:
                self.state, self.problem = "running", ""
                return True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s * random.uniform(0.5, 1))
            if self._stopping.is_set():
                return False
            pause_s = min(2 * pause_s, pause_max_s)
        return False

    def _waits_for(self, error: Exception, pause_s: float) -> None:
        self.state, self.problem = "waiting", str(error) or repr(error)
        self._metrics.failures.inc()
        log.warning("waiting, and trying again", error=self.problem, pause_s=pause_s)
