"""The feed over an in-memory stream: the real one, but for where its messages come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from outlay.errors import FeedNotReady
from outlay.feed import STALE_AFTER_S, DecisionFeed
from outlay.feed_state import FeedState
from outlay.following import Follower
from outlay.reading import Message, Reader
from outlay.testing.memory_broker import MemoryBroker

__all__ = ["InMemoryFeed"]

_T = TypeVar("_T")


class InMemoryFeed(DecisionFeed):
    """A `DecisionFeed` that is handed its messages, in the thread in which they come about.

    Nothing here waits: what is not there now would not come by waiting, so `wait_ready` and the
    others say at once what they say otherwise at the end of their bound. Ages are those of the
    stream's clock. Get one from `InMemoryStream`.
    """

    def __init__(self, broker: MemoryBroker, *, stale_after_s: float = STALE_AFTER_S) -> None:
        clock = broker.clock
        super().__init__(
            "in-memory", stale_after_s=stale_after_s, monotonic=clock.monotonic, wall=clock.time
        )
        self._broker = broker
        self._messages = _MemoryFollower(_no_reader, clock.monotonic, clock.time)
        self._follower = self._messages

    def start(self) -> None:
        """Begin to follow; it is ready at once, unless the broker is away."""
        with self._broker.lock:
            if self in self._broker.feeds:
                return
            self._messages.begin()
            self._broker.feeds = (*self._broker.feeds, self)
        self._broker.work()

    def close(self) -> None:
        """Stop following; what is known stays to be read. A second call does nothing."""
        with self._broker.lock:
            if self in self._broker.feeds:
                left = tuple(feed for feed in self._broker.feeds if feed is not self)
                self._broker.feeds = left
                self._messages.end()

    async def aclose(self) -> None:
        """`close` for code in an event loop."""
        self.close()

    def wait_until(self, look: Callable[[], _T | None], timeout_s: float) -> _T:
        """What `look` finds now.

        Raises:
            TimeoutError: it finds nothing.
            FeedNotReady: the feed is not started.
        """
        if self not in self._broker.feeds:
            raise FeedNotReady("the decisions feed is not started")
        found = look()
        if found is None:
            raise TimeoutError("it is not there, and nothing here comes by waiting")
        return found

    async def await_until(self, look: Callable[[], _T | None], timeout_s: float) -> _T:
        """`wait_until` for code in an event loop."""
        return self.wait_until(look, timeout_s)

    # -- what the broker calls

    def catch_up(self) -> None:
        """Read what the topic holds, unless that was done."""
        topic = self._broker.decisions
        if not self._messages.caught_up:
            self._messages.load(topic.messages(), topic.partitions)

    def take(self, message: Message) -> None:
        """Read one more message, if it has caught up before."""
        if self._messages.caught_up:
            self._messages.take(message)


class _MemoryFollower(Follower):
    """A `Follower` that is handed its messages and runs nowhere."""

    caught_up = False

    def begin(self) -> None:
        """It is started, and has read nothing yet."""
        self.caught_up = False
        self.problem = "the broker is away"

    def load(self, messages: Sequence[Message], partitions: int) -> None:
        """Take in what a topic holds; from then on that is what is known."""
        state = FeedState(partitions)
        for message in messages:
            self._apply(state, message)
        self._adopt(state)
        self.caught_up = True

    def take(self, message: Message) -> None:
        """Take one message in, and tell the listeners what it changes."""
        self._apply(self.state, message)

    def end(self) -> None:
        """It follows no more."""
        self.caught_up = False
        self.problem = "it was closed"


def _no_reader() -> Reader:
    raise AssertionError("an in-memory feed connects to nothing")
