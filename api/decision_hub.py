"""The hub of the streams of decisions: one listener of the feed, and what each client lacks.

A client is told states, not a history: what it lacks is one entry for each scope, the latest. A
client that is slower than the changes skips those between; one that lacks more than
`PENDING_MAX` is told everything anew.

**Ids.** An event's id is a time: all that was published until then has been told. That time is the
oldest of the last watermarks, which stand behind the decisions of their partitions, so any process
can answer what was published since: it looks at the dates of the decisions that it knows. Workers
date them, and their clocks differ; so what is up to `OVERLAP_S` older is told again. Of deletions
a topic keeps no trace: a process answers for those that it has seen itself, and begins anew
(`reset`) with a client whose id is older than that.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from api.problems import ProblemError
from outlay.decision import Decision
from outlay.feed import DecisionFeed
from outlay.standing import KnownBudget

STREAMS_MAX = 500
"""How many clients one process streams to."""

STREAMS_PER_KEY_MAX = 100
"""How many of them one key may have."""

PENDING_MAX = 10_000
"""How many scopes a client may lack before it is told everything anew."""

DELETED_MAX = 10_000
"""How many deletions are remembered for clients that come back."""

OVERLAP_S = 60.0
"""How much the clocks of workers may differ, in seconds."""


class Subscription:
    """What one client has not been told yet; on the event loop alone.

    Attributes:
        pending: the keys of scopes that have changed, in order.
        overflowed: it lacks too much, and is to be told everything.
        ended: it will be told nothing more.
    """

    def __init__(self, prefix: str | None, owner: str | None) -> None:
        self.prefix = prefix
        self.owner = owner
        self.pending: dict[str, None] = {}
        self.overflowed = self.ended = False
        self._news = asyncio.Event()

    def matches(self, scope_key: str) -> bool:
        """Whether a scope is the one asked for, or within it."""
        prefix = self.prefix
        if prefix is None or scope_key == prefix:
            return True
        return scope_key.startswith(prefix) and scope_key[len(prefix)] == "/"

    def tell(self, scope_keys: Iterable[str]) -> None:
        """Take in what has changed, as far as it is for this client."""
        self.pending.update(dict.fromkeys(filter(self.matches, scope_keys)))
        if len(self.pending) > PENDING_MAX:
            self.overflow()
        elif self.pending:
            self._news.set()

    def overflow(self) -> None:
        """It lacks too much."""
        self.pending.clear()
        self.overflowed = True
        self._news.set()

    def end(self) -> None:
        """Nothing more will be told."""
        self.ended = True
        self._news.set()

    def take(self) -> dict[str, None]:
        """All that it lacks; it is told now."""
        taken, self.pending = self.pending, {}
        return taken

    async def news(self, timeout_s: float) -> bool:
        """Wait until there is something; whether there is."""
        if not (self.pending or self.overflowed or self.ended):
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
        return bool(self.pending) or self.overflowed or self.ended


class DecisionHub:
    """Listens to a feed on its thread, and tells subscriptions on the event loop it was made in."""

    def __init__(self, feed: DecisionFeed) -> None:
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._subscriptions: list[Subscription] = []
        self._closed = False
        self._lock = threading.Lock()
        self._arrived: dict[str, None] = {}  # not handed to the loop yet
        self._deleted: dict[str, int] = {}  # by scope, at the latest watermark before
        self._since_ms: int | None = None  # since when no deletion was missed

    def __enter__(self) -> Self:
        self._feed.add_listener(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._feed.remove_listener(self)
        self.close()

    def close(self) -> None:
        """End all streams, and begin none any more."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.end()

    # -- on the feed's thread

    def __call__(self, scope_key: str, decision: Decision | None, /) -> None:
        """What the feed tells."""
        self._begin()
        if decision is None:
            self._forget(scope_key)
        else:
            self._deleted.pop(scope_key, None)
        if not self._subscriptions:
            return
        with self._lock:
            is_first = not self._arrived
            self._arrived[scope_key] = None
        if is_first:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is told
                self._loop.call_soon_threadsafe(self._hand_over)

    def _forget(self, scope_key: str) -> None:
        times = self._watermarks_ms()
        if not times or self._since_ms is None:
            return
        self._deleted.pop(scope_key, None)
        self._deleted[scope_key] = max(times)
        if len(self._deleted) > DELETED_MAX:
            oldest = next(iter(self._deleted))
            self._since_ms = max(self._since_ms, self._deleted.pop(oldest))

    # -- on the event loop

    def _hand_over(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, {}
        for subscription in self._subscriptions:
            subscription.tell(arrived)

    def subscribe(self, prefix: str | None, owner: str | None) -> Subscription:
        """A new client of a scope and all within it (None: of all), for the key that asks.

        Raises:
            ProblemError: there are too many, or the process stops.
        """
        if self._closed:
            raise ProblemError("too-many-streams", "this process stops: connect again")
        if len(self._subscriptions) >= STREAMS_MAX:
            raise ProblemError("too-many-streams", f"{STREAMS_MAX} streams are open here already")
        if owner is not None:
            own = sum(each.owner == owner for each in self._subscriptions)
            if own >= STREAMS_PER_KEY_MAX:
                text = f"this key has {STREAMS_PER_KEY_MAX} streams open here already"
                raise ProblemError("too-many-streams", text)
        self._begin()
        subscription = Subscription(prefix, owner)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """The client has gone."""
        with contextlib.suppress(ValueError):
            self._subscriptions.remove(subscription)

    @property
    def streams(self) -> int:
        """How many clients there are."""
        return len(self._subscriptions)

    @property
    def decisions(self) -> Mapping[str, KnownBudget]:
        """What the feed knows now: it changes on another thread, so copy it to go through it."""
        return self._feed.decisions

    @property
    def complete_ms(self) -> int | None:
        """Until when the feed knows all that was published; None where it does not say yet."""
        times = self._watermarks_ms()
        return min(times) if times and len(times) >= self._feed.partitions else None

    def missed(self, subscription: Subscription, told_ms: int) -> list[str] | None:
        """The scopes that may have changed, or gone, after a time; None: not known any more.

        Safe beside the event loop.
        """
        since_ms, floor_ms = self._since_ms, told_ms - int(OVERLAP_S * 1000)
        if since_ms is None or floor_ms < since_ms:
            return None
        matches = subscription.matches
        scopes = [
            key for key, at_ms in dict(self._deleted).items() if at_ms >= floor_ms and matches(key)
        ]
        scopes += [
            key
            for key, known in dict(self.decisions).items()
            if matches(key) and known.decision.published_at.timestamp() * 1000 >= floor_ms
        ]
        return scopes

    def all_of(self, subscription: Subscription) -> list[str]:
        """The scopes of a client that have a budget; safe beside the event loop."""
        return list(filter(subscription.matches, dict(self.decisions)))

    def _begin(self) -> None:
        if self._since_ms is None and self._feed.ready and (times := self._watermarks_ms()):
            self._since_ms = max(times)  # the latest: a partition that lags hides no deletion

    def _watermarks_ms(self) -> list[int]:
        watermarks = dict(self._feed.state.watermarks)
        return [int(each.published_at.timestamp() * 1000) for each in watermarks.values()]
