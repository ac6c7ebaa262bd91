"""Metrics of the API, for Prometheus. Labels name routes by their template, never an id."""

from __future__ import annotations

import time
from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import described

router = APIRouter(tags=["health"], responses=described())

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


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
        self._feed_age = Gauge(
            "outlay_api_feed_age_seconds",
            "Since when the most silent partition of the decisions feed is silent.",
            registry=self.registry,
        )
        self._feed_ready = Gauge(
            "outlay_api_feed_ready",
            "Whether the decisions feed has caught up: 1 or 0.",
            registry=self.registry,
        )

    def watch_feed(self, age_s: Callable[[], float], ready: Callable[[], bool]) -> None:
        """Show these whenever the metrics are read."""
        self._feed_age.set_function(age_s)
        self._feed_ready.set_function(lambda: float(ready()))


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Everything counted here, in Prometheus' text format."""
    registry = request.app.state.metrics.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class Measured:
    """ASGI middleware that counts and times every request."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def measured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, measured)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path_format", "unmatched")
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(method, route).observe(time.perf_counter() - started)
