"""Ownership: which partitions of the stages this worker owns, from take-over to letting go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from streams import metrics
from streams.batch import Batch, unseen
from streams.counts import Count
from streams.flush import Flush
from streams.writer import Fenced, Writer

TAKE_OVER_TIMEOUT_S = 60.0
"""How long fencing may take; beyond 90 s Faust's recovery would end silently."""

LAST_FLUSH_TIMEOUT_S = 4.0
"""How long the last flush may take: no heartbeat is sent meanwhile."""

log = structlog.get_logger("outlay.streams")

TopicPartition = tuple[str, int]


class OwnershipError(Exception):
    """The assignment, or what the broker holds, is not what the state needs."""


class State(Protocol):
    """The state of one owned partition of a stage; see `partials` and `totals_state`."""

    def load(self, changelog: str, key: bytes, value: bytes | None) -> None: ...
    def begin(self, positions: dict[str, int], ends: dict[str, int]) -> None: ...
    def apply(self, batch: Batch) -> None: ...
    def flush(self, now_ms: int) -> Flush | None: ...
    def take_counts(self) -> Mapping[Count, int]: ...
    @property
    def is_full(self) -> bool: ...
    @property
    def reaches(self) -> dict[int, int]: ...
    @property
    def positions(self) -> dict[str, int]: ...


class Stage(Protocol):
    """A kind of work that is owned by partition."""

    @property
    def name(self) -> str: ...
    @property
    def sources(self) -> tuple[str, ...]:
        """The topics that it reads; all have as many partitions as its changelogs."""

    @property
    def changelogs(self) -> tuple[str, ...]: ...
    def new_state(self, partition: int) -> State: ...
    def new_writer(self, partition: int) -> Writer: ...


