"""Dispatcher: hands each delivery to its endpoint's queue, and bounds what all of them share.

Endpoints that are away share a lane of attempts of their own, so that any number of them leaves
the others theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from streams.alerting.clock import Clock
from streams.alerting.endpoint import Endpoint, Job
from streams.alerting.records import Pending

ENDPOINT_PENDING_MAX = 20_000
"""How many deliveries wait for one endpoint; beyond, they are dead letters at once."""

ENDPOINT_PENDING_MIN = 100
"""How many may wait for one endpoint in any case, however many wait for others."""

ATTEMPTS_MAX = 192
"""How many attempts at endpoints that answer are under way at a time."""

AWAY_ATTEMPTS_MAX = 64
"""The same for endpoints that are away."""


class Dispatcher:
    """The queues of all endpoints. `attempt` makes an attempt; whether its endpoint is away then.

    An exception of an attempt is handed to `fail`: it is none of the receiver's. `free` says how
    many more deliveries there may be in all: no endpoint has more waiting than that, so that room
    is left however many are away.
    """

    def __init__(
        self,
        endpoint_of: Callable[[Pending], str],
        attempt: Callable[[Job], Awaitable[bool]],
        fail: Callable[[BaseException], None],
        clock: Clock,
        concurrency: int,
        free: Callable[[], int],
    ) -> None:
        self._free = free
        self._endpoint_of = endpoint_of
        self._attempt_once = attempt
        self._fail = fail
        self._clock = clock
        self._concurrency = concurrency
        self._endpoints: dict[str, Endpoint] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._lane = asyncio.Semaphore(ATTEMPTS_MAX)
        self._away_lane = asyncio.Semaphore(AWAY_ATTEMPTS_MAX)

    def has_room(self, pending: Pending) -> bool:
        """Whether its endpoint's queue is not full."""
        endpoint = self._endpoints.get(self._endpoint_of(pending))
        share = max(self._free(), ENDPOINT_PENDING_MIN)
        return endpoint is None or len(endpoint) < min(share, ENDPOINT_PENDING_MAX)

    def put(self, job: Job) -> None:
        """Queue a job at the endpoint that its configuration names now."""
        name = self._endpoint_of(job.pending)
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            endpoint = self._endpoints[name] = Endpoint(
                self._attempt, self._clock, self._concurrency
            )
        endpoint.put(job)
        if name not in self._running:
            self._running[name] = asyncio.create_task(self._run(name, endpoint))

    def sweep(self) -> None:
        """Let go of the jobs that are someone else's."""
        for endpoint in self._endpoints.values():
            endpoint.sweep()

    async def close(self) -> None:
        """End all queues; what is in them is in the state, too."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, name: str, endpoint: Endpoint) -> None:
        try:
            await endpoint.run()
        finally:  # no step between its last look and this
            del self._running[name], self._endpoints[name]

    async def _attempt(self, job: Job, is_away: bool) -> bool:
        async with self._away_lane if is_away else self._lane:
            if job.is_void:
                return is_away
            try:
                return await self._attempt_once(job)
            except Exception as error:
                self._fail(error)
                return is_away
