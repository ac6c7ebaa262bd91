"""Saving: when it is due, and what it writes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from schemas.messages import Entry
from streams import messages
from streams.flush import UNIT_MESSAGES_MAX
from streams.saving import SAVE_INTERVAL_MS, Saves, Unsaved
from tests.streams.flat import flat

TICK_MS = 250
START_MS = 1_000_000
WINDOW = "2026-03-01"


def due_at(saves: Saves, times_ms: Iterable[int]) -> list[int]:
    """When it saves, of the times at which it could."""
    found = []
    for now_ms in times_ms:
        if saves.are_due(now_ms):
            saves.done(now_ms)
            found.append(now_ms)
    return found


# -- when


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


# -- what

scopes = st.sampled_from([f"organization:acme/agent:a{n}" for n in range(4)])
windows = st.sampled_from(["2026-02-28", WINDOW, "2026-03"])


@given(st.lists(st.tuples(windows, st.none() | st.sets(scopes, min_size=1))))
def test_an_entry_is_saved_once_as_it_is_by_then(
    told: list[tuple[str, set[str] | None]],
) -> None:
    """However often it was told; nothing of a window that was forgotten meanwhile."""
    unsaved = Unsaved("changelog", 3)
    held: dict[tuple[str, str], Entry] = {}
    for number, (window, some) in enumerate(told):
        if some is None:
            unsaved.forget(window)
            held = {key: entry for key, entry in held.items() if key[0] != window}
            continue
        found = {s: Entry(number, 0, number, 0, 0) for s in sorted(some)}
        held |= {(window, s): entry for s, entry in found.items()}
        unsaved.add({window: found})
        assert len(unsaved) == len(held)
    for entry in held.values():
        entry.offset += 100  # after it was told for the last time
    rows = list(flat(out for unit in unsaved.take() for out in unit.changelog))
    assert {(row.topic, row.partition) for row in rows} <= {("changelog", 3)}
    assert len(rows) == len(held)
    assert {row.key: row.value for row in rows} == {
        f"{scope} {window}".encode(): messages.encode(entry)
        for (window, scope), entry in held.items()
    }
    assert len(unsaved) == 0
    assert not list(unsaved.take())


def test_what_is_saved_goes_out_in_pieces() -> None:
    """A transaction is cut between them."""
    unsaved = Unsaved("changelog", 0)
    many = {f"s{n}": Entry(n, 0, 0, 0, 0) for n in range(2 * UNIT_MESSAGES_MAX + 1)}
    unsaved.add({WINDOW: many})
    units = list(unsaved.take())
    assert [unit.size for unit in units] == [UNIT_MESSAGES_MAX, UNIT_MESSAGES_MAX, 1]
    assert not any(unit.told or unit.outputs for unit in units)
