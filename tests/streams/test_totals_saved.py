"""Totals between saves: decisions and budgets are written at once, all else waits."""

from __future__ import annotations

import pytest

from outlay.topics import TopicNames
from schemas.messages import PartialsMessage
from streams import messages, totals_state
from streams.batch import Batch
from streams.saving import SAVE_INTERVAL_MS
from streams.totals_state import TotalsState
from tests.streams.flat import Entry, block_of, changelog, flushed, offsets, outputs, rows_of
from tests.streams.simulated_broker import Record
from tests.streams.test_totals import KEY, NOON, new_totals, requests

TOPICS = TopicNames()
START_MS = 1_000_000
TICK_MS = 250
WINDOW = KEY[1]


def begun_totals(**how: int) -> TotalsState:
    state = new_totals(**how)
    state.begin({TOPICS.partials: 0, TOPICS.budgets: 0}, {TOPICS.partials: 0, TOPICS.budgets: 0})
    return state


def tell(state: TotalsState, offset: int, scope: str = KEY[0]) -> None:
    """A partials message, which stands at the offset that it has counted up to."""
    entry = Entry(offset, (offset + 1) * 10**9, offset + 1, 0, 0)
    told = PartialsMessage(0, NOON.toordinal(), offset, block_of({WINDOW: {scope: entry}}))
    record = Record(offset, None, messages.encode(told), 0)
    state.apply(Batch(TOPICS.partials, 0, [record], offset, offset + 1))


def saved_totals() -> TotalsState:
    """With a budget and a partial, saved at START_MS."""
    state = begun_totals()
    state.apply(requests(1))
    tell(state, 0)
    assert offsets(flushed(state, START_MS)) == {(TOPICS.partials, 0): 1, (TOPICS.budgets, 0): 1}
    return state


@pytest.mark.parametrize("last", [False, True])
def test_what_was_merged_over_several_flushes_is_written_once(last: bool) -> None:
    """The decisions go out each time; the changelog and the offsets with the save."""
    state = saved_totals()
    for offset in (1, 2, 3):
        tell(state, offset)
        plan = flushed(state, START_MS + offset)
        assert {m.topic for m in outputs(plan)} == {TOPICS.decisions}
        assert (changelog(plan), offsets(plan)) == ([], {})
    plan = flushed(state, START_MS + (4 if last else SAVE_INTERVAL_MS), last=last)
    assert [m.key for m in changelog(plan)] == [b"2026-03 0 1", b"2026-03 0 0", b"progress"]
    assert [m.value for m in changelog(plan)][1:] == [
        None,
        b'{"progress":{"0":3},"wants":{"0":-1}}',
    ]
    assert rows_of(changelog(plan)) == {KEY: Entry(3, 4 * 10**9, 4)}
    assert offsets(plan) == {(TOPICS.partials, 0): 4, (TOPICS.budgets, 0): 1}
    again = flushed(state, START_MS + 3 * SAVE_INTERVAL_MS)  # the watermark's beat
    assert (changelog(again), offsets(again)) == ([], {})


def test_budgets_are_written_at_once() -> None:
    """With the answer that says so; their offset can wait as the others do."""
    state = saved_totals()
    state.apply(requests(2))
    tell(state, 1)
    plan = flushed(state, START_MS + 1)
    assert TOPICS.audit in {m.topic for m in outputs(plan)}
    assert {m.topic for m in changelog(plan)} == {"B"}
    assert offsets(plan) == {}


def test_a_full_state_of_totals_is_saved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read before it is empty."""
    state = saved_totals()
    monkeypatch.setattr(totals_state, "DIRTY_MAX", 2)
    tell(state, 1)
    assert not state.is_full
    assert offsets(flushed(state, START_MS + 1)) == {}
    tell(state, 2)
    assert state.is_full
    assert offsets(flushed(state, START_MS + 2)) != {}
    assert not state.is_full


@pytest.mark.parametrize("refresh_ms", [0, 500, 1_000, 1_500, 2_000, 3_000, 4_000, 10_000])
def test_offsets_are_committed_though_decisions_wait_whenever_it_saves(refresh_ms: int) -> None:
    """Where the beats of the refresh and the saves never fall on one flush: with each refresh."""
    state = begun_totals(at_once_max=0, refresh_ms=refresh_ms)
    state.apply(requests(1))
    commits = 0
    ticks = range(START_MS + 900, START_MS + 900 + 20 * SAVE_INTERVAL_MS, TICK_MS)
    for offset, now_ms in enumerate(ticks):
        tell(state, offset)
        plan = state.flush(now_ms)
        commits += plan is not None and bool(offsets(plan))
    assert commits >= 20 * SAVE_INTERVAL_MS // max(refresh_ms, SAVE_INTERVAL_MS) - 1
