"""Following a topic: what the followers of decisions and of alert configurations have in common."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from outlay.background import cancelled
from outlay.connecting import Pauses
from outlay.counting import QuietLog
from outlay.errors import OutlayError
from outlay.reading import Reader

_R = TypeVar("_R", bound=Reader)


class TopicFollower(Generic[_R]):
    """Reads a topic from its beginning and then on; all of it runs on the background loop.

    When reading cannot go on it begins anew, with another reader, until it is stopped. A follower
    says in `_follow` what it makes of the messages.

    Args:
        reader_factory: makes the connection.
        what: what is read, for the log.
        logger: where it is said that it cannot be read.
    """

    def __init__(self, reader_factory: Callable[[], _R], what: str, logger: logging.Logger) -> None:
        self.skipped = 0
        self.problem = "it was not started"
        self._reader_factory = reader_factory
        self._what = what
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

    async def _follow(self, reader: _R) -> None:
        """Read until that cannot go on; raises why."""
        raise NotImplementedError

    def _left(self) -> None:
        """Told when a reader is given up, before it is stopped."""

    async def _moved(self) -> None:
        """Return when messages came in."""
        if self._progress is None:
            self._progress = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._progress)

    def _tell_waiting(self) -> None:
        if self._progress is not None:
            self._progress.set_result(None)
            self._progress = None

    async def _run(self) -> None:
        while True:
            reader = self._reader_factory()
            try:
                await self._follow(reader)
            except Exception as error:
                self.problem = str(error) if isinstance(error, OutlayError) else repr(error)
                self._log_away.warning(
                    "%s cannot be read now, it is tried on: %s", self._what, self.problem
                )
            finally:
                self._left()
                await reader.stop()
            await self._pauses.pause()
