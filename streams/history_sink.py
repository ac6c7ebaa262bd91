"""The history's sink: reads usage messages, inserts rows about once a second, then commits.

Nothing is lost: what was not committed is read again. Nothing shows twice: the table makes one row
of equal ones. While ClickHouse is away it waits, with growing pauses, and its place in the log is
kept; what waiting cannot help ends it with an error.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Literal, Protocol

import structlog
from aiokafka.errors import KafkaError

from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from streams.clickhouse_errors import HistoryAway
from streams.history_metrics import HistoryMetrics
from streams.history_rows import TABLE, Message, RowBatch, add_until_full
from streams.history_source import UsageSource

STOP_FLUSH_TIMEOUT_S = 10.0
"""How long the last insert and commit may take at a stop; then they are left to the next start."""

PAUSE_MIN_S, PAUSE_MAX_S = 0.1, 15.0
"""The first and the longest pause between two attempts, in seconds."""

START_PAUSE_MAX_S = 1.0
"""The same before it runs: others are only starting, too."""

READ_S_MAX = 0.2
"""How long one wait for messages may take, in seconds; a stop is seen after it."""

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


class _Pending:
    """What was read and is not committed: rows, and the next offset of each partition."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.batch = RowBatch()
        self.offsets: dict[int, int] = {}
        self.since = time.monotonic()
        self.committed = False


class HistorySink:
    """The sink of one process. `run` it as a task, `stop` it from any callback of the loop.

    `state` is `waiting` while ClickHouse or the broker is away; `problem` then says what it said.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store | None = None,
        source: UsageSource | None = None,
        metrics: HistoryMetrics | None = None,
    ) -> None:
        self.state: State = "starting"
        self.problem = ""
        self.metrics = HistoryMetrics() if metrics is None else metrics
        self._settings = settings
        self._store = ClickHouse(settings, name="history") if store is None else store
        self._source = UsageSource(settings) if source is None else source
        self._stopping = asyncio.Event()
        self._pending = _Pending(0)
        self._applied: dict[int, int] = {}
        # Decoding takes longer than anything else here; the loop may have an API to serve.
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="history-decode")

    def stop(self) -> None:
        """Have `run` insert and commit what it has, and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`.

        Raises:
            HistoryRefused: ClickHouse said what waiting does not help against.
            KafkaError: the same of the broker.
        """
        try:
            if await self._prepare():
                while not self._stopping.is_set():
                    await self._turn()
                await self._last_flush()
        finally:
            self.state = "stopped"
            await self._source.close()
            self._decoder.shutdown(wait=True)
            await self._store.close()

    async def _prepare(self) -> bool:
        """Have the schema and a place in the group; False when stopped first."""

        async def steps() -> bool:
            migrated = await self._retry(self._store.migrate, pause_max_s=START_PAUSE_MAX_S)
            return migrated and await self._retry(self._source.open, pause_max_s=START_PAUSE_MAX_S)

        preparing = asyncio.create_task(steps())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({preparing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not preparing.done():  # a join may take many seconds
            preparing.cancel()
            await asyncio.wait({preparing})
        return not preparing.cancelled() and preparing.result()

    def lag(self) -> int:
        """How many messages, as far as is known, are not in the history yet."""
        return sum(self._source.lags(self._applied).values())

    async def _turn(self) -> None:
        """Read for as long as the batch may wait, and flush it when it is due."""
        due = self._pending.since + self._settings.history_flush_interval_s
        rest_s = due - time.monotonic()
        if rest_s > 0:
            await self._take(await self._source.read(min(rest_s, READ_S_MAX)))
        else:
            await self._flush()

    async def _take(self, messages: Sequence[Message]) -> None:
        """Turn messages into rows, and flush whenever the batch is full."""
        generation, rows_max = self._source.generation, self._settings.history_batch_rows_max
        while messages and generation == self._source.generation:
            if not self._is_ours(self._pending):
                self._begin()
            pending = self._pending
            taken = await asyncio.get_running_loop().run_in_executor(
                self._decoder, add_until_full, pending.batch, messages, rows_max
            )
            for message in messages[:taken]:
                pending.offsets[message.partition] = message.offset + 1
            messages = messages[taken:]
            if len(pending.batch) >= rows_max:
                await self._flush()
                if self._stopping.is_set():
                    return  # the rest is read again at the next start

    async def _flush(self) -> None:
        """Insert and commit what is pending, however long ClickHouse is away.

        A rebalance ends the waiting, since the rows are someone else's then. A stop does, too,
        and leaves them for the last flush.
        """
        pending = self._pending
        for step in (self._insert, self._commit):
            done = await self._retry(partial(step, pending), partial(self._is_ours, pending))
            if not done and self._is_ours(pending):
                return
        self._begin()

    async def _last_flush(self) -> None:
        """One attempt, within a bound: what is not committed is read again at the next start."""
        try:
            async with asyncio.timeout(STOP_FLUSH_TIMEOUT_S):
                await self._insert(self._pending)
                await self._commit(self._pending)
        except (TimeoutError, HistoryAway, KafkaError) as error:
            log.warning("left to the next start", rows=len(self._pending.batch), error=repr(error))

    async def _insert(self, pending: _Pending) -> None:
        if not pending.batch.rows or not self._is_ours(pending):
            return
        started = time.monotonic()
        await self._store.insert(TABLE, pending.batch.columns(time.time_ns() // 1_000_000))
        self.metrics.insert_seconds.observe(time.monotonic() - started)

    async def _commit(self, pending: _Pending) -> None:
        if not pending.offsets:
            return
        if not self._is_ours(pending) or not await self._source.commit(pending.offsets):
            return
        pending.committed = True
        self._applied.update(pending.offsets)
        self.metrics.rows.inc(len(pending.batch))
        self.metrics.late.inc(pending.batch.late)
        self.metrics.rejected.inc(pending.batch.rejected)
        self.metrics.batches.inc()
        for partition, lag in self._source.lags(self._applied).items():
            self.metrics.lag.labels(str(partition)).set(lag)

    def _is_ours(self, pending: _Pending) -> bool:
        return pending.generation == self._source.generation

    def _begin(self) -> None:
        if not self._pending.committed:
            self.metrics.discarded.inc(len(self._pending.batch))
        self._pending = _Pending(self._source.generation)

    async def _retry(
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
        self.metrics.failures.inc()
        log.warning("waiting, and trying again", error=self.problem, pause_s=pause_s)
