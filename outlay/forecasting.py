"""Forecasting: what a window will have used at its end, if it goes on as it did. Pure.

The rate is that of the window itself, from its start on: nothing before its reset takes part. The
projection is `used * window_s / elapsed_s`, and is compared without being divided.
"""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import NamedTuple

from outlay.window import Window

FORECAST_AGE_SHARE_MIN = Fraction(1, 8)
"""How much of a window must be over before anything is projected: three hours of a day."""

FORECAST_REARM_SHARE = Fraction(19, 20)
"""At or below which share of the limit a projection has recovered."""


class Course(NamedTuple):
    """How far a window has come, and how long it is, in whole seconds."""

    elapsed_s: int
    window_s: int

    @property
    def is_mature(self) -> bool:
        """Whether enough of the window is over for a projection."""
        return self.elapsed_s >= FORECAST_AGE_SHARE_MIN * self.window_s

    def projected(self, used: int) -> int:
        """What the window will have used at its end, rounded up.

        >>> Course(elapsed_s=6 * 3600, window_s=24 * 3600).projected(30)
        120
        """
        return -(-used * self.window_s // self.elapsed_s)

    def exceeded_from(self, limit: int) -> int:
        """The least amount that, used by now, is projected to be above a limit."""
        return limit * self.elapsed_s // self.window_s + 1

    def recovered_to(self, limit: int) -> int:
        """The greatest amount that, used by now, is projected to be within a limit again."""
        share = FORECAST_REARM_SHARE
        return limit * self.elapsed_s * share.numerator // (self.window_s * share.denominator)

    def recovers_at_s(self, used: int, limit: int) -> int | None:
        """After how many seconds that is so if no more is used; None when not in the window."""
        share = FORECAST_REARM_SHARE
        at_s = -(-used * self.window_s * share.denominator // (limit * share.numerator))
        return at_s if at_s <= self.window_s else None


def course_of(window: Window, now: datetime) -> Course:
    """How far a window has come."""
    start = window.start
    return Course(_seconds(start, now), _seconds(start, window.end))


def matures_at_s(window_s: int) -> int:
    """After how many seconds a window is old enough for a projection."""
    share = FORECAST_AGE_SHARE_MIN
    return -(-window_s * share.numerator // share.denominator)


def _seconds(start: datetime, end: datetime) -> int:
    span = end - start
    return span.days * 86_400 + span.seconds
