"""Owned: one owned partition of a stage, from its recovery to its last flush."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import structlog

from streams import metrics, pacing
from streams.batch import Batch, SourceRecord, unseen
from streams.counts import Count
from streams.flush import Flush
from streams.writer import Fenced, Writer

LAST_FLUSH_TIMEOUT_S = 4.0
"""How long the last flush may take: no heartbeat is sent meanwhile."""

log = structlog.get_logger("outlay.streams")


class OwnershipError(Exception):
    """The assignment, or what the broker holds, is not what the state needs."""


class State(Protocol):
    """The state of one owned partition of a stage; see `partials` and `totals_state`."""

    def load(self, changelog: str, records: Sequence[SourceRecord]) -> None: ...
    def begin(self, positions: dict[str, int], ends: dict[str, int]) -> None: ...
    def apply(self, batch: Batch) -> Batch | None: ...
    def flush(self, now_ms: int, *, last: bool = False) -> Flush | None: ...
    def take_counts(self) -> Mapping[Count, int]: ...
    @property
    def is_full(self) -> bool: ...
    @property
    def reaches(self) -> dict[int, int]: ...
    @property
    def decided(self) -> dict[str, int]: ...
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
    def comes_in_bursts(self) -> bool:
        """Whether what it reads comes at the ticks of another stage (see `pacing`)."""

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
        self._urgent = asyncio.Event()
        self._behind = self._rests = False
        self._arrived = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._closed = False
        self._whole = True

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
        self.state.load(batch.topic, unseen(batch, self.loaded[batch.topic]))
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
        rest: Batch | None = batch
        while rest is not None and not self._closed:
            with self._all_or_nothing():
                rest = self.state.apply(rest)
            self._arrived.set()
            while self.state.is_full and not self._closed:
                self._room.clear()
                self._urgent.set()
                await self._room.wait()
        if batch.topic == self.stage.sources[0]:  # of the others there is little
            self._behind = batch.lag > 0
        if self._rests and not self._behind:
            self._urgent.set()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """What fails half-way leaves a state that must never be written, not even at the end.

        It has moved on past what was not counted or not written, and would commit that. A write
        that goes well meanwhile does not mend it.
        """
        try:
            yield
        except BaseException:
            self._whole = False
            raise

    async def _flush_often(self, fail: Callable[[BaseException], Awaitable[None]]) -> None:
        try:
            while not self._closed:
                started = time.monotonic()
                await self.flush()
                await self._pause(time.monotonic() - started)
        except asyncio.CancelledError as error:
            if self._closed:
                raise
            await fail(error)  # a delivery was cancelled, not this loop
        except Fenced as error:
            self._say_fenced(error)
            if not self._closed:  # else it is being let go of anyway
                await fail(error)
        except BaseException as error:
            if not self._closed:
                await fail(error)

    async def _pause(self, took_s: float) -> None:
        """Wait until the next flush is due, or is urgent: the state is full, or has caught up."""
        if self.stage.comes_in_bursts:
            await _wait(self._arrived, self._interval_s)
            self._arrived.clear()
            pause_s = pacing.gather_s(self._interval_s, took_s)
        else:
            self._rests = self._behind
            pause_s = pacing.until_tick_s(self._interval_s, took_s, time.time(), self._behind)
        await _wait(self._urgent, pause_s)
        self._rests = False

    def _say_fenced(self, error: Fenced) -> None:
        log.warning("a write was refused", partition=str(self), error=str(error))

    async def flush(self, *, last: bool = False) -> None:
        """Write what there is to write; never two at once, and nothing after a failure."""
        async with self._flushing:
            if not self._whole:
                return
            self._urgent.clear()
            with self._all_or_nothing():
                flush = self.state.flush(time.time_ns() // 1_000_000, last=last)
            if flush is not None:
                started = time.monotonic()
                with self._all_or_nothing():
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
                    await self.flush(last=True)
            except Fenced as error:
                self._say_fenced(error)
            except Exception as error:
                # Nothing is lost: what was not flushed was not committed.
                log.warning("last flush failed", partition=str(self), error=repr(error))
            self._loop.cancel()
        await self.writer.stop()

    def __str__(self) -> str:
        return f"{self.stage.name}-{self.partition}"


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for an event, but no longer."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
