"""What one client of the stream of decisions is told, as blocks of server-sent events."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from datetime import UTC
from decimal import Decimal
from functools import lru_cache
from typing import Any

from fastapi.sse import format_sse_event

from api.decision_hub import DecisionHub, Subscription
from outlay.budget import Budget
from outlay.decision import Decision, encode
from outlay.standing import KnownBudget

HEARTBEAT_S = 15.0
"""How long a stream is silent at most, in seconds; a key that is revoked is noticed then, too."""

RETRY_MS = 2_000
"""After how long a client connects again, in milliseconds."""

CHUNK_EVENTS_MAX = 100
"""How many events are sent at once; other requests have their turn between."""

EVENTS_CACHE_MAX = 1_000
"""How many events are kept ready for further clients."""

_ID = re.compile(r"(\d{1,15})-([0-9a-f]{8})", re.ASCII)


class Teller:
    """Writes what one client is told, as blocks of the event stream."""

    def __init__(
        self, hub: DecisionHub, subscription: Subscription, may_go_on: Callable[[], bool]
    ) -> None:
        self._hub = hub
        self._subscription = subscription
        self._may_go_on = may_go_on
        # So that an id is of use for the same filter alone.
        self._filter = f"{zlib.crc32((subscription.prefix or '').encode()):08x}"

    async def blocks(self, last_event_id: str | None) -> AsyncGenerator[bytes, None]:
        """All blocks, until the subscription ends, or the key is in force no more."""
        async with aclosing(self._blocks(last_event_id)) as blocks:
            async for block in blocks:
                if not self._may_go_on():  # each time: a client may take long to read one
                    return
                yield block

    async def _blocks(self, last_event_id: str | None) -> AsyncGenerator[bytes, None]:
        subscription = self._subscription
        yield format_sse_event(retry=RETRY_MS)
        async for chunk in self._catch_up(self._told_ms(last_event_id)):
            yield chunk
        while not subscription.ended:
            if not await subscription.news(HEARTBEAT_S):
                yield format_sse_event(comment="alive", id=self._id())
            elif subscription.overflowed:
                subscription.overflowed = False
                async for chunk in self._catch_up(None):
                    yield chunk
            else:
                async for chunk in self._changes():
                    yield chunk

    async def _changes(self) -> AsyncGenerator[bytes, None]:
        told = self._id()  # before they are taken: it is true of all that is taken
        taken = self._subscription.take()
        last = next(reversed(taken), None)
        events = (self._event(key, told if key == last else None) for key in taken)
        async for chunk in _chunks(events):
            yield chunk

    async def _catch_up(self, told_ms: int | None) -> AsyncGenerator[bytes, None]:
        """Everything, or what was published after a time, where that can be answered."""
        hub, subscription = self._hub, self._subscription
        told = self._id()
        # To go through the budgets of all takes a while, in which others are to be answered: who
        # connects again and again must not stop them.
        missed = None
        if told_ms is not None:
            missed = await asyncio.to_thread(hub.missed, subscription, told_ms)
        if missed is None:
            yield format_sse_event(event="reset", data_str="{}")
            missed = await asyncio.to_thread(hub.all_of, subscription)
        async for chunk in _chunks(self._event(key) for key in missed):
            yield chunk
        yield format_sse_event(event="synced", data_str="{}", id=told)

    def _event(self, scope_key: str, told: str | None = None) -> bytes:
        """What is known of a scope now, which may be newer than what was to be told of it."""
        known = self._hub.decisions.get(scope_key)
        block = _deleted(scope_key) if known is None else _decided(known)
        return block if told is None else block[:-1] + f"id: {told}\n\n".encode()

    def _id(self) -> str | None:
        complete_ms = self._hub.complete_ms
        return None if complete_ms is None else f"{complete_ms}-{self._filter}"

    def _told_ms(self, last_event_id: str | None) -> int | None:
        found = _ID.fullmatch(last_event_id or "")
        return int(found[1]) if found and found[2] == self._filter else None


async def _chunks(events: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    """The events, some at a time."""
    chunk: list[bytes] = []
    for event in events:
        chunk.append(event)
        if len(chunk) >= CHUNK_EVENTS_MAX:
            yield b"".join(chunk)
            chunk.clear()
            await asyncio.sleep(0)
    if chunk:
        yield b"".join(chunk)


def _deleted(scope_key: str) -> bytes:
    return format_sse_event(event="deleted", data_str=encode({"scope": scope_key}).decode())


@lru_cache(maxsize=EVENTS_CACHE_MAX)
def _decided(known: KnownBudget) -> bytes:
    return format_sse_event(event="decision", data_str=decision_json(known.decision))


def decision_json(decision: Decision) -> str:
    """The data of a decision's event, a `DecisionBody`: its public part."""
    windows = {
        name: {
            "cost_usd": usage.cost_usd,
            "executions": usage.executions,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
        }
        for name, usage in decision.windows.items()
    }
    body = {
        "scope": decision.scope,
        "version": decision.version,
        "state": decision.state,
        "budget": _fields(decision.budget),
        "windows": windows,
        "published_at": decision.published_at.astimezone(UTC),
    }
    return encode(body).decode()


def _fields(budget: Budget) -> dict[str, Any]:
    values = {name: getattr(budget, name) for name in Budget.__struct_fields__}
    plain = {
        name: format(value, "f") if isinstance(value, Decimal) else value
        for name, value in values.items()
    }
    return {**plain, "timezone": "UTC"}
