"""Connections: how many there may be, and how long one may take to say what it wants.

uvicorn bounds how long an idle connection is kept, but not how long the head of a request may
take to come: whoever sends a byte now and then, or none at all, would hold one for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.headers import SECURITY_HEADERS
from api.observing import QUIET_ROUTES
from api.problems import problem
from schemas.settings import Settings

HEAD_TIMEOUT_S = 10.0
"""How long the head of a request may take to come, from the connection or its first byte on."""

HEAD_BYTES_MAX = 32_768
"""How long it may be; a scope's key alone may have 10 kB."""

KEEP_ALIVE_TIMEOUT_S = 20
"""How long a connection is kept between requests, in seconds."""

BACKLOG_MAX = 1_024
"""How many connections the system holds that were not taken yet."""

REFUSED_CONNECTIONS_MAX = 50
"""How many beyond the bound are told so at a time; more are cut off at once."""

SHUTDOWN_TIMEOUT_S = 10
"""How long open requests may take at a stop, in seconds."""


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with bounds on heads and on connections."""

    connections_max = 0  # see `server_config`
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        beyond = len(self.connections) - self.connections_max
        if beyond > REFUSED_CONNECTIONS_MAX:
            transport.abort()
        elif beyond > 0:
            self.app = _TooMany(self.app)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """A request was answered; the next may have begun to come already."""
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        """Run the timer while a head is due, unless that of keep-alive runs."""
        if self.conn.their_state is not h11.IDLE or self.timeout_keep_alive_task is not None:
            self._unwatch()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _unwatch(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _TooMany:
    """Answers instead of the app, but for what says whether it lives."""

    def __init__(self, app: Any) -> None:
        self._app: ASGIApp = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in QUIET_ROUTES:
            await self._app(scope, receive, send)
            return
        headers = SECURITY_HEADERS | {"Connection": "close"}
        detail = "this process has as many connections as it may: come again"
        refusal = problem(scope["path"], "too-many-connections", detail, headers=headers)
        await refusal(scope, receive, send)


def server_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """How the app is served."""

    class Protocol(BoundedProtocol):
        connections_max = settings.api_connections_max

    return uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        lifespan="on",
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,  # `api.observing` has its own
        server_header=False,
        backlog=BACKLOG_MAX,
        timeout_keep_alive=KEEP_ALIVE_TIMEOUT_S,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
    )
