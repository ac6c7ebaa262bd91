"""Periods: days, weeks and months in a time zone, and where one ends and the next begins.

A period begins at a time of the local clock: midnight, on Mondays, on the first; or as an anchor
says. Where the clock skips that time the period begins at the skip, where it shows it twice, with
the first. So the end of each period is the start of the next, and every instant is in one.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from outlay.governance.amounts import aware

Period = Literal["daily", "weekly", "monthly"]

_MIDNIGHT = time()
_MONDAY = date(2001, 1, 1)
_SEARCH_MAX = 5  # how far the local date can be off: a skipped day, and a margin


class _Anchor(NamedTuple):
    """A day and a time of the local clock at which a period begins."""

    day: date
    at: time


CALENDAR = _Anchor(_MONDAY, _MIDNIGHT)  # the first of a month, too


def zone_of(name: object) -> tzinfo:
    """The time zone of an IANA name, such as "Europe/Berlin".

    Raises:
        ValueError: there is none of that name.
    """
    if name == "UTC":
        return UTC
    try:
        if isinstance(name, str):
            return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # a folder of zones, a path, an unknown name
        pass
    raise ValueError(f"timezone must be the IANA name of a time zone, not {name!r}")


def period_boundaries(
    period: Period, now: datetime, zone: tzinfo = UTC, anchor: datetime | None = None
) -> tuple[datetime, datetime]:
    """The start of the period that a time falls in, and the first instant after it, in the zone.

    Args:
        period: "daily", "weekly" or "monthly".
        now: an aware datetime.
        zone: whose local clock says when a period begins.
        anchor: when some period begins: its time of day, for weeks its weekday and for months its
            day as well, in shorter months their last. Midnight, Monday and the first by default.

    Raises:
        ValueError: a datetime without a zone, or a period that leaves the calendar.
    """
    aware("now", now)
    begins = CALENDAR
    if anchor is not None:
        local = aware("period_start", anchor).astimezone(zone)
        begins = _Anchor(local.date(), local.time())
    try:
        moment = now.astimezone(UTC)
        index = _index(period, moment.astimezone(zone).date(), begins)
        for _ in range(_SEARCH_MAX):
            if _start(period, index, zone, begins) <= moment:
                break
            index -= 1
        for _ in range(_SEARCH_MAX):
            if _start(period, index + 1, zone, begins) > moment:
                break
            index += 1
        start, end = (_start(period, i, zone, begins).astimezone(zone) for i in (index, index + 1))
    except (OverflowError, ValueError):
        raise ValueError(f"no whole {period} period around {now.isoformat()}") from None
    return start, end


def _index(period: Period, day: date, begins: _Anchor) -> int:
    """The number of the period that begins on or before a local day, the time of day aside."""
    if period == "daily":
        return day.toordinal()
    if period == "weekly":
        return (day - begins.day).days // 7
    return day.year * 12 + day.month - 1


def _start(period: Period, index: int, zone: tzinfo, begins: _Anchor) -> datetime:
    """When the period of a number begins, in UTC: local times of a zone do not compare."""
    if period == "daily":
        day = date.fromordinal(index)
    elif period == "weekly":
        day = begins.day + timedelta(days=7 * index)
    else:
        year, month = index // 12, index % 12 + 1
        day = date(year, month, min(begins.day.day, monthrange(year, month)[1]))
    return datetime.combine(day, begins.at.replace(fold=0), zone).astimezone(UTC)
