"""The clock that is set."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from outlay.testing import SettableClock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_it_stands_still_until_it_is_moved():
    """And tells one time in three ways."""
    clock = SettableClock(NOON)
    assert (clock.now, clock.time(), clock.monotonic()) == (NOON, NOON.timestamp(), 0.0)
    clock.advance(hours=1, seconds=0.5)
    clock.advance(days=1, minutes=2)
    passed = timedelta(days=1, hours=1, minutes=2, seconds=0.5)
    assert clock.now == NOON + passed
    assert clock.time() == clock.now.timestamp()
    assert clock.monotonic() == passed.total_seconds()


def test_it_is_set_in_any_zone_and_tells_utc():
    """Also back, which takes no passed time away."""
    clock = SettableClock(NOON)
    clock.set(datetime(2026, 11, 21, 15, tzinfo=timezone(timedelta(hours=2))))
    assert clock.now == NOON + timedelta(hours=1)
    assert clock.now.tzinfo is UTC
    clock.set(NOON - timedelta(days=30))
    assert clock.now == NOON - timedelta(days=30)
    assert clock.monotonic() == 3600.0


def test_it_begins_with_the_machines_time():
    """Where none is given."""
    before = datetime.now(UTC)
    assert before <= SettableClock().now <= datetime.now(UTC)


def test_listeners_are_told_when_it_has_moved():
    """They see the new time."""
    clock, seen = SettableClock(NOON), []
    clock.add_listener(lambda: seen.append(clock.now.hour))
    clock.advance(hours=2)
    clock.set(NOON)
    assert seen == [14, 12]


@pytest.mark.parametrize(
    "passed",
    [
        {"seconds": -1},
        {"hours": float("nan")},
        {"days": float("inf")},
        {"days": 10**9},
        {"hours": "1"},
    ],
)
def test_what_cannot_pass_is_an_error(passed):
    """And moves nothing."""
    clock = SettableClock(NOON)
    with pytest.raises(ValueError):
        clock.advance(**passed)
    assert (clock.now, clock.monotonic()) == (NOON, 0.0)


@pytest.mark.parametrize(
    "now",
    [
        datetime(2026, 11, 21),  # noqa: DTZ001 - that is what is refused
        datetime(1, 5, 5, tzinfo=UTC),
        datetime(9999, 5, 5, tzinfo=UTC),
        "2026-11-21",
        1763726400,
    ],
)
def test_what_is_no_time_is_an_error(now):
    """When it is made, and when it is set."""
    with pytest.raises(ValueError, match=r"with a zone|years 2 to 9998"):
        SettableClock(now)
    clock = SettableClock(NOON)
    with pytest.raises(ValueError):
        clock.set(now)
    assert clock.now == NOON
