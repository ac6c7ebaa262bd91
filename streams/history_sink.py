"""A sink of the history: reads a topic, inserts rows about once a second, then commits.

One batch is read and decoded while the one before is inserted, so that ClickHouse has one core and
Python another.

Nothing is lost: what was not committed is read again. Nothing shows twice: the table makes one row
of equal ones. While ClickHouse is away it waits, with growing pauses, and its place in the log is
kept; what waiting cannot help ends it with an error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog
from aiokafka.errors import KafkaError

from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from streams.clickhouse_errors import HistoryAway
from streams.history_delivery import Delivery, Pending, State, Store
from streams.history_metrics import HistoryMetrics
from streams.history_rows import Message, RowBatch, Rows, add_until_full
from streams.history_source import Source

STOP_FLUSH_TIMEOUT_S = 10.0
"""How long the last insert and commit may take at a stop; then they are left to the next start."""

START_PAUSE_MAX_S = 1.0
"""The same before it runs: others are only starting, too."""

READ_S_MAX = 0.2
"""How long one wait for messages may take, in seconds; a stop is seen after it."""

log = structlog.get_logger("outlay.history")


class HistorySink:
    """The sink of a topic in one process; of usage, unless it is told another kind of rows.

    `run` it as a task, `stop` it from any callback of the loop.

    `state` is `waiting` while ClickHouse or the broker is away; `problem` then says what it said.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        source: Source,
        store: Store | None = None,
        new_batch: Callable[[], Rows] = RowBatch,
        metrics: HistoryMetrics | None = None,
    ) -> None:
        self.metrics = HistoryMetrics() if metrics is None else metrics
        self._settings = settings
        self._store = ClickHouse(settings, name="history") if store is None else store
        self._source = source
        self._stopping = asyncio.Event()
        self._stopped = False
        self._new_batch = new_batch
        self._pending = Pending(0, new_batch())
        self._delivery = Delivery(self._store, self._source, self.metrics, self._stopping)
        # Decoding takes longer than anything else here, and the loop may have an API to serve.
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="history-decode")

    @property
    def state(self) -> State:
        """What it is doing."""
        return "stopped" if self._stopped else self._delivery.state

    @property
    def problem(self) -> str:
        """What the attempt that failed last was told, until one works."""
        return self._delivery.problem

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
            self._stopped = True
            await self._delivery.close()
            await self._source.close()
            self._decoder.shutdown(wait=True)
            await self._store.close()

    async def _prepare(self) -> bool:
        """Have the schema and a place in the group; False when stopped first."""

        async def steps() -> bool:
            attempt = partial(self._delivery.retry, pause_max_s=START_PAUSE_MAX_S)
            return await attempt(self._store.migrate) and await attempt(self._source.open)

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
        return sum(self._source.lags(self._delivery.applied).values())

    async def _turn(self) -> None:
        """Read for as long as the batch may wait, and flush it when it is due."""
        self._delivery.check()
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
            if not self._delivery.is_ours(self._pending):
                self._delivery.discard(self._pending)
                self._pending = self._new_pending()
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
        """Let what is pending leave, and begin anew; a stop leaves it for the last flush."""
        if await self._delivery.send(self._pending):
            self._pending = self._new_pending()

    def _new_pending(self) -> Pending:
        return Pending(self._source.generation, self._new_batch())

    async def _last_flush(self) -> None:
        """One attempt, within a bound: what is not committed is read again at the next start."""
        await self._delivery.arrive()
        try:
            async with asyncio.timeout(STOP_FLUSH_TIMEOUT_S):
                await self._delivery.last(self._pending)
        except (TimeoutError, HistoryAway, KafkaError) as error:
            log.warning("left to the next start", error=repr(error))
