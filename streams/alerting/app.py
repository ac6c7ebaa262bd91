"""App: takes alerts over and delivers them, for the partitions that its group gives it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import structlog
from aiokafka.errors import KafkaError

from outlay.connecting import Pauses
from schemas.settings import Settings
from streams.alerting.clock import Clock
from streams.alerting.configs import Configs
from streams.alerting.delivering import Delivering, Mails, Webhooks
from streams.alerting.directory import Effective
from streams.alerting.dispatcher import Dispatcher
from streams.alerting.endpoint import Job
from streams.alerting.log import AlertLog, Lost
from streams.alerting.metrics import AlertMetrics
from streams.alerting.retrying import Limits
from streams.alerting.work import PartitionJob, PartitionWork

PENDING_MAX = 100_000
"""How many deliveries are in memory; beyond, no more alerts are read."""

READ_S_MAX = 0.2
"""How long one wait for alerts may take, in seconds."""

SETTLE_S = 10.0
"""How long beyond an attempt's own bound its end is waited for at a revocation or a stop."""

log = structlog.get_logger("outlay.alerts")


class AlertsApp:
    """The application in one process. `run` it as a task, `stop` it from any callback of the loop.

    `is_ready` says whether it has a place in the group and knows the configurations.
    """

    def __init__(
        self,
        settings: Settings,
        kafka: AlertLog,
        configs: Configs,
        webhooks: Webhooks,
        mails: Mails,
        clock: Clock,
        metrics: AlertMetrics | None = None,
    ) -> None:
        self.metrics = AlertMetrics() if metrics is None else metrics
        self.is_ready = False
        self._settings = settings
        self._kafka = kafka
        self._configs = configs
        self._clock = clock
        self._delivering = Delivering(
            kafka, webhooks, mails, self._effective, limits_of(settings), clock, self.metrics
        )
        self._dispatcher = Dispatcher(
            self._delivering.endpoint_of,
            self._attempt,
            self._fail,
            clock,
            settings.alert_endpoint_concurrency,
            lambda: PENDING_MAX - self._pending(),
        )
        self._settle_s = settings.alert_attempt_timeout_s + SETTLE_S
        self._pauses = Pauses()
        self._lagging: set[int] = set()
        self._assigned: list[int] = []
        self._works: dict[int, PartitionWork] = {}
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._changed = asyncio.Event()
        self.metrics.held.set_function(lambda: self._sum(lambda work: work.state.held()))
        self.metrics.pending.set_function(self._pending)

    def stop(self) -> None:
        """Have `run` finish what is under way, and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`.

        Raises:
            KafkaError: what waiting does not help against.
        """
        running = asyncio.create_task(self._run())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.is_ready = False
            running.cancel()
            stopping.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await self.revoked()
            await self._dispatcher.close()
            await self._configs.close()
            await self._kafka.close()
        if not running.cancelled():
            running.result()
        if self._failure is not None:
            raise self._failure

    def assigned(self, partitions: Collection[int]) -> None:
        """Called by the log."""
        self._assigned = list(partitions)

    async def revoked(self) -> None:
        """Called by the log: end all deliveries, and wait for what is under way."""
        works, self._works, self._assigned = list(self._works.values()), {}, []
        await asyncio.gather(*(work.stop(self._settle_s) for work in works))
        self._dispatcher.sweep()

    async def _run(self) -> None:
        self._configs.start(self._configs_changed)
        await self._configs.catch_up()
        await self._open()
        log.info("alerts ready", configurations=len(self._configs.directory))
        self.is_ready = True
        while True:
            await self._end_lost()
            await self._start_assigned()
            await self._note_lags()
            works = dict(self._works)
            if not works or not self._has_room():
                await asyncio.sleep(READ_S_MAX)
                continue
            found = await self._kafka.read(works, READ_S_MAX)
            if found:
                await self._configs.catch_up()
            for partition, messages in found.items():
                await works[partition].take(messages)

    async def _open(self) -> None:
        pauses = Pauses()
        while True:
            try:
                return await self._kafka.open(self)
            except (OSError, KafkaError) as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    raise
                log.warning("waiting for the broker and the topics", error=str(error))
            await pauses.pause()

    async def _end_lost(self) -> None:
        """Give up the works whose writes were refused; those that are still ours begin anew."""
        lost = [work for work in self._works.values() if work.is_lost]
        if not lost:
            self._pauses.reset()
            return
        await self._pauses.pause()  # another process may believe that it has them, too
        await asyncio.gather(*(work.stop(self._settle_s) for work in lost))
        self._dispatcher.sweep()
        for work in lost:
            if self._works.get(work.partition) is work:
                del self._works[work.partition]

    async def _start_assigned(self) -> None:
        for partition in [p for p in self._assigned if p not in self._works]:
            work = PartitionWork(
                partition,
                self._kafka,
                self._dispatcher,
                self._effective,
                self._clock,
                self.metrics,
                self._delivering.give_up,
                self._fail,
            )
            assigned = self._assigned
            self._works[partition] = work
            await work.start()
            if self._assigned is not assigned:
                return  # a rebalance meanwhile

    def _has_room(self) -> bool:
        return self._pending() < PENDING_MAX

    def _pending(self) -> int:
        return self._sum(lambda work: len(work.state.pending))

    async def _attempt(self, job: Job) -> bool:
        assert isinstance(job, PartitionJob)
        work = job.work
        try:
            left, is_away = await self._delivering.attempt(work.partition, work.state, job.pending)
        except Lost as problem:
            work.lose(problem)
            return False
        if left is not None and not work.is_stopped:
            self._dispatcher.put(PartitionJob(work, left))
        return is_away

    def _effective(self, scope: str, organization_id: str) -> Effective:
        return self._configs.directory.effective(scope, organization_id)

    def _configs_changed(self) -> None:
        for work in self._works.values():
            work.reschedule()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._stopping.set()

    def _sum(self, of: Callable[[PartitionWork], int]) -> int:
        return sum(map(of, self._works.values()))

    async def _note_lags(self) -> None:
        lags = await self._kafka.lags()
        for partition in self._lagging - lags.keys():  # they are someone else's by now
            self.metrics.lag.remove(str(partition))
        self._lagging = set(lags)
        for partition, lag in lags.items():
            self.metrics.lag.labels(str(partition)).set(lag)


def limits_of(settings: Settings) -> Limits:
    """How long it is tried, by the settings."""
    return Limits(
        settings.alert_attempts_max,
        int(settings.alert_retry_pause_max_s * 1000),
        int(settings.alert_retry_age_max_s * 1000),
    )