class Owned:
    """One owned partition of a stage: its state, its writer, and the loop that flushes."""

    def __init__(self, stage: Stage, partition: int, interval_s: float) -> None:
        self.stage = stage
        self.partition = partition
        self.state = stage.new_state(partition)
        self.writer = stage.new_writer(partition)
        self.recovered: set[str] = set()
        self.loaded: dict[str, int] = {}
        """By changelog, the offset up to which it was read."""
        self.ends: dict[str, int] = {}
        """By changelog, where it ended after the fencing."""
        self._interval_s = interval_s
        self._flushing = asyncio.Lock()
        self._room = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def has_begun(self) -> bool:
        return self._loop is not None

    def begin(
        self,
        positions: dict[str, int],
        ends: dict[str, int],
        fail: Callable[[BaseException], Awaitable[None]],
    ) -> None:
        self.state.begin(positions, ends)
        self._loop = asyncio.create_task(self._flush_often(fail), name=str(self))

    def load(self, batch: Batch) -> None:
        """Take over a batch of a changelog.

        Raises:
            GapError: records before it are missing.
        """
        for record in unseen(batch, self.loaded[batch.topic]):
            assert record.key is not None, "a changelog's records have keys"
            self.state.load(batch.topic, record.key, record.value)
        self.loaded[batch.topic] = max(self.loaded[batch.topic], batch.end)

    def check_loaded(self) -> None:
        """Raise OwnershipError when a changelog was not read up to its end."""
        for changelog, end in self.ends.items():
            if self.loaded.get(changelog, 0) < end:
                raise OwnershipError(
                    f"{changelog}-{self.partition} was read up to {self.loaded.get(changelog)}, "
                    f"it ends at {end}"
                )

    async def apply(self, batch: Batch) -> None:
        """Apply a batch; returns when there is room for more."""
        self.state.apply(batch)
        while self.state.is_full and not self._closed:
            self._room.clear()
            await self._room.wait()

    async def _flush_often(self, fail: Callable[[BaseException], Awaitable[None]]) -> None:
        try:
            while not self._closed:
                started = time.monotonic()
                await self.flush()
                pause = self._interval_s - (time.monotonic() - started)
                await asyncio.sleep(max(pause, 0.001))
        except asyncio.CancelledError:
            raise
        except Fenced as error:
            self._say_fenced(error)
            if not self._closed:  # else it is being let go of anyway
                await fail(error)
        except BaseException as error:
            if not self._closed:
                await fail(error)

    def _say_fenced(self, error: Fenced) -> None:
        log.warning("a write was refused", partition=str(self), error=str(error))

    async def flush(self) -> None:
        """Write what there is to write; never two at once."""
        async with self._flushing:
            flush = self.state.flush(time.time_ns() // 1_000_000)
            if flush is not None:
                started = time.monotonic()
                await self.writer.write(flush)
                metrics.flushed(self.stage.name, time.monotonic() - started, flush.size)
            metrics.count(self.stage.name, self.state.take_counts())
            self._room.set()

    async def close(self) -> None:
        """Flush for the last time, if it can be done within a bound, and stop the writer."""
        self._closed = True
        self._room.set()
        if self._loop is not None:
            try:
                async with asyncio.timeout(LAST_FLUSH_TIMEOUT_S):
                    await self.flush()
            except Fenced as error:
                self._say_fenced(error)
            except Exception as error:
                # Nothing is lost: what was not flushed was not committed.
                log.warning("last flush failed", partition=str(self), error=repr(error))
            self._loop.cancel()
        await self.writer.stop()

    def __str__(self) -> str:
        return f"{self.stage.name}-{self.partition}"


class Ownership:
    """All that a worker owns under its present assignment.

    Faust calls it through the transport and the tables; `crash` ends the worker. Without
    `check_ends` the ends of topics are not relied on (Tansu tells where the last batch begins).
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        flush_interval_s: float,
        usage_topic: str,
        check_ends: bool,
        crash: Callable[[BaseException], Awaitable[None]],
    ) -> None:
        self._stages = stages
        self._interval_s = flush_interval_s
        self._usage_topic = usage_topic
        self._check_ends = check_ends
        self._crash = crash
        self._failed = False
        self.owned: dict[TopicPartition, Owned] = {}
        """By (topic, partition), of sources and changelogs alike."""

    # -- take-over

    def check_assignment(self, assigned: Iterable[Any]) -> None:
        """Each stage's topics must come together, partition by partition.

        Raises:
            OwnershipError: they do not, and totals would start again from nothing.
        """
        given = {(tp.topic, tp.partition) for tp in assigned}
        for stage in self._stages:
            topics = (*stage.sources, *stage.changelogs)
            for partition in {p for topic, p in given if topic in topics}:
                missing = [topic for topic in topics if (topic, partition) not in given]
                if missing:
                    raise OwnershipError(
                        f"partition {partition} of {missing} was not assigned with the others: "
                        "do all these topics have as many partitions?"
                    )

    async def take_over(self, changelogs: Iterable[Any]) -> None:
        """Own these changelogs' partitions, fenced."""
        await self.let_go()
        assigned = {(tp.topic, tp.partition) for tp in changelogs}
        for stage in self._stages:
            for partition in {p for topic, p in assigned if topic in stage.changelogs}:
                owned = Owned(stage, partition, self._interval_s)
                for topic in (*stage.sources, *stage.changelogs):
                    self.owned[topic, partition] = owned
        async with asyncio.timeout(TAKE_OVER_TIMEOUT_S):
            await asyncio.gather(*(owned.writer.start() for owned in self.all()))
        self._tell_owned()

    def all(self) -> list[Owned]:
        """Each owned partition of a stage, once."""
        return list(dict.fromkeys(self.owned.values()))

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to apply, of each source partition owned."""
        return {
            (topic, owned.partition): position
            for owned in self.all()
            if owned.has_begun
            for topic, position in owned.state.positions.items()
        }

    def expect_starts(self, starts: Mapping[Any, int]) -> None:
        """Where logs begin: from there on each changelog has to be read."""
        for tp, start in starts.items():
            owned = self.owned.get((tp.topic, tp.partition))
            if owned is not None and tp.topic in owned.stage.changelogs:
                owned.loaded.setdefault(tp.topic, start)

    def expect_ends(self, ends: Mapping[Any, int]) -> None:
        """Where changelogs end: up to there they have to be read."""
        for tp, end in ends.items():
            owned = self.owned.get((tp.topic, tp.partition))
            if owned is not None and tp.topic in owned.stage.changelogs:
                owned.ends[tp.topic] = end

    def load(self, batch: Batch) -> None:
        """Take over a batch of a changelog, during recovery."""
        owned = self.owned.get((batch.topic, batch.partition))
        if owned is None or owned.has_begun:
            return  # of an assignment that is over
        try:
            owned.load(batch)
        except Exception as error:
            # Faust would log this once a record, and wait for ever.
            name = f"{batch.topic}-{batch.partition}"
            reason = OwnershipError(f"{name} cannot be read back: {error!r}")
            asyncio.ensure_future(self.fail(reason))  # noqa: RUF006 - it ends the process
            raise

    def recovered(self, changelog: str) -> None:
        """All partitions of a changelog have been read."""
        for (topic, _), owned in self.owned.items():
            if topic == changelog:
                owned.recovered.add(changelog)

    @property
    def awaits_begin(self) -> bool:
        """Whether all that is owned has been recovered, and has not begun."""
        return bool(self.owned) and all(
            owned.recovered == set(owned.stage.changelogs) and not owned.has_begun
            for owned in self.all()
        )

    async def begin(self, positions: Mapping[Any, int], ends: Mapping[Any, int]) -> None:
        """Start to apply at these offsets, and to flush.

        Raises:
            OwnershipError: a state has counted what the broker does not hold (any more).
        """
        at = {(tp.topic, tp.partition): offset for tp, offset in positions.items()}
        end = {(tp.topic, tp.partition): offset for tp, offset in ends.items()}
        for owned in self.all():
            self._begin(owned, at, end)

    def _begin(
        self, owned: Owned, at: dict[TopicPartition, int], end: dict[TopicPartition, int]
    ) -> None:
        partition, sources = owned.partition, owned.stage.sources
        positions = {topic: at[topic, partition] for topic in sources}
        ends = {topic: end[topic, partition] for topic in sources}
        if self._check_ends:
            owned.check_loaded()
            beyond = [topic for topic in sources if positions[topic] > ends[topic]]
            beyond += [
                f"{self._usage_topic}-{p}"
                for p, offset in owned.state.reaches.items()
                if offset >= end.get((self._usage_topic, p), 0) and offset >= 0
            ]
            if beyond:
                raise OwnershipError(
                    f"{owned} has counted beyond the end of {beyond}: was the topic made anew?"
                )
        owned.begin(positions, ends, self.fail)
        log.info("began", partition=str(owned), positions=positions)

    async def apply(self, batch: Batch) -> None:
        """Hand a batch to its partition's state; one of an assignment that is over is dropped."""
        owned = self.owned.get((batch.topic, batch.partition))
        if owned is None or not owned.has_begun:
            return
        try:
            await owned.apply(batch)
        except Exception as error:
            await self.fail(error)

    # -- the end

    async def let_go(self) -> None:
        """Flush for the last time and forget everything; never raises."""
        owned = self.all()
        self.owned = {}
        await asyncio.gather(*(one.close() for one in owned), return_exceptions=True)
        self._tell_owned()

    def _tell_owned(self) -> None:
        for stage in self._stages:
            metrics.owns(stage.name, sum(one.stage is stage for one in self.all()))

    async def fail(self, error: BaseException) -> None:
        """Something is wrong that no retry mends: the worker has to die."""
        if not self._failed:
            self._failed = True
            log.critical("worker fails", error=repr(error))
            await self._crash(error)
