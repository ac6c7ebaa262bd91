"""Window: the calendar day or month that a total is kept for, in UTC.

A window is named by its date, `2026-11-21` or `2026-11`; names of one kind sort by time. There
is no reset job: a new window is a new key. Days are counted by their proleptic Gregorian ordinal
(`date.toordinal`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal

WindowKind = Literal["day", "month"]

DAY_RETENTION_DAYS = 40
"""How long the total of a day is kept after it, in days."""

MONTH_RETENTION_MONTHS = 14
"""How long the total of a month is kept after it, in months."""

CLOCK_SKEW_S = 300.0
"""How long decisions tell a window after its end, for readers whose clocks lag, in seconds."""

_NAMES_CACHE_MAX = 4_096  # days whose names are kept ready: eleven years
_NAME = re.compile(r"\d{4}-\d{2}(-\d{2})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Window:
    """One calendar day or month in UTC: from `start`, up to and without `end`.

    >>> month = Window("2026-02")
    >>> month.end.isoformat(), month.next.name
    ('2026-03-01T00:00:00+00:00', '2026-03')
    """

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"not a window: {self.name!r}, write 2026-11-21 or 2026-11")
        try:
            date.fromisoformat(self.name if self.kind == "day" else f"{self.name}-01")
        except ValueError:
            raise ValueError(f"not a window: {self.name!r} is not in the calendar") from None

    @classmethod
    def day(cls, at: datetime) -> Window:
        """The day that an aware datetime falls in."""
        return cls(window_names(day_ordinal(at))[0])

    @classmethod
    def month(cls, at: datetime) -> Window:
        """The month that an aware datetime falls in."""
        return cls(window_names(day_ordinal(at))[1])

    @property
    def kind(self) -> WindowKind:
        return "day" if len(self.name) == len("2026-11-21") else "month"

    @property
    def start(self) -> datetime:
        """Its first instant."""
        text = self.name if self.kind == "day" else f"{self.name}-01"
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)

    @property
    def end(self) -> datetime:
        """The first instant after it.

        Raises:
            OverflowError: it is the last one that a `datetime` can hold.
        """
        if self.kind == "day":
            return self.start + timedelta(days=1)
        return (self.start + timedelta(days=31)).replace(day=1)

    @property
    def next(self) -> Window:
        """The window after it, of the same kind."""
        return Window.day(self.end) if self.kind == "day" else Window.month(self.end)

    def __str__(self) -> str:
        return self.name


def day_ordinal(at: datetime) -> int:
    """The UTC day that an aware datetime falls in.

    Raises:
        ValueError: a datetime without a zone.
        OverflowError: its UTC date is before year 1 or after year 9999.
    """
    if at.tzinfo is not UTC:
        if at.utcoffset() is None:
            raise ValueError(f"a time needs a zone: {at.isoformat()}")
        at = at.astimezone(UTC)
    return at.toordinal()


@lru_cache(maxsize=_NAMES_CACHE_MAX)
def window_names(day: int) -> tuple[str, str]:
    """The names of the day and of the month that a day ordinal falls in."""
    name = date.fromordinal(day).isoformat()
    return name, name[:7]


def told_windows(now: datetime) -> list[str]:
    """The windows that a reader may take for the current ones, and those that follow."""
    today = now.toordinal()
    lagging = (now - timedelta(seconds=CLOCK_SKEW_S)).toordinal()
    return sorted({*window_names(lagging), *window_names(today), *window_names(today + 1)})


@lru_cache(maxsize=_NAMES_CACHE_MAX)
def floor_names(day: int) -> tuple[str, str]:
    """The oldest day and the oldest month that are kept on a day; older windows are forgotten."""
    today = date.fromordinal(day)
    months = max(today.year * 12 + today.month - 1 - MONTH_RETENTION_MONTHS, 12)
    oldest_day = date.fromordinal(max(day - DAY_RETENTION_DAYS, 1))
    return oldest_day.isoformat(), f"{months // 12:04d}-{months % 12 + 1:02d}"


def is_forgotten(window: str, floor: tuple[str, str]) -> bool:
    """Whether a window's name is below the floor of its kind (see `floor_names`)."""
    return window < (floor[0] if len(window) > 7 else floor[1])
