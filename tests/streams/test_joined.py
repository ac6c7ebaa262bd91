"""Joined: the totals of many scopes at a time are those of each by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from outlay.budget import NOTHING
from outlay.decision import window_usage
from schemas.messages import PartialsMessage
from streams.totals import Totals
from streams.window_table import INT64_MAX
from tests.streams.flat import Entry, block_of, total_of

SCOPES = [f"organization:acme/user:u{number}" for number in range(5)]
DAY, MONTH, UNSEEN = "2026-03-01", "2026-03", "2026-03-02"

amounts = st.one_of(
    st.integers(-100, 100),
    st.integers(-(10**40), 10**40),
    st.sampled_from([INT64_MAX, -INT64_MAX, INT64_MAX // 2 + 1, -INT64_MAX - 1, INT64_MAX + 1]),
)
entries = st.builds(Entry, st.integers(0, 2**40), amounts, amounts, amounts, amounts)
told = st.builds(
    lambda partition, window, its: PartialsMessage(
        partition, 0, None, block_of({window: its} if its else {})
    ),
    st.integers(0, 3),
    st.sampled_from([DAY, MONTH, "2026-02-28"]),
    st.dictionaries(st.sampled_from(SCOPES), entries),
)


def part_of(partition: int, cost_nano: int) -> PartialsMessage:
    """What one usage partition has of the first scope."""
    return PartialsMessage(
        partition, 0, None, block_of({DAY: {SCOPES[0]: Entry(partition, cost_nano)}})
    )


@example([part_of(p, INT64_MAX // 2 + 1) for p in range(2)], SCOPES)  # beyond 64 bits together
@given(st.lists(told, max_size=8), st.lists(st.sampled_from([*SCOPES, "organization:other"])))
def test_totals_of_many_are_those_of_each(its: list[PartialsMessage], asked: list[str]) -> None:
    totals = Totals()
    for message in its:
        totals.merge(message)
    windows = [DAY, MONTH, UNSEEN, "2026-02-28"]
    joined = totals.joined(asked, windows)
    assert list(joined) == windows
    everyone = np.arange(len(asked))
    for window in windows:
        expected = [total_of(totals, scope, window) for scope in asked]
        used = [NOTHING if total is None else total[0] for total in expected]
        assert joined[window].amounts == list(totals.amounts(asked, window)) == used
        usages = list(joined[window].usages(everyone))
        assert usages == [None if t is None else window_usage(*t) for t in expected]
        assert list(joined[window].usages([0] if asked else [])) == usages[:1]
