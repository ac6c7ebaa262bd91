"""Clock: the time of an in-memory stream. It stands still until it is moved."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_OUTSIDE = "a clock stays within the years 2 to 9998"


class SettableClock:
    """A clock that moves only when it is told to; all who use it see the same time.

        >>> clock = SettableClock(datetime(2026, 11, 21, 12, tzinfo=UTC))
        >>> clock.advance(hours=13)
        >>> clock.now.isoformat()
        '2026-11-22T01:00:00+00:00'

    Args:
        now: the time to begin with, with a zone; the machine's by default.

    Raises:
        ValueError: a time without a zone, or in the calendar's first or last year.
    """

    def __init__(self, now: datetime | None = None) -> None:
        self._now = datetime.now(UTC) if now is None else _aware(now)
        self._passed = timedelta()
        self._listeners: tuple[Callable[[], object], ...] = ()

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return self._now

    def time(self) -> float:
        """The same in seconds since the epoch, as `time.time` tells it."""
        return self._now.timestamp()

    def monotonic(self) -> float:
        """How much time has passed on it, in seconds; setting it back takes nothing away."""
        return self._passed.total_seconds()

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> None:
        """Let so much time pass.

        Raises:
            ValueError: a negative or infinite time, or one that leads into the last year.
        """
        parts = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        for name, value in parts.items():
            if not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise ValueError(f"{name} must be a time that can pass, not {value!r}")
        try:
            passed = timedelta(**parts)
            self._move(self._now + passed, passed)
        except OverflowError:
            raise ValueError(_OUTSIDE) from None

    def set(self, now: datetime) -> None:
        """Have it show another time, also an earlier one, as clocks that are put right do.

        Raises:
            ValueError: a time without a zone, or in the calendar's first or last year.
        """
        now = _aware(now)
        self._move(now, max(now - self._now, timedelta()))

    def add_listener(self, listener: Callable[[], object]) -> None:
        """Have a function called whenever the clock has been moved."""
        self._listeners = (*self._listeners, listener)

    def _move(self, now: datetime, passed: timedelta) -> None:
        self._now = _inside(now)
        self._passed += passed
        for listener in self._listeners:
            listener()


def _aware(now: datetime) -> datetime:
    if not isinstance(now, datetime) or now.utcoffset() is None:
        raise ValueError(f"a clock needs a datetime with a zone, not {now!r}")
    return _inside(now.astimezone(UTC))


def _inside(now: datetime) -> datetime:
    if not 1 < now.year < 9999:  # where the days before and after exist, too
        raise ValueError(_OUTSIDE)
    return now
