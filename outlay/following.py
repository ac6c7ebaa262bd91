"""Following: the feed's background half. It reads the decisions topic for as long as it is let.

Everything here runs on the background loop, except where a method says otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

from outlay.background import cancelled
from outlay.connecting import START_TIMEOUT_S, Pauses
from outlay.counting import QuietLog
from outlay.decision import Decision
from outlay.errors import OutlayError
from outlay.feed_state import Change, FeedState, changes_between
from outlay.reading import Message, Reader, ReaderFactory

logger = logging.getLogger("outlay.feed")

_T = TypeVar("_T")


class OnDecision(Protocol):
    """Told of each change, on the background thread: be quick and do not wait."""

    def __call__(self, scope_key: str, decision: Decision | None, /) -> None: ...


class Follower:
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
        self.state = FeedState(0)
        self.skipped = 0
        self.problem = "it was not started"
        self.listeners: tuple[OnDecision, ...] = ()
        self._reader_factory = reader_factory
        self._monotonic = monotonic
        self._wall = wall
        self._pauses = Pauses()
        self._progress: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._log_away = QuietLog(logger)
        self._log_skipped = QuietLog(logger)

    def start(self) -> None:
        """Begin to follow."""
        self.problem = "it has not caught up yet"
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End it; what is known stays to be read."""
        if self._task is not None:
            await cancelled(self._task)
        self.problem = "it was closed"

    async def until(self, look: Callable[[], _T | None]) -> _T:
        """What `look` finds; it is asked again whenever messages came in."""
        while (found := look()) is None:
            if self._progress is None:
                self._progress = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._progress)
        return found

    async def _run(self) -> None:
        while True:
            reader = self._reader_factory()
            try:
                await self._follow(reader)
            except Exception as error:
                self.problem = str(error) if isinstance(error, OutlayError) else repr(error)
                self._log_away.warning(
                    "decisions cannot be read now, it is tried on: %s", self.problem
                )
            finally:
                await reader.stop()
            await self._pauses.pause()

    async def _follow(self, reader: Reader) -> None:
        async with asyncio.timeout(START_TIMEOUT_S):
            ends = await reader.start()
        state = FeedState(len(ends))
        while reader.partitions in (0, state.partitions):  # 0: not known, while brokers are away
            for message in await reader.read():
                self._apply(state, message)
            if not state.ready and await _caught_up(reader, ends):
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

    def _tell_waiting(self) -> None:
        if self._progress is not None:
            self._progress.set_result(None)
            self._progress = None


async def _caught_up(reader: Reader, ends: dict[int, int]) -> bool:
    for partition, end in ends.items():
        if await reader.position(partition) < end:
            return False
    return True
