"""When an owned partition flushes."""

from hypothesis import given
from hypothesis import strategies as st

from streams import pacing

times = st.floats(1.7e9, 1.9e9)
intervals = st.floats(0.01, 60.0)


@given(intervals, st.floats(0, 100), times)
def test_all_partitions_flush_at_the_same_ticks(interval_s, took_s, now_s):
    """Wherever one is in its work, its next flush falls on a multiple of the interval."""
    at_s = now_s + pacing.until_tick_s(interval_s, took_s, now_s)
    assert abs(at_s / interval_s - round(at_s / interval_s)) < 1e-3 / interval_s + 1e-6
    assert at_s > now_s


@given(intervals, st.floats(0, 100), times)
def test_a_flush_takes_a_third_of_the_time_at_most_until_it_is_urgent(interval_s, took_s, now_s):
    """After a long one comes a long rest, but never more than a few intervals."""
    rest_s = pacing.until_tick_s(interval_s, took_s, now_s)
    urgent_s = pacing.REST_INTERVALS_MAX * interval_s
    assert rest_s >= min(2 * took_s, urgent_s) - 1e-6
    assert rest_s <= min(2 * took_s, urgent_s) + interval_s + 1e-3


@given(intervals, st.floats(0, 100))
def test_a_burst_is_gathered_for_a_fraction_of_an_interval(interval_s, took_s):
    """Longer only after a flush that took long."""
    assert pacing.gather_s(interval_s, took_s) == max(
        interval_s / 8, min(2 * took_s, 4 * interval_s)
    )
