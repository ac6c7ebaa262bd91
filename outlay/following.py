"""Following: the feed's background half. It reads the decisions topic for as long as it is let.

Everything here runs on the background loop, except where a method says otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

from outlay.connecting import START_TIMEOUT_S
from outlay.decision import Decision
from outlay.errors import OutlayError
from outlay.feed_state import Change, FeedState, changes_between
from outlay.reading import Message, Reader, ReaderFactory, reached
from outlay.topic_following import TopicFollower

logger = logging.getLogger("outlay.feed")

_T = TypeVar("_T")


class OnDecision(Protocol):
    """Told of each change, on the background thread: be quick and do not wait."""

    def __call__(self, scope_key: str, decision: Decision | None, /) -> None: ...


class Follower(TopicFollower[Reader]):
    """Reads the topic from its beginning and keeps `state`.

    When reading cannot go on, and when the topic's partitions are others than before, it begins
    anew with an empty state, which replaces the old one only when it has caught up: what is known
    stays known meanwhile.
    """

    def __init__(
        self,
        reader_factory: ReaderFactory,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        super().__init__(reader_factory, "decisions", logger)
        self.state = FeedState(0)
        self.listeners: tuple[OnDecision, ...] = ()
        self._monotonic = monotonic
        self._wall = wall

    async def until(self, look: Callable[[], _T | None]) -> _T:
        """What `look` finds; it is asked again whenever messages came in."""
        while (found := look()) is None:
            await self._moved()
        return found

    async def _follow(self, reader: Reader) -> None:
        async with asyncio.timeout(START_TIMEOUT_S):
            ends = await reader.start()
        state = FeedState(len(ends))
        while reader.partitions in (0, state.partitions):  # 0: not known, while brokers are away
            for message in await reader.read():
                self._apply(state, message)
            if not state.ready and await reached(reader, ends):
                self._adopt(state)
            self._tell_waiting()
        raise OutlayError("the decisions topic has other partitions than before, it is read anew")

    def _apply(self, state: FeedState, message: Message) -> None:
        try:
            change = state.apply(message, self._monotonic(), self._wall())
        except Exception as error:
            self.skipped += 1
            self._log_skipped.warning(
                "a message of the decisions topic is skipped, partition %d, offset %d: %s",
                message.partition,
                message.offset,
                error,
            )
        else:
            if change is not None and state is self.state:
                self._notify(change)

    def _adopt(self, state: FeedState) -> None:
        """From now on the new state is what is known."""
        state.ready = True
        self._pauses.reset()
        old, self.state = self.state, state
        for request_id, outcome in old.outcomes.items():  # a topic read anew holds the last only
            state.outcomes.setdefault(request_id, outcome)
        for change in changes_between(old, state):
            self._notify(change)

    def _notify(self, change: Change) -> None:
        for listener in self.listeners:
            try:
                listener(*change)
            except Exception:
                logger.exception("a listener of the decisions feed failed")
