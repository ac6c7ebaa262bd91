"""What the history's sinks count, for Prometheus. Base units; no ids in labels."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Lane = Literal["history", "audit", "alerts", "deliveries"]
"""What a sink's metrics are called after; that of usage is the history."""

_PREFIXES: dict[Lane, str] = {
    "history": "outlay_history",
    "audit": "outlay_audit",
    "alerts": "outlay_alert_history",
    "deliveries": "outlay_delivery_history",
}

_INSERT_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class HistoryMetrics:
    """The counters of one sink, in a registry of its own unless one is given."""

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        of: Lane = "history",
    ) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._prefix = _PREFIXES[of]
        self.rows = self._counter("rows", "Rows inserted; a replay inserts some again.")
        self.late = self._counter(
            "late",
            "Rows of records older than the totals keep days; part of rows.",
            shown=of == "history",  # the others have no such rows
        )
        self.rejected = self._counter(
            "rejected", "Records, or whole messages, that do not count and were left out."
        )
        self.batches = self._counter("batches", "Batches whose offsets were committed.")
        self.failures = self._counter(
            "failures", "Attempts at ClickHouse or Kafka that failed and were made again."
        )
        self.discarded = self._counter(
            "discarded", "Rows given up to a partition's next owner before they were committed."
        )
        self.insert_seconds = Histogram(
            f"{self._prefix}_insert_seconds",
            "Time of one insert that succeeded.",
            buckets=_INSERT_BUCKETS_S,
            registry=self.registry,
        )
        self.lag = Gauge(
            f"{self._prefix}_lag_messages",
            "Messages of the topic that are not in the history yet, by partition.",
            ["partition"],
            registry=self.registry,
        )

    def _counter(self, name: str, text: str, *, shown: bool = True) -> Counter:
        registry = self.registry if shown else None
        return Counter(f"{self._prefix}_{name}", text, registry=registry)
