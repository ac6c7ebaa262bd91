"""Metrics of a worker, for Prometheus; no label ever names an agent, a user or a scope."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric, start_http_server
from prometheus_client.core import GaugeMetricFamily

from streams.counts import Count

_COUNTERS: dict[Count, Counter] = {
    "messages": Counter(
        "outlay_stream_messages", "Messages of the source topics applied.", ["stage"]
    ),
    "records": Counter("outlay_stream_records", "Usage records counted.", ["stage"]),
    "late": Counter(
        "outlay_stream_late", "Records or partials of windows forgotten before.", ["stage"]
    ),
    "rejected": Counter("outlay_stream_rejected", "Dead letters.", ["stage"]),
}
_FLUSHES = Histogram(
    "outlay_stream_flush_seconds", "Time that a flush took, in seconds.", ["stage"]
)
_WRITTEN = Counter("outlay_stream_written", "Messages written by flushes.", ["stage"])
_PARTITIONS = Gauge("outlay_stream_partitions", "Partitions owned.", ["stage"])


def count(stage: str, counts: Mapping[Count, int]) -> None:
    """Add what a stage has seen."""
    for name, amount in counts.items():
        if amount:
            _COUNTERS[name].labels(stage).inc(amount)


def flushed(stage: str, seconds: float, written: int) -> None:
    """One flush was executed: how long it took, and how many messages it wrote."""
    _FLUSHES.labels(stage).observe(seconds)
    _WRITTEN.labels(stage).inc(written)


def owns(stage: str, partitions: int) -> None:
    """How many partitions of a stage this worker owns."""
    _PARTITIONS.labels(stage).set(partitions)


class _Positions:
    """Collects the positions when they are asked for, not when they move."""

    def __init__(self, positions: Callable[[], Mapping[tuple[str, int], int]]) -> None:
        self._positions = positions

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "outlay_stream_position",
            "The next offset to apply, by partition of a source topic; the group's committed "
            "offset follows it by what is not flushed.",
            labels=["topic", "partition"],
        )
        for (topic, partition), position in sorted(self._positions().items()):
            family.add_metric([topic, str(partition)], position)
        yield family


def watch_positions(positions: Callable[[], Mapping[tuple[str, int], int]]) -> None:
    """Publish what these are, whenever the metrics are read."""
    REGISTRY.register(_Positions(positions))


def serve(host: str, port: int) -> None:
    """Serve the metrics over HTTP, in a thread of its own."""
    start_http_server(port, host)
