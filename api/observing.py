"""Observing: every request is counted, timed and logged, and has an id.

One line a request, when its answer has ended (that of a stream, too). It says who asked by the
key's id and name, never by the key, and names the route by its template: a path or a query may
hold what is not for a log.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.correlation import REQUEST_ID_HEADER, Account, begin
from api.headers import SECURITY_HEADERS
from api.metrics import ApiMetrics
from api.problems import problem

QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
"""What is asked every few seconds, and is logged at debug."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_REQUEST_ID = REQUEST_ID_HEADER.lower().encode()

log = structlog.get_logger("outlay.api")


class Observed:
    """ASGI middleware around all that answers requests."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        account = begin(scope)
        is_answered = False

        async def observed(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                is_answered = True
                account.status = message["status"]
                told = (_REQUEST_ID, account.request_id.encode())
                message["headers"] = [*message.get("headers", ()), told]
            elif message["type"] == "http.response.body":
                account.size_bytes += len(message.get("body", b""))
            await send(message)

        self._metrics.in_progress.inc()
        try:
            await self._app(scope, receive, observed)
        except asyncio.CancelledError:  # the process stops: it has waited as long as it may
            if is_answered:
                raise
            headers = SECURITY_HEADERS | {"Connection": "close"}
            refusal = problem(scope["path"], "stopping", "this process stops", headers=headers)
            await refusal(scope, receive, observed)
        finally:
            self._metrics.in_progress.dec()
            self._end(scope, account, time.perf_counter() - started_s)

    def _end(self, scope: Scope, account: Account, took_s: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "path_format", "unmatched")
        self._metrics.requests.labels(method, route, str(account.status)).inc()
        self._metrics.seconds.labels(method, route).observe(took_s)
        who = {} if account.caller is None else account.caller.told()
        # Who comes too often must not fill the log; the metrics count it.
        quiet = route in QUIET_ROUTES or account.status == HTTPStatus.TOO_MANY_REQUESTS
        (log.debug if quiet else log.info)(
            "request",
            method=method,
            route=route,
            status=account.status,
            duration_ms=round(took_s * 1000, 3),
            bytes=account.size_bytes,
            **who,
        )
