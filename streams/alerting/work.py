"""Work: what this process does for one partition of the alerts while it has it.

An alert is taken over in this order: its state is written, its offset committed, and only then is
it delivered. So a crash loses none, and repeats deliveries only under their ids.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from streams.alerting.clock import Clock
from streams.alerting.endpoint import Job
from streams.alerting.incoming import Incoming
from streams.alerting.log import AlertLog, Lost
from streams.alerting.metrics import AlertMetrics
from streams.alerting.partition_state import EffectiveOf, PartitionState
from streams.alerting.records import Pending

CHANGE_BYTES_MAX = 250_000
"""From how many bytes of state on alerts are taken over by another write, in bytes."""

PRUNE_INTERVAL_MS = 3_600_000
"""How often scopes that have long been quiet are forgotten, in milliseconds."""

log = structlog.get_logger("outlay.alerts")


class Dispatch(Protocol):
    """Where deliveries are queued; `Dispatcher` is the one."""

    def put(self, job: Job) -> None:
        """Queue one."""

    def has_room(self, pending: Pending) -> bool:
        """Whether its endpoint takes more."""


GiveUp = Callable[[int, PartitionState, Pending, str], Awaitable[None]]
"""Makes a dead letter of a delivery of a partition, for a reason."""


class PartitionJob:
    """A delivery of a partition, in its endpoint's queue."""

    def __init__(self, work: PartitionWork, pending: Pending) -> None:
        self.work = work
        self.pending = pending

    @property
    def is_void(self) -> bool:
        """Whether the partition is someone else's by now."""
        return self.work.is_stopped

    def track(self, attempt: asyncio.Task[None]) -> None:
        """Have the partition's end wait for an attempt."""
        self.work.under_way.add(attempt)
        attempt.add_done_callback(self.work.under_way.discard)


class PartitionWork:
    """A partition from its assignment to its revocation."""

    def __init__(
        self,
        partition: int,
        kafka: AlertLog,
        dispatch: Dispatch,
        effective_of: EffectiveOf,
        clock: Clock,
        metrics: AlertMetrics,
        give_up: GiveUp,
        fail: Callable[[BaseException], None],
    ) -> None:
        self.partition = partition
        self.state = PartitionState(effective_of)
        self.is_stopped = False
        self.is_lost = False
        self.under_way: set[asyncio.Task[None]] = set()
        self._kafka = kafka
        self._dispatch = dispatch
        self._clock = clock
        self._metrics = metrics
        self._give_up = give_up
        self._fail = fail
        self._writing = asyncio.Lock()
        self._timers: list[tuple[int, str]] = []
        self._timer_of: dict[str, int] = {}
        self._poked = asyncio.Event()
        self._waking: asyncio.Task[None] | None = None
        self._prune_ms = 0

    async def start(self) -> None:
        """Read the state, to its end, and go on with what it says is pending."""
        self.state.load(await self._kafka.load(self.partition), self._clock.now_ms())
        if self.is_stopped:
            return
        for pending in list(self.state.pending.values()):
            self._dispatch.put(PartitionJob(self, pending))
        self.reschedule()
        self._waking = asyncio.create_task(self._wake())

    async def take(self, messages: Sequence[Incoming]) -> None:
        """Take over alerts, in their order."""
        async with self._writing:
            started: list[Pending] = []
            for number, message in enumerate(messages):
                if self.is_stopped:
                    return
                started += self._take_one(message)
                is_last = number == len(messages) - 1
                if is_last or self.state.changes_bytes() >= CHANGE_BYTES_MAX:
                    if not await self._write(message.offset + 1):
                        return
                    await self._begin(started)
                    started = []

    def reschedule(self) -> None:
        """Look anew at when what is held is due: the configurations have changed."""
        self._timers, self._timer_of = [], {}
        for scope in self.state.holding():
            self._schedule(scope)
        self._poked.set()

    def lose(self, problem: Lost) -> None:
        """Begin nothing more: the partition is to be loaded anew, where it is still ours."""
        log.warning("partition lost", partition=self.partition, problem=str(problem))
        self.is_stopped = self.is_lost = True

    async def stop(self, timeout_s: float) -> None:
        """Begin nothing more, and wait for what is under way; what takes longer is cut off."""
        self.is_stopped = True
        if self._waking is not None:
            self._waking.cancel()
        try:
            async with asyncio.timeout(timeout_s):
                async with self._writing:  # what is being taken over is written, or never will be
                    pass
                if self.under_way:
                    await asyncio.wait(self.under_way)
        except TimeoutError:
            log.warning("deliveries are cut off", partition=self.partition)
        finally:
            for attempt in self.under_way:
                attempt.cancel()

    def _take_one(self, message: Incoming) -> list[Pending]:
        if message.alert is None:
            self._metrics.rejected.inc()
            return []
        started = self.state.take(message, self._clock.now_ms())
        if started is None:
            self._metrics.repeated.inc()
            return []
        self._metrics.taken.inc()
        self._schedule(message.alert.scope)
        return started

    async def _write(self, offset: int | None) -> bool:
        """Have everything that has changed written, then the offset; False: not ours any more."""
        now_ms = self._clock.now_ms()
        if now_ms >= self._prune_ms:
            self._prune_ms = now_ms + PRUNE_INTERVAL_MS
            self.state.prune(now_ms)
        records = self.state.changes()
        if records:
            try:
                await self._kafka.write(self.partition, records)
            except Lost as problem:
                self.lose(problem)
        if self.is_stopped:
            return False
        if offset is not None and not await self._kafka.commit(self.partition, offset):
            self.is_stopped = True  # the state has it: whoever has the partition now goes on
            return False
        return not self.is_stopped

    async def _begin(self, started: Sequence[Pending]) -> None:
        overflow = []
        for pending in started:
            if self._dispatch.has_room(pending):
                self._dispatch.put(PartitionJob(self, pending))
            else:
                overflow.append(pending)
        reason = "too much waits for its endpoint"
        try:
            await asyncio.gather(
                *(self._give_up(self.partition, self.state, each, reason) for each in overflow)
            )
        except Lost as problem:
            self.lose(problem)

    def _schedule(self, scope: str) -> None:
        due = self.state.due_ms(scope)
        if due is None or self._timer_of.get(scope) == due:
            return
        self._timer_of[scope] = due
        heapq.heappush(self._timers, (due, scope))
        self._poked.set()

    async def _wake(self) -> None:
        """Let go what is held, when it is due."""
        try:
            while True:
                self._poked.clear()
                if self._is_due() and not self.is_stopped:
                    async with self._writing:
                        await self._let_go()
                    continue
                until_ms = self._timers[0][0] if self._timers and not self.is_stopped else None
                await self._clock.wait(self._poked, until_ms)
        except Exception as error:
            self._fail(error)

    def _is_due(self) -> bool:
        return bool(self._timers) and self._timers[0][0] <= self._clock.now_ms()

    async def _let_go(self) -> None:
        started: list[Pending] = []
        now_ms = self._clock.now_ms()
        while self._is_due() and self.state.changes_bytes() < CHANGE_BYTES_MAX:
            _, scope = heapq.heappop(self._timers)
            self._timer_of.pop(scope, None)
            started += self.state.wake(scope, now_ms)
            self._schedule(scope)
        if await self._write(None):
            await self._begin(started)
