"""Periods: every instant is in one, and each ends where the next begins, whatever clocks do."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outlay.governance import ExternalAgentBudgetConfig

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",  # goes back from 01:00 to 00:00
    "America/St_Johns",  # went back from 00:01 to 23:01 of the day before
    "America/Sao_Paulo",  # had days that began at 01:00
    "Australia/Lord_Howe",  # moves by half an hour
    "Asia/Kathmandu",
    "Pacific/Apia",  # skipped the 30th of December 2011
    "Pacific/Kiritimati",
    "Africa/Cairo",
)
STEP = timedelta(microseconds=1)


def boundaries(now, period="monthly", zone="UTC", start=None):
    config = ExternalAgentBudgetConfig(period=period, timezone=zone, period_start=start)
    return config.get_period_boundaries(now)


def at(text, zone=UTC):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone) if zone != UTC else UTC)


NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 # what must be refused
instants = st.datetimes(NAIVE.replace(1990), NAIVE.replace(2060), timezones=st.just(UTC))


@given(
    instants,
    st.sampled_from(["daily", "weekly", "monthly"]),
    st.sampled_from(ZONES),
    st.none() | instants,
)
@example(at("2011-12-30T09:59:59"), "daily", "Pacific/Apia", None)
@example(at("2011-12-30T10:00:00"), "daily", "Pacific/Apia", None)
@example(at("2006-10-29T03:00:00"), "daily", "America/St_Johns", None)
@example(at("2018-11-04T02:59:59"), "daily", "America/Sao_Paulo", None)
@example(at("2024-11-03T05:20:00"), "daily", "America/Havana", at("2024-01-01T05:30:00"))
@example(at("2024-02-29T23:00:00"), "monthly", "UTC", at("2024-01-31T12:00:00"))
def test_periods_are_contiguous(now, period, zone, anchor):
    """start <= now < end, and the end of each is the start of the next, back and forth."""
    start, end = (each.astimezone(UTC) for each in boundaries(now, period, zone, anchor))
    assert start <= now < end
    before, after = (boundaries(other, period, zone, anchor) for other in (start - STEP, end))
    assert before[1].astimezone(UTC) == start
    assert after[0].astimezone(UTC) == end
    for inside in (start, end - STEP):
        assert boundaries(inside, period, zone, anchor)[0].astimezone(UTC) == start
    longest = {"daily": 3, "weekly": 9, "monthly": 33}[period]
    shortest = {"daily": 0.9, "weekly": 5.9, "monthly": 27.9}[period]
    assert timedelta(days=shortest) < end - start < timedelta(days=longest)


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("daily", "2026-11-21", "2026-11-22"),
        ("weekly", "2026-11-16", "2026-11-23"),  # from Monday
        ("monthly", "2026-11-01", "2026-12-01"),
    ],
)
def test_the_calendar(period, start, end):
    """Midnight, Monday and the first, in the zone of the configuration."""
    for zone in ("UTC", "Europe/Berlin"):
        found = boundaries(at("2026-11-21T13:30:00"), period, zone)
        assert found == (at(start, zone), at(end, zone))
        assert [each.hour for each in found] == [0, 0]


def test_a_day_is_that_of_the_zone():
    """At the same instant it is another day elsewhere."""
    now = at("2026-11-21T23:30:00")
    assert boundaries(now, "daily", "Asia/Tokyo")[0] == at("2026-11-22", "Asia/Tokyo")
    assert boundaries(now, "daily", "America/New_York")[0] == at("2026-11-21", "America/New_York")
    same = now.astimezone(timezone(timedelta(hours=-9)))
    assert boundaries(same, "daily", "Asia/Tokyo") == boundaries(now, "daily", "Asia/Tokyo")


def test_days_on_which_the_clock_moves():
    """23 and 25 hours in Berlin, 24.5 on Lord Howe Island."""

    def hours(now, zone):
        start, end = boundaries(now, "daily", zone)
        return (end.astimezone(UTC) - start.astimezone(UTC)) / timedelta(hours=1)

    assert hours(at("2026-03-29T12:00:00"), "Europe/Berlin") == 23
    assert hours(at("2026-10-25T12:00:00"), "Europe/Berlin") == 25
    assert hours(at("2026-04-04T22:00:00"), "Australia/Lord_Howe") == 24.5


def test_a_day_whose_midnight_is_skipped_begins_when_the_clock_goes_on():
    """At 01:00 of the local clock."""
    start, end = boundaries(at("2018-11-04T12:00:00"), "daily", "America/Sao_Paulo")
    assert start.isoformat() == "2018-11-04T01:00:00-02:00"
    assert end.isoformat() == "2018-11-05T00:00:00-02:00"


def test_a_midnight_that_comes_twice_begins_the_day_once():
    """With the first."""
    for now in ("2024-11-03T04:30:00", "2024-11-03T05:30:00"):
        start, _ = boundaries(at(now), "daily", "America/Havana")
        assert start.astimezone(UTC) == at("2024-11-03T04:00:00")


def test_a_clock_that_goes_back_over_midnight_begins_no_day_again():
    """The day began when the clock first showed it; what it shows again belongs to it."""
    for minute in (0, 30, 59):  # the clock shows 23:30 at 03:00 UTC
        start, end = boundaries(at(f"2006-10-29T03:{minute:02}:00"), "daily", "America/St_Johns")
        assert start.astimezone(UTC) == at("2006-10-29T02:30:00")
        assert end.astimezone(UTC) == at("2006-10-30T03:30:00")


def test_the_anchor_of_months_is_clipped_to_their_length():
    """From the 31st: the last of each month, and the 31st again where there is one."""
    anchor = at("2024-01-31T06:00:00")
    starts, now = [], at("2024-02-01T00:00:00")
    for _ in range(4):
        start, now = boundaries(now, "monthly", "UTC", anchor)
        starts.append(start)
    assert starts == [
        at("2024-01-31T06:00:00"),
        at("2024-02-29T06:00:00"),
        at("2024-03-31T06:00:00"),
        at("2024-04-30T06:00:00"),
    ]


def test_the_anchor_of_weeks_and_days():
    """The weekday and the time of day; also before it, and in the zone's own clock."""
    anchor = at("2026-01-08T09:30:00", "Europe/Berlin")  # a Thursday
    start, end = boundaries(at("2026-07-01T00:00:00"), "weekly", "Europe/Berlin", anchor)
    assert start == at("2026-06-25T09:30:00", "Europe/Berlin")
    assert end == at("2026-07-02T09:30:00", "Europe/Berlin")
    start, _ = boundaries(at("2025-12-31T00:00:00"), "weekly", "Europe/Berlin", anchor)
    assert start == at("2025-12-25T09:30:00", "Europe/Berlin")
    start, _ = boundaries(at("2026-07-01T07:29:59"), "daily", "Europe/Berlin", anchor)
    assert start == at("2026-06-30T09:30:00", "Europe/Berlin")


def test_the_ends_of_the_calendar_are_a_clear_error():
    """No whole period is there."""
    for year in (9999, 1):
        now = NAIVE.replace(year, 12 if year > 1 else 1, 31 if year > 1 else 1)
        for period in ("daily", "weekly", "monthly"):
            with pytest.raises(ValueError, match=f"no whole {period} period"):
                boundaries(now.replace(hour=1, tzinfo=UTC), period, "Europe/Berlin")


def test_a_time_without_a_zone_is_refused():
    """Nobody knows which period it is in."""
    with pytest.raises(ValueError, match="now needs a zone"):
        boundaries(NAIVE)
    with pytest.raises(ValueError, match="now must be a datetime"):
        boundaries("2026-01-01")
