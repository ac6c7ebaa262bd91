"""Counting and logging that never block the caller."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable

LOG_INTERVAL_S = 60.0
"""A repeated event is logged at most once in this time, in seconds."""


class Counter:
    """A count that any thread can raise without a lock: `next(counter.up)`.

    `next` of an `itertools.count` is one step that no thread can interrupt. It can only be read by
    taking one from it, so reads are counted too and subtracted.
    """

    __slots__ = ("_lock", "_reads", "up")

    def __init__(self) -> None:
        self.up = itertools.count()
        self._reads = 0
        self._lock = threading.Lock()

    @property
    def value(self) -> int:
        """How often it was raised."""
        with self._lock:
            self._reads += 1
            return next(self.up) - self._reads + 1


class QuietLog:
    """Warnings about one kind of event: at most one line in `interval_s` seconds.

    To be used from one thread. Each line says how many were held back since the last.
    """

    def __init__(
        self,
        logger: logging.Logger,
        interval_s: float = LOG_INTERVAL_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._last: float | None = None
        self._held_back = 0

    def warning(self, message: str, *args: object) -> None:
        """Log, or count it as held back."""
        now = self._monotonic()
        if self._last is not None and now - self._last < self._interval_s:
            self._held_back += 1
            return
        if self._held_back:
            message = f"{message} (and {self._held_back} such events since the last line)"
        self._logger.warning(message, *args)
        self._last = now
        self._held_back = 0
