"""Saving: when it is due."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streams.saving import SAVE_INTERVAL_MS, Saves

TICK_MS = 250
START_MS = 1_000_000


def due_at(saves: Saves, times_ms: Iterable[int]) -> list[int]:
    """When it saves, of the times at which it could."""
    found = []
    for now_ms in times_ms:
        if saves.are_due(now_ms):
            saves.done(now_ms)
            found.append(now_ms)
    return found


@given(st.integers(0, 9), st.integers(0, 2_000), st.integers(1, SAVE_INTERVAL_MS))
def test_it_saves_once_in_an_interval(partition: int, start_ms: int, step_ms: int) -> None:
    """At the first flush, and then at the first one of each interval."""
    found = due_at(Saves(partition), range(start_ms, start_ms + 20 * SAVE_INTERVAL_MS, step_ms))
    assert found[0] == start_ms
    assert 20 <= len(found) <= 21
    assert all(b - a >= SAVE_INTERVAL_MS - step_ms for a, b in pairwise(found[1:]))


def test_partitions_that_flush_together_save_apart() -> None:
    """So that not all of a worker's changelogs are written at one tick."""
    ticks = range(START_MS, START_MS + 10 * SAVE_INTERVAL_MS, TICK_MS)
    saved = [set(due_at(Saves(partition), ticks)[1:]) for partition in range(4)]
    assert len(set.union(*saved)) == sum(map(len, saved)) >= 36


def test_a_clock_that_is_set_back_stops_no_save() -> None:
    """The next one is not an hour away."""
    hour_ms = 3_600_000
    times_ms = [2 * hour_ms, hour_ms, hour_ms + TICK_MS, hour_ms + SAVE_INTERVAL_MS]
    assert due_at(Saves(0), times_ms) == [2 * hour_ms, hour_ms, hour_ms + SAVE_INTERVAL_MS]


def test_it_is_overdue_where_a_whole_interval_had_none() -> None:
    """What waits for a better flush does not wait for ever; nor with a clock that is set back."""
    saves = Saves(0)
    assert saves.are_overdue(START_MS)
    saves.done(START_MS)
    later_ms = [0, 999, 1_000, 1_999, 2_000, -1, -1_000]
    overdue = [saves.are_overdue(START_MS + each) for each in later_ms]
    assert overdue == [False, False, False, False, True, True, True]
