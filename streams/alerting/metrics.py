"""What the delivery of alerts counts, for Prometheus. Base units; no ids and no hosts in labels."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_ATTEMPT_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class AlertMetrics:
    """The counters of one process, in a registry of its own unless one is given."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self.taken = self._counter("taken", "Alerts taken over.")
        self.repeated = self._counter("repeated", "Alerts that had been taken over before.")
        self.rejected = self._counter("rejected", "Messages that are no alerts.")
        self.delivered = self._counter("delivered", "Messages that arrived.", "channel")
        self.retried = self._counter("retried", "Attempts that are made again.", "channel")
        self.failed = self._counter("failed", "Messages that became dead letters.", "channel")
        self.held = self._gauge("held", "Alerts that wait for the end of a cooldown.")
        self.pending = self._gauge("pending", "Messages that have not arrived yet.")
        self.lag = self._gauge(
            "lag_messages", "Alerts not taken over yet, by partition.", "partition"
        )
        self.attempt_seconds = Histogram(
            "outlay_alerts_attempt_seconds",
            "Time of one attempt.",
            ["channel"],
            buckets=_ATTEMPT_BUCKETS_S,
            registry=self.registry,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"outlay_alerts_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"outlay_alerts_{name}", text, labels, registry=self.registry)
