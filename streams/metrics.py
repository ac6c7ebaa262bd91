"""Metrics of a worker, for Prometheus; no label ever names an agent, a user or a scope."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram, start_http_server

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


def serve(host: str, port: int) -> None:
    """Serve the metrics over HTTP, in a thread of its own."""
    start_http_server(port, host)
