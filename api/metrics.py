"""Metrics of the API, for Prometheus. Labels name routes by their template, never an id."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from api.problems import described

if TYPE_CHECKING:
    from api.usage import UsageService

router = APIRouter(tags=["health"], responses=described())


class ApiMetrics:
    """Counters of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "outlay_api_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "outlay_api_request_seconds",
            "Time to answer a request.",
            ["method", "route"],
            registry=self.registry,
        )
        self.auth_failures = Counter(
            "outlay_api_auth_failures",
            "Requests without a key in force.",
            ["reason"],
            registry=self.registry,
        )
        self.in_progress = self._gauge(
            "requests_in_progress", "Requests that are being answered, streams included."
        )
        self._feed_age = self._gauge(
            "feed_age_seconds",
            "Since when the most silent partition of the decisions feed is silent.",
        )
        self._feed_ready = self._gauge(
            "feed_ready", "Whether the decisions feed has caught up: 1 or 0."
        )
        self._feed_lag = self._gauge(
            "feed_lag_seconds",
            "How old the decisions are at most that are known, by the clocks of the workers.",
        )
        self._streams = self._gauge("decision_streams", "Streams of decisions that are open.")
        self._usage_requests = self._gauge(
            "usage_in_flight_requests", "Requests whose records the broker has not acknowledged."
        )
        self._usage_records = self._gauge(
            "usage_in_flight_records", "Records that the broker has not acknowledged."
        )
        self._usage_bytes = self._gauge(
            "usage_in_flight_bytes", "Bytes of records that the broker has not acknowledged."
        )
        self._repeats_bytes = self._gauge(
            "usage_repeats_bytes", "Bytes that the remembered Idempotency-Keys of usage take."
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"outlay_api_{name}", text, registry=self.registry)

    def watch_feed(
        self, age_s: Callable[[], float], ready: Callable[[], bool], lag_s: Callable[[], float]
    ) -> None:
        """Show these whenever the metrics are read."""
        self._feed_age.set_function(age_s)
        self._feed_ready.set_function(lambda: float(ready()))
        self._feed_lag.set_function(lag_s)

    def watch_streams(self, count: Callable[[], int]) -> None:
        """Show how many streams are open."""
        self._streams.set_function(count)

    def watch_usage(self, usage: UsageService) -> None:
        """Show what a service holds."""
        held = usage.ingest.held
        self._usage_requests.set_function(lambda: held.requests)
        self._usage_records.set_function(lambda: held.records)
        self._usage_bytes.set_function(lambda: held.size_bytes)
        self._repeats_bytes.set_function(lambda: usage.repeats.held_bytes)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Everything counted here, in Prometheus' text format."""
    registry = request.app.state.metrics.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
