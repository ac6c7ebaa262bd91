"""Feed: the decisions topic, kept in memory, so that a check is a dictionary look-up."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from outlay import background
from outlay.background import Background, BackgroundEnded
from outlay.closing import Closing
from outlay.decision import Outcome, Watermark
from outlay.errors import BudgetRequestTimeout, FeedNotReady
from outlay.feed_state import FeedState
from outlay.following import Follower, OnDecision
from outlay.reading import KafkaReader, ReaderFactory
from outlay.scope import SCOPE_KEYS_CACHE_MAX
from outlay.standing import KnownBudget
from outlay.topics import TopicNames, partition_of

__all__ = ["DecisionFeed", "OnDecision"]

STALE_AFTER_S = 10.0
READY_TIMEOUT_S = 30.0
OUTCOME_TIMEOUT_S = 30.0

LISTENERS_MAX = 100
"""How many listeners a feed takes."""

CLOSE_TIMEOUT_S = 15.0
"""How long closing may take: longer than the connection's own bound."""

KEPT_KEY_LENGTH_MAX = 512
"""The longest key of a scope whose partition is kept ready, in characters."""

_T = TypeVar("_T")


class DecisionFeed(Closing):
    """Follows the decisions topic in the background: all partitions, from the beginning.

    It may be used from any thread and any event loop; reads take no lock. Once started it goes on
    until it is closed: while the broker is away it grows stale, and what it knows stays.

    Args:
        bootstrap_servers: `host:port`, several separated by commas.
        topics: the names of the topics.
        stale_after_s: how long a partition may be without a watermark, in seconds.
        client_options: more arguments for aiokafka's client: `security_protocol`, `ssl_context`,
            `sasl_…`.
        monotonic: the clock that ages are told by, in seconds.
        wall: the clock that a watermark's date is compared with while loading, in seconds since
            the epoch.
        reader_factory: makes the connection; for tests.

    Raises:
        ValueError: `stale_after_s` is negative or no number.
    """

    def __init__(
        self,
        bootstrap_servers: str = "127.0.0.1:9092",
        *,
        topics: TopicNames | None = None,
        stale_after_s: float = STALE_AFTER_S,
        client_options: Mapping[str, Any] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        reader_factory: ReaderFactory | None = None,
    ) -> None:
        if isinstance(stale_after_s, bool) or not isinstance(stale_after_s, int | float):
            raise ValueError(f"stale_after_s must be a number of seconds, not {stale_after_s!r}")
        if not stale_after_s >= 0:
            raise ValueError(f"stale_after_s must not be negative: {stale_after_s!r}")
        self.topics = topics or TopicNames()
        topic = self.topics.decisions
        self.stale_after_s = stale_after_s
        self.monotonic = monotonic
        self._follower = Follower(
            reader_factory or (lambda: KafkaReader(bootstrap_servers, topic, client_options)),
            monotonic,
            wall,
        )
        self._lock = threading.Lock()
        self._background: Background | None = None

    # -- what is known: from any thread, without waiting

    @property
    def state(self) -> FeedState:
        """All that is known; only to be read, and no longer followed once another replaces it."""
        return self._follower.state

    @property
    def decisions(self) -> Mapping[str, KnownBudget]:
        """What is known of each scope with a budget, by the scope's key; only to be read."""
        return self.state.decisions

    @property
    def ready(self) -> bool:
        """Whether it has caught up with what the topic held when it was started."""
        return self.state.ready

    @property
    def partitions(self) -> int:
        """How many partitions the decisions topic has; 0 before the feed is ready."""
        return self.state.partitions

    @property
    def skipped(self) -> int:
        """How many messages could not be read."""
        return self._follower.skipped

    def watermark(self, partition: int) -> Watermark | None:
        """The last watermark of a partition of the decisions topic."""
        return self.state.watermarks.get(partition)

    def outcome(self, request_id: str) -> Outcome | None:
        """What became of a budget request, if it was seen (the last 10,000 are remembered)."""
        return self.state.outcomes.get(request_id)

    def age_s(self, partition: int) -> float:
        """How long ago the last watermark of a partition was seen, in seconds; or infinity."""
        return self.monotonic() - self.state.seen_s.get(partition, float("-inf"))

    def scope_age_s(self, scope_key: str) -> float:
        """How long ago decisions of this scope were known to be up to date, in seconds.

        It is infinity while the feed is not ready.
        """
        state = self.state
        if not state.ready:
            return float("inf")
        known = state.decisions.get(scope_key)
        if known is not None:
            partition = known.partition
        else:
            # Not kept for a long key, so that whoever asks about scopes at random fills no memory.
            is_long = len(scope_key) > KEPT_KEY_LENGTH_MAX
            find = _partition_of.__wrapped__ if is_long else _partition_of
            partition = find(scope_key, state.partitions)
        return self.age_s(partition)

    def is_stale(self, scope_key: str) -> bool:
        """Whether decisions of this scope may be out of date: no recent watermark, or not ready."""
        return self.scope_age_s(scope_key) > self.stale_after_s

    def add_listener(self, listener: OnDecision) -> None:
        """Have a listener told of each change from now on.

        Raises:
            ValueError: there are `LISTENERS_MAX` already.
        """
        with self._lock:
            if len(self._follower.listeners) >= LISTENERS_MAX:
                raise ValueError(f"a feed takes at most {LISTENERS_MAX} listeners")
            self._follower.listeners = (*self._follower.listeners, listener)

    def remove_listener(self, listener: OnDecision) -> None:
        """Tell a listener no more; nothing happens when it is not there."""
        with self._lock:
            left = tuple(each for each in self._follower.listeners if each != listener)
            self._follower.listeners = left

    # -- starting, waiting, closing

    def start(self) -> None:
        """Begin to follow, in the background; returns at once. A second call does nothing."""
        with self._lock:
            if self._background is None:
                self._background = background.acquire()
                self._background.call(self._follower.start)

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until it has caught up with what the topic held when it was started.

        Raises:
            FeedNotReady: it has not within `timeout_s` seconds; the text says what it is at.
        """
        try:
            self.wait_until(lambda: self.state.ready or None, timeout_s)
        except TimeoutError as error:
            raise self._not_ready(timeout_s, error) from None

    async def await_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """`wait_ready` for code in an event loop."""
        try:
            await self.await_until(lambda: self.state.ready or None, timeout_s)
        except TimeoutError as error:
            raise self._not_ready(timeout_s, error) from None

    def _not_ready(self, timeout_s: float, error: TimeoutError) -> FeedNotReady:
        if isinstance(error, BackgroundEnded):
            return FeedNotReady("the decisions feed was closed before it was ready")
        return FeedNotReady(
            f"the decisions feed is not ready after {timeout_s:g} s: {self._follower.problem}"
        )

    def wait_outcome(self, request_id: str, timeout_s: float = OUTCOME_TIMEOUT_S) -> Outcome:
        """Wait for what became of a budget request.

        Raises:
            BudgetRequestTimeout: nothing was seen within `timeout_s` seconds.
        """
        try:
            return self.wait_until(lambda: self.outcome(request_id), timeout_s)
        except TimeoutError:
            raise _no_outcome(request_id, timeout_s) from None

    async def await_outcome(self, request_id: str, timeout_s: float = OUTCOME_TIMEOUT_S) -> Outcome:
        """`wait_outcome` for code in an event loop."""
        try:
            return await self.await_until(lambda: self.outcome(request_id), timeout_s)
        except TimeoutError:
            raise _no_outcome(request_id, timeout_s) from None

    def wait_until(self, look: Callable[[], _T | None], timeout_s: float) -> _T:
        """Wait until `look` finds something, and return it; asked after each batch of messages.

        Raises:
            TimeoutError: it has not within `timeout_s` seconds.
            FeedNotReady: the feed is not started.
        """
        return self._started().run(self._follower.until(look), timeout_s)

    async def await_until(self, look: Callable[[], _T | None], timeout_s: float) -> _T:
        """`wait_until` for code in an event loop."""
        return await self._started().arun(self._follower.until(look), timeout_s)

    def _started(self) -> Background:
        if self._background is None:
            raise FeedNotReady("the decisions feed is not started")
        return self._background

    def close(self) -> None:
        """Stop following; what is known stays to be read. A second call does nothing."""
        with self._lock:
            holder, self._background = self._background, None
        if holder is not None:
            with contextlib.suppress(TimeoutError):  # it goes on ending in the background
                holder.run(self._follower.stop(), CLOSE_TIMEOUT_S)
            holder.release()

    async def aclose(self) -> None:
        """`close` for code in an event loop."""
        await asyncio.to_thread(self.close)


@lru_cache(maxsize=SCOPE_KEYS_CACHE_MAX)
def _partition_of(scope_key: str, partitions: int) -> int:
    return partition_of(scope_key.encode(), partitions)


def _no_outcome(request_id: str, timeout_s: float) -> BudgetRequestTimeout:
    return BudgetRequestTimeout(
        f"no outcome of budget request {request_id} within {timeout_s:g} s", request_id
    )
