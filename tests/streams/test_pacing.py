"""When an owned partition flushes."""

from hypothesis import given
from hypothesis import strategies as st

from streams import pacing

times = st.floats(1.7e9, 1.9e9)
intervals = st.floats(0.01, 60.0)


@given(intervals, st.floats(0, 100), times, st.booleans())
def test_all_partitions_flush_at_the_same_ticks(interval_s, took_s, now_s, is_behind):
    """Wherever one is in its work, its next flush falls on a multiple of the interval."""
    at_s = now_s + pacing.until_tick_s(interval_s, took_s, now_s, is_behind)
    assert abs(at_s / interval_s - round(at_s / interval_s)) < 1e-3 / interval_s + 1e-6
    assert at_s > now_s


@given(intervals, st.floats(0, 100), times)
def test_flushes_leave_time_for_all_else(interval_s, took_s, now_s):
    """After a long one comes a long rest, but never more than a few intervals."""
    pause_s = pacing.until_tick_s(interval_s, took_s, now_s, False)
    least_s = min(took_s / 4, pacing.REST_INTERVALS_MAX * interval_s)
    assert least_s - 1e-6 <= pause_s <= least_s + interval_s + 1e-3


@given(intervals, times)
def test_behind_a_backlog_flushes_are_rare(interval_s, now_s):
    """But bounded."""
    pause_s = pacing.until_tick_s(interval_s, 0.0, now_s, True)
    least_s = pacing.REST_INTERVALS_MAX * interval_s
    assert least_s - 1e-6 <= pause_s <= least_s + interval_s + 1e-3


@given(intervals, st.floats(0, 100))
def test_a_burst_is_gathered_for_a_fraction_of_an_interval(interval_s, took_s):
    """Longer only after a flush that took long."""
    assert pacing.gather_s(interval_s, took_s) == max(
        0.06 * interval_s, min(took_s / 4, 10 * interval_s)
    )
