"""The transport: Faust's own, opened where it is slow or wrong.

- Source topics reach their agents as one message per fetch, and so do changelogs reach recovery
  (see `streams.fetching`). A batch also covers offsets that no message has: behind the marker of
  a transaction, Faust's recovery would wait for ever.
- Nothing is taken from a source topic before recovery is really over: Faust resumes sources first,
  then seeks, and then clears its queues, which would skip messages silently.
- Owned partitions are fenced before recovery asks how far the changelog goes.
- Recovery reads what is committed of a changelog, and what is counted are the sources as they
  stand.
- Offsets of source topics are committed by the flush, never by Faust.
- A position that the broker does not have any more is an error, not a reason to jump.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, OffsetResetStrategy
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.fetching import fetch

FETCH_TIMEOUT_S = 0.1
"""How long one fetch waits for messages; markers alone are handed over after that."""

FULL_TIMEOUT_S = 0.02
"""The same while messages of some partition wait before an agent: that may be ready for more soon,
and what is here already is to be taken then."""

FETCH_WAIT_MS = 20
"""How long the broker may hold a fetch back; Faust's 1,500 would park whole partitions."""


class Owner(Protocol):
    """Who owns the assigned partitions; see `streams.ownership`."""

    async def take_over(self, changelogs: Iterable[TP]) -> None:
        """Fence: called before the ends of these changelogs are asked for."""

    def check_assignment(self, assigned: Iterable[TP]) -> None:
        """Raise when what belongs together was not assigned together."""

    def expect_starts(self, starts: Mapping[TP, int]) -> None:
        """Where logs begin: from there on each changelog has to be read."""

    def expect_ends(self, ends: Mapping[TP, int]) -> None:
        """Where changelogs end: up to there they have to be read."""

    @property
    def awaits_begin(self) -> bool:
        """Whether all tables of the present assignment are recovered, and nothing has begun."""

    async def begin(
        self, positions: Mapping[TP, int], starts: Mapping[TP, int], ends: Mapping[TP, int]
    ) -> None:
        """Recovery is over: start at these offsets of the source topics."""

    async def let_go(self) -> None:
        """Flush for the last time and forget everything; never raises."""

    async def fail(self, error: BaseException) -> None:
        """Something is wrong that no retry mends: the worker has to die."""


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches, and makes batches of what was fetched."""

    consumer: Consumer

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        consumer._isolation_level = "read_committed"  # it begins with recovery: see `set_counting`
        return consumer

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> dict[TP, Any]:
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise driver.ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            source_topics = self.consumer.app.source_topics
            batches = await fetch(fetcher, active_partitions, source_topics, timeout or 0.0)
        return {tp: [batch] for tp, batch in batches.items()}

    async def _highwaters(self, partitions: Any) -> Mapping[TP, int]:
        """Where logs end, also behind transactions that are open.

        Where the first of these begins is what the broker tells who reads committed messages.
        Recovery would end there, and know nothing of what is committed behind it.
        """
        consumer = self._ensure_consumer()
        asking = copy.copy(consumer._fetcher)  # the level of the one that fetches stays as it is
        asking._isolation_level = READ_UNCOMMITTED
        ends: Mapping[TP, int] = await asking.end_offsets(partitions, consumer._request_timeout_ms)
        return ends

    def set_counting(self, counting: bool) -> None:
        """Whether source topics are counted, or changelogs are read back.

        When counting, a position out of the log's range is an error (else it goes back to the log's
        start), and uncommitted messages are fetched: somebody's open transaction must not hold up a
        source topic. Changelogs are not read then.

        To be called with False between two assignments only. aiokafka keeps no fetch beyond its
        assignment, and takes one that arrives later than the change for one of committed messages.
        """
        fetcher = self._ensure_consumer()._fetcher
        if counting:
            fetcher._default_reset_strategy = OffsetResetStrategy.NONE
            fetcher._isolation_level = READ_UNCOMMITTED
        else:
            fetcher._default_reset_strategy = OffsetResetStrategy.EARLIEST
            fetcher._isolation_level = READ_COMMITTED


class Consumer(driver.Consumer):
    """Faust's consumer, with the source topics taken out of its own bookkeeping."""

    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _owner(self) -> Owner:
        owner: Owner = self.app.ownership
        return owner

    def _is_source(self, topic: str) -> bool:
        return topic in self.app.source_topics

    # -- reading

    async def _wait_next_records(
        self,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> tuple[Any, set[TP] | None]:
        """Faust's, but for the second that it sleeps while all partitions wait before agents."""
        if self.flow_active and self._buffered_partitions and not self._get_active_partitions():
            await asyncio.sleep(FULL_TIMEOUT_S)
            return {}, set()
        found: tuple[Any, set[TP] | None] = await super()._wait_next_records(timeout)
        return found

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> dict[TP, Any]:
        wanted = set(active_partitions or ())
        if not self.app.tables.actives_ready:
            wanted = {tp for tp in wanted if not self._is_source(tp.topic)}
        if not wanted:  # an empty set would mean: everything
            await asyncio.sleep(FETCH_TIMEOUT_S)
            return {}
        wait_s = FULL_TIMEOUT_S if self._buffered_partitions else FETCH_TIMEOUT_S
        try:
            return dict(await super()._getmany(wanted, min(timeout, wait_s)))
        except self.consumer_stopped_errors:
            raise
        except Exception as error:
            await self._owner.fail(error)
            raise

    # -- assignment

    async def highwaters(self, *tps: TP) -> Mapping[TP, int]:
        try:
            await self._owner.take_over(tps)
        except Exception as error:
            await self._owner.fail(error)
            raise
        ends: Mapping[TP, int] = await super().highwaters(*tps)
        self._owner.expect_ends(ends)
        return ends

    async def earliest_offsets(self, *tps: TP) -> Mapping[TP, int]:
        starts: Mapping[TP, int] = await super().earliest_offsets(*tps)
        self._owner.expect_starts(starts)
        return starts

    async def perform_seek(self) -> None:
        await super().perform_seek()
        if not self._owner.awaits_begin:
            return  # Faust also seeks back whenever it drops what it fetched during a rebalance
        sources = [tp for tp in self.assignment() if self._is_source(tp.topic)]
        if not sources:
            return
        starts = await super().earliest_offsets(*sources)
        positions = {}
        for tp in sources:  # aiokafka does not seek where nothing is committed
            committed = self._committed_offset.get(tp)
            positions[tp] = starts[tp] if committed is None else committed
        await self._thread.seek_wait(positions)
        if not self._owner.awaits_begin:
            return  # revoked meanwhile: what is assigned next is to be read back first
        self._thread.set_counting(True)
        try:
            log = [TP(self.app.topic_names.usage, p) for p in range(self.app.usage_partitions)]
            ends = await super().highwaters(*{*sources, *log})
            await self._owner.begin(positions, starts, ends)
        except Exception as error:
            await self._owner.fail(error)
            raise

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        try:
            self._owner.check_assignment(assigned)
        except Exception as error:  # aiokafka would swallow it
            await self._owner.fail(error)
            raise
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super().on_partitions_revoked(revoked)
        await self._owner.let_go()
        for tp in revoked:
            if not self._is_source(tp.topic):
                # What was kept of it is gone: recovery must read it from its start again.
                self.app.tables.recovery.revoke(tp)
        self._thread.set_counting(False)

    # -- Faust's bookkeeping of offsets, which the flush replaces

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if not self._is_source(tp.topic):
            await super()._add_gap(tp, offset_from, offset_to)

    def _new_offset(self, tp: TP) -> int | None:
        if not self._is_source(tp.topic):
            offset: int | None = super()._new_offset(tp)
            return offset
        self._acked[tp].clear()  # it would grow for ever
        self._acked_index[tp].clear()
        return None

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust's watch over bookkeeping that the flush replaces, it would cry wolf."""

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> None:
        """Commit offsets in the group, outside any transaction; raises when it cannot."""
        if not await self._thread.commit(offsets):
            raise RuntimeError(f"offsets were not committed: {dict(offsets)}")


class Transport(driver.Transport):
    """Faust's transport with the consumer above."""

    Consumer = Consumer
