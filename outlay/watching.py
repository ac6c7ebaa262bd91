"""Watching: being told what becomes of the records that an emitter takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from logging import Logger
from typing import Any, Protocol

from outlay.usage import UsageRecord

WATCHERS_MAX = 100
"""How many watchers an emitter takes."""


class SpendWatcher(Protocol):
    """Told of an emitter's records; `emitted` where `emit` was called, else in the background."""

    def emitted(self, record: UsageRecord | None, fields: dict[str, Any], at_s: float, /) -> None:
        """Emitted is a record, or the fields of one, at a time in seconds since the epoch.

        Fields without an id are given one, by which the record is known again.
        """

    def delivered(self, partition: int, offset: int, records: Sequence[UsageRecord], /) -> None:
        """Records have arrived as one message of the usage topic; the offset may be -1."""

    def failed(self, records: Sequence[UsageRecord], /) -> None:
        """Records could not be delivered, and are not tried again."""

    def invalid(self, record_id: object, /) -> None:
        """What was emitted under an id is no valid record."""

    def ended(self) -> None:
        """The emitter is closed: what it has not delivered will not be."""


class Watchers:
    """The watchers of one emitter; they may come and go in any thread while others are told.

    `all` is replaced and never changed: an emit reads it without a call or a lock.
    """

    def __init__(self, logger: Logger) -> None:
        self.all: tuple[SpendWatcher, ...] = ()
        self._lock = threading.Lock()
        self._logger = logger

    def add(self, watcher: SpendWatcher) -> None:
        """Tell one more.

        Raises:
            ValueError: there are `WATCHERS_MAX` already.
        """
        with self._lock:
            if len(self.all) >= WATCHERS_MAX:
                raise ValueError(f"an emitter takes at most {WATCHERS_MAX} watchers")
            self.all = (*self.all, watcher)

    def remove(self, watcher: SpendWatcher) -> None:
        """Tell one no more; nothing happens when it is not there."""
        with self._lock:
            self.all = tuple(each for each in self.all if each is not watcher)

    def tell(self, tell: Callable[[SpendWatcher], object]) -> None:
        """Tell each; a mistake of a watcher's is logged, and neither loses nor stops anything."""
        for watcher in self.all:
            try:
                tell(watcher)
            except Exception:
                self._logger.exception("a watcher failed")
