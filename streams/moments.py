"""Moments: the worker's time, and what it says of windows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from outlay.forecasting import Course, course_of
from outlay.looking import Moment
from outlay.window import Window, WindowKind, window_names


def kind_of(window: str) -> WindowKind:
    """The kind of a window, from its name."""
    return "day" if len(window) > len("2026-11") else "month"


class Now(NamedTuple):
    """The worker's time, and what it says of the current windows."""

    at: datetime
    ms: int
    day: str
    month: str
    courses: dict[str, Course]

    @property
    def phase(self) -> tuple[str, list[bool]]:
        """What changes when a window begins, or is old enough for a projection."""
        return self.day, [course.is_mature for course in self.courses.values()]

    def has_begun(self, window: str) -> bool:
        """Whether a window is the current one of its kind, or is over."""
        return window <= (self.day if kind_of(window) == "day" else self.month)

    def moment(self, window: str) -> Moment:
        """When a window is looked at."""
        course = self.courses.get(window)
        if course is None:
            return Moment(self.ms, 0, False, None)
        start_ms = int(Window(window).start.timestamp()) * 1000
        return Moment(self.ms, start_ms, True, course if course.is_mature else None)


def now_of(now_ms: int) -> Now:
    """The worker's time, from milliseconds since the epoch."""
    at = datetime.fromtimestamp(now_ms / 1000, UTC)
    day, month = window_names(at.toordinal())
    return Now(at, now_ms, day, month, {w: course_of(Window(w), at) for w in (day, month)})
