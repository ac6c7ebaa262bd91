"""The stream of decisions: server-sent events of what changes, and of what a client has missed.

The events, whose data is JSON:

- `decision`: a budget's state, as a whole (`DecisionBody`);
- `deleted`: a scope has no budget any more (`DeletedBody`);
- `reset`: forget all scopes you know; the `decision`s up to the next `synced` are all there are;
- `synced`: that was all you lacked; from here on there are changes.

A stream begins with what the client lacks: after a `Last-Event-ID` of the same filter that is all
that was published since, and some of what was before (see `api.decision_hub`); otherwise `reset`
and everything. The same comes again in mid-stream when a client is too slow. An id is set where
all before it has been told, so that a stream may break anywhere. The comments between are signs of
life; they move the id, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse
from starlette.types import Message, Receive, Send
from starlette.types import Scope as AsgiScope

from api.callers import Caller, needs
from api.decision_teller import Teller
from api.live import Live, live
from api.problems import ProblemError, described
from api.services import PREFIX
from outlay.scope import ID_LENGTH_MAX, Scope

SEND_TIMEOUT_S = 30.0
"""How long a client may take nothing before its stream is broken off, in seconds."""

SCOPE_LENGTH_MAX = 10_000
"""The longest key of a scope that is looked at, in characters."""

log = structlog.get_logger("outlay.api")

_EXAMPLE = """\
event: decision
data: {"scope":"organization:acme","version":1,"state":"warning","budget":{},"windows":{},\
"published_at":"2026-11-21T12:00:00Z"}
id: 1795262400000-1c291ca3

event: deleted
data: {"scope":"organization:acme"}
id: 1795262401000-1c291ca3

"""

_EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The events `decision`, `deleted`, `reset` and `synced`",
        "content": {
            EventSourceResponse.media_type: {"schema": {"type": "string"}, "example": _EXAMPLE}
        },
    }
}

router = APIRouter(prefix=PREFIX, tags=["budgets"])


@router.get(
    "/decisions/stream",
    response_class=Response,
    responses=_EVENT_STREAM
    | described("invalid-request", "not-found", "feed-unavailable", "too-many-streams"),
)
async def stream_decisions(
    request: Request,
    caller: Annotated[Caller, Depends(needs("viewer"))],
    have: Annotated[Live, Depends(live)],
    organization_id: Annotated[str | None, Query(min_length=1, max_length=ID_LENGTH_MAX)] = None,
    scope: Annotated[
        str | None,
        Query(max_length=SCOPE_LENGTH_MAX, description="A scope's key: it and all within."),
    ] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Server-sent events of decisions that change, of all scopes that the key may see or a part."""
    prefix = _prefix(caller, organization_id, scope, request.url.path)
    subscription = have.hub.subscribe(prefix, caller.key_id)
    in_force = getattr(request.app.state.authenticate, "in_force", None)
    told = Teller(have.hub, subscription, lambda: in_force is None or in_force(caller))
    return DecisionStream(told.blocks(last_event_id), lambda: have.hub.unsubscribe(subscription))


def _prefix(
    caller: Caller, organization_id: str | None, scope: str | None, path: str
) -> str | None:
    """The key of the scope that all told scopes are within; None: there is no such."""
    if scope is None:
        organization_id = organization_id or caller.organization_id
        if organization_id is None:
            return None
        caller.check(organization_id, path)
        return Scope(organization_id).key
    try:
        wanted = Scope.parse(scope)
    except ValueError as error:
        raise _invalid(str(error)) from None
    caller.check(wanted.organization_id, path)
    if organization_id not in (None, wanted.organization_id):
        raise _invalid("the scope is of another organization than organization_id")
    return wanted.key


def _invalid(message: str) -> ProblemError:
    errors = [{"location": "query.scope", "message": message}]
    return ProblemError("invalid-request", f"query.scope: {message}", errors=errors)


class DecisionStream(EventSourceResponse):
    """An answer of events that breaks off when its client takes nothing any more."""

    def __init__(self, blocks: AsyncGenerator[bytes, None], on_end: Callable[[], None]) -> None:
        super().__init__(blocks, headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"})
        self._blocks = blocks
        self._on_end = on_end

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Send the events until they end, or the client has gone."""

        async def bounded(message: Message) -> None:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await send(message)

        try:
            async with aclosing(self._blocks):
                await super().__call__(scope, receive, bounded)
        except TimeoutError:
            log.info("a stream was broken off: its client takes nothing")
        finally:
            self._on_end()
