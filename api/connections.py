"""Connections: how many there may be, and how long one may take to say what it wants.

uvicorn bounds how long an idle connection is kept, but not how long the head of a request may
take to come, nor the rest of a body that was answered before it was read, nor how long a client
may take to read its answer: whoever does a byte of it now and then would hold one for ever.
"""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import Any, Literal

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.headers import SECURITY_HEADERS
from api.observing import QUIET_ROUTES
from api.problems import problem
from schemas.settings import Settings

HEAD_TIMEOUT_S = 10.0
"""How long the head of a request may take to come, from the connection or its first byte on, and
what is left of a body when the request is answered."""

HEAD_BYTES_MAX = 32_768
"""How long it may be; a scope's key alone may have 10 kB."""

KEEP_ALIVE_TIMEOUT_S = 20
"""How long a connection is kept between requests, in seconds."""

TAKE_TIMEOUT_S = 30.0
"""In what time a client has to take `TAKEN_BYTES_MIN` of its answers, in seconds."""

TAKEN_BYTES_MIN = 65_536
"""How much that is at least, or all that there is."""

BACKLOG_MAX = 1_024
"""How many connections the system holds that were not taken yet."""

REFUSED_CONNECTIONS_MAX = 50
"""How many beyond the bound are told so at a time; more are cut off at once."""

SHUTDOWN_TIMEOUT_S = 10
"""How long open requests may take at a stop, in seconds."""


_ends_head = re.compile(rb"\n\r?\n").search  # h11 takes a bare line feed, too

_Due = Literal["head", "body"] | None


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with bounds on heads, on connections, and on clients that stand still."""

    connections_max = 0  # see `server_config`
    _due: _Due = None
    _due_timer: asyncio.TimerHandle | None = None
    _take_timer: asyncio.TimerHandle | None = None

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
        self._await(None)
        self._await_taking(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        if self._is_head_too_long(data):
            self.send_400_response(f"the head of the request is over {HEAD_BYTES_MAX} bytes")
            return
        super().data_received(data)
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Say that what came is no HTTP, where that can still be said, and end the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = SECURITY_HEADERS | {"Connection": "close"}
            refusal = problem("", "malformed-request", msg, headers=headers)
            answer = h11.Response(
                status_code=refusal.status_code,
                headers=refusal.raw_headers,
                reason=HTTPStatus(refusal.status_code).phrase.encode(),
            )
            for event in (answer, h11.Data(data=bytes(refusal.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._close()

    def on_response_complete(self) -> None:
        """A request was answered; the next may have begun to come already."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """The client takes less than there is for it."""
        super().pause_writing()
        self._await_taking(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has taken the most of it."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._await_taking(None)

    def timeout_keep_alive_handler(self) -> None:
        """It has not asked again."""
        super().timeout_keep_alive_handler()
        self._close()

    def _is_head_too_long(self, data: bytes) -> bool:
        """Whether what has come of a head is; h11 looks at one only while its end is to come."""
        if self.conn.their_state is not h11.IDLE:
            return False
        before, _ = self.conn.trailing_data
        if len(before) + len(data) <= HEAD_BYTES_MAX:
            return False
        return _ends_head((before + data)[:HEAD_BYTES_MAX]) is None

    def _watch(self) -> None:
        """Run the timer while a head is due, unless that of keep-alive runs, or a body is."""
        due: _Due = None
        if self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None:
            due = "head"
        elif self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE:
            due = "body"  # of a request that is answered: what comes is thrown away
        if due != self._due:
            self._await(due)

    def _await(self, due: _Due) -> None:
        if self._due_timer is not None:
            self._due_timer.cancel()
        self._due, self._due_timer = due, None
        if due is not None:
            self._due_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._close)

    def _close(self) -> None:
        """End it as soon as the client has taken what there is for it, which is not waited long."""
        self.transport.close()
        self._await_taking(self.transport.get_write_buffer_size())

    def _await_taking(self, size_bytes: int | None) -> None:
        """See that the client takes of so many bytes what it has to; None: there is no need."""
        if self._take_timer is not None:
            self._take_timer.cancel()
        self._take_timer = None
        if size_bytes:
            self._take_timer = self.loop.call_later(TAKE_TIMEOUT_S, self._see_taken, size_bytes)

    def _see_taken(self, before_bytes: int) -> None:
        left_bytes = self.transport.get_write_buffer_size()
        if left_bytes > max(before_bytes - TAKEN_BYTES_MIN, 0):
            self.transport.abort()
        else:
            self._await_taking(left_bytes)


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
