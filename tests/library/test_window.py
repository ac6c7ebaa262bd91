"""Windows: the calendar day or month, in UTC, that a time falls in."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay import Window
from outlay.window import (
    DAY_RETENTION_DAYS,
    MONTH_RETENTION_MONTHS,
    day_ordinal,
    floor_names,
    is_forgotten,
    told_windows,
    window_names,
)

days = st.dates(date(1900, 1, 1), date(9000, 12, 31))
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.builds(
    lambda day, seconds, zone: (
        datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(seconds=seconds)
    ),
    days,
    st.integers(0, 86_399),
    zones,
)


@given(times)
def test_a_time_falls_in_the_window_of_its_utc_date(at):
    """Whatever its zone, a time is in the day and the month whose bounds enclose it."""
    for window in (Window.day(at), Window.month(at)):
        assert window.start <= at < window.end
    utc = at.astimezone(UTC)
    assert Window.day(at).name == utc.strftime("%Y-%m-%d")
    assert Window.month(at).name == utc.strftime("%Y-%m")


@given(days)
def test_windows_follow_each_other_without_gap(day):
    """The next window begins where this one ends, and its name sorts after it."""
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    for window in (Window.day(at), Window.month(at)):
        assert window.next.start == window.end
        assert window.next.kind == window.kind
        assert window.name < window.next.name


@pytest.mark.parametrize(
    ("name", "following"),
    [
        ("2024-02-28", "2024-02-29"),
        ("2024-02-29", "2024-03-01"),
        ("2023-02-28", "2023-03-01"),
        ("2100-02-28", "2100-03-01"),
        ("2000-02-28", "2000-02-29"),
        ("2026-12-31", "2027-01-01"),
        ("2026-12", "2027-01"),
        ("2024-02", "2024-03"),
    ],
)
def test_leap_years_and_year_ends(name, following):
    """The ends that calendars are known to get wrong."""
    assert Window(name).next.name == following


@pytest.mark.parametrize(
    "name", ["", "2026", "2026-13", "2026-00", "2026-02-30", "2023-02-29", "26-01-01", "٢٠٢٦-01-01"]
)
def test_what_is_no_window_is_refused(name):
    """Only names of days and months that exist."""
    with pytest.raises(ValueError):
        Window(name)


def test_a_time_without_a_zone_is_refused():
    """Nobody can say which day it is then."""
    with pytest.raises(ValueError, match="zone"):
        day_ordinal(datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None))


@given(days)
def test_what_is_kept_and_what_is_forgotten(day):
    """Days for the days of their retention, months for their months, counted by the calendar."""
    floor = floor_names(day.toordinal())
    oldest_day = day - timedelta(days=DAY_RETENTION_DAYS)
    months = day.year * 12 + day.month - 1 - MONTH_RETENTION_MONTHS
    oldest_month = f"{months // 12:04d}-{months % 12 + 1:02d}"
    assert floor == (oldest_day.isoformat(), oldest_month)
    assert not is_forgotten(floor[0], floor)
    assert not is_forgotten(floor[1], floor)
    assert is_forgotten((oldest_day - timedelta(days=1)).isoformat(), floor)
    today = window_names(day.toordinal())
    assert not any(is_forgotten(name, floor) for name in today)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (datetime(2026, 11, 21, 12, tzinfo=UTC), ["2026-11", "2026-11-21", "2026-11-22"]),
        (
            datetime(2026, 12, 1, 0, 4, 59, tzinfo=UTC),
            ["2026-11", "2026-11-30", "2026-12", "2026-12-01", "2026-12-02"],
        ),
        (datetime(2026, 12, 1, 0, 5, tzinfo=UTC), ["2026-12", "2026-12-01", "2026-12-02"]),
        (
            datetime(2026, 11, 30, 23, 59, tzinfo=UTC),
            ["2026-11", "2026-11-30", "2026-12", "2026-12-01"],
        ),
    ],
)
def test_decisions_tell_the_windows_that_a_reader_may_be_in(now, told):
    """Today's, tomorrow's, and for five minutes the last ones."""
    assert told_windows(now) == told
