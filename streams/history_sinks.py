"""The history's sinks in one process: one of usage, one of the audit, side by side.

They share nothing but the database. So a budget's change waits for no batch of usage, usage goes
on where a worker of an older version has made no audit topic yet, and both come to rest together.
"""

from __future__ import annotations

import asyncio

from schemas.settings import Settings
from streams.history_audit import AuditBatch
from streams.history_delivery import State, Store
from streams.history_metrics import HistoryMetrics
from streams.history_sink import HistorySink
from streams.history_source import AuditSource, Source

_WORST_FIRST: tuple[State, ...] = ("stopped", "starting", "waiting", "running")


class HistorySinks:
    """Both sinks. `run` them as a task, `stop` them from any callback of the loop.

    `state` is that of the one that is worse off, and `problem` what it was told; `metrics` are
    those of usage, and in the same registry are those of the audit.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        metrics: HistoryMetrics | None = None,
        stores: tuple[Store, Store] | tuple[None, None] = (None, None),
        sources: tuple[Source, Source] | tuple[None, None] = (None, None),
    ) -> None:
        self.metrics = HistoryMetrics() if metrics is None else metrics
        self._usage = HistorySink(
            settings, store=stores[0], source=sources[0], metrics=self.metrics
        )
        self._audit = HistorySink(
            settings,
            store=stores[1],
            source=AuditSource(settings) if sources[1] is None else sources[1],
            new_batch=AuditBatch,
            metrics=HistoryMetrics(self.metrics.registry, of="audit"),
        )

    @property
    def state(self) -> State:
        """What they are doing."""
        return self._worse.state

    @property
    def problem(self) -> str:
        """What the attempt that failed last was told, until one works."""
        return self._worse.problem

    @property
    def _worse(self) -> HistorySink:
        return min(self._usage, self._audit, key=lambda sink: _WORST_FIRST.index(sink.state))

    def stop(self) -> None:
        """Have `run` insert and commit what they have, and return."""
        self._usage.stop()
        self._audit.stop()

    async def run(self) -> None:
        """Until `stop`, or until one of them gives up: then the other stops, too.

        Raises:
            HistoryRefused: ClickHouse said what waiting does not help against.
            KafkaError: the same of the broker.
        """
        running = [asyncio.create_task(sink.run()) for sink in (self._usage, self._audit)]
        try:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            await asyncio.wait(running)
        for error in [task.exception() for task in running]:
            if error is not None:
                raise error
