"""The history's sinks in one process: of usage, the audit, alerts and deliveries, side by side.

They share nothing but the database. So a budget's change waits for no batch of usage, usage goes
on where a worker of an older version has made no topic of alerts yet, and all come to rest
together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from schemas.settings import Settings
from streams.history_delivery import State, Store
from streams.history_lanes import LANES
from streams.history_metrics import HistoryMetrics
from streams.history_sink import HistorySink
from streams.history_source import Source

_WORST_FIRST: tuple[State, ...] = ("stopped", "starting", "waiting", "running")


class HistorySinks:
    """All sinks, one a lane. `run` them as a task, `stop` them from any callback of the loop.

    `state` is that of the one that is worst off, and `problem` what it was told; `metrics` are
    those of usage, and in the same registry are those of the others.

    `stores` and `sources` are stand-ins for tests, in the order of `LANES`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        metrics: HistoryMetrics | None = None,
        stores: Sequence[Store] | None = None,
        sources: Sequence[Source] | None = None,
    ) -> None:
        self.metrics = HistoryMetrics() if metrics is None else metrics
        registry = self.metrics.registry
        self._sinks = [
            HistorySink(
                settings,
                store=None if stores is None else stores[number],
                source=lane.source(settings) if sources is None else sources[number],
                new_batch=lane.new_batch,
                metrics=self.metrics if number == 0 else HistoryMetrics(registry, of=lane.name),
            )
            for number, lane in enumerate(LANES)
        ]

    @property
    def state(self) -> State:
        """What they are doing."""
        return self._worst.state

    @property
    def problem(self) -> str:
        """What the attempt that failed last was told, until one works."""
        return self._worst.problem

    @property
    def _worst(self) -> HistorySink:
        return min(self._sinks, key=lambda sink: _WORST_FIRST.index(sink.state))

    def stop(self) -> None:
        """Have `run` insert and commit what they have, and return."""
        for sink in self._sinks:
            sink.stop()

    async def run(self) -> None:
        """Until `stop`, or until one of them gives up: then the others stop, too.

        Raises:
            HistoryRefused: ClickHouse said what waiting does not help against.
            KafkaError: the same of the broker.
        """
        running = [asyncio.create_task(sink.run()) for sink in self._sinks]
        try:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            await asyncio.wait(running)
        for error in [task.exception() for task in running]:
            if error is not None:
                raise error
