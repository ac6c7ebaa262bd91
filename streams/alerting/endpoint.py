"""Endpoint: the deliveries to one receiver, in a queue of their own.

So a slow one holds up no other. Until something got through to it, and while it looks as if nothing
did any more, one attempt at a time is made.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Protocol

from streams.alerting.clock import Clock
from streams.alerting.records import Pending

AWAY_CONCURRENCY = 1
"""How many attempts at a time are made where none, or not the last one, was answered."""

_sequence = count()


class Job(Protocol):
    """A delivery in a queue."""

    pending: Pending

    @property
    def is_void(self) -> bool:
        """Whether it is someone else's by now."""

    def track(self, attempt: asyncio.Task[None]) -> None:
        """Told of each attempt that begins."""


Attempt = Callable[[Job, bool], Awaitable[bool]]
"""Makes an attempt at a job, told whether the endpoint is away; whether it is, then."""


class Endpoint:
    """A queue by due time. `run` ends when nothing is left; `put` needs one that runs."""

    def __init__(self, attempt: Attempt, clock: Clock, concurrency: int) -> None:
        self.is_away = False
        self._is_known = False
        self._attempt = attempt
        self._clock = clock
        self._concurrency = concurrency
        self._due: list[tuple[int, int, Job]] = []
        self._parked: dict[str, list[Job]] = {}
        self._busy: set[str] = set()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._due) + sum(map(len, self._parked.values()))

    def put(self, job: Job) -> None:
        """Queue a job, due at its `next_ms`; those due together go in the order they came in."""
        heapq.heappush(self._due, (job.pending.next_ms, next(_sequence), job))
        self._changed.set()

    def sweep(self) -> None:
        """Let go of the jobs that are someone else's."""
        self._due = [entry for entry in self._due if not entry[2].is_void]
        heapq.heapify(self._due)
        self._changed.set()

    async def run(self) -> None:
        """Make attempts as they are due, until nothing is left."""
        while len(self) or self._busy:
            self._changed.clear()
            self._begin_due()
            if len(self) or self._busy:
                await self._clock.wait(self._changed, self._next_ms())

    def _is_full(self) -> bool:
        is_there = self._is_known and not self.is_away
        return len(self._busy) >= (self._concurrency if is_there else AWAY_CONCURRENCY)

    def _next_ms(self) -> int | None:
        return None if self._is_full() or not self._due else self._due[0][0]

    def _begin_due(self) -> None:
        now_ms = self._clock.now_ms()
        while self._due and self._due[0][0] <= now_ms and not self._is_full():
            job = heapq.heappop(self._due)[2]
            scope = job.pending.lead.scope
            if job.is_void:
                continue
            if scope in self._busy:  # in their order: recovered must not overtake exceeded
                self._parked.setdefault(scope, []).append(job)
                continue
            self._busy.add(scope)
            job.track(asyncio.create_task(self._run(job, scope)))

    async def _run(self, job: Job, scope: str) -> None:
        try:
            self.is_away = await self._attempt(job, self.is_away)
            self._is_known = True
        finally:
            self._busy.discard(scope)
            for parked in self._parked.pop(scope, ()):
                self.put(parked)
            self._changed.set()
