"""Counting: a run of messages comes to what each of them does, however they are grouped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from outlay.framing import encode_frame
from outlay.judging import decode_usage
from outlay.usage import UsageRecord, encode_usage
from streams import counting, dead_letters
from streams.batch import Batch
from streams.counting import FRAMES_TOGETHER_MAX, Counting
from streams.floor import Floor
from streams.partials import Partials
from streams.sums import Sums
from tests.streams.flat import by_window, held, outputs
from tests.streams.simulated_broker import Record
from tests.streams.test_frame_sums import (
    NOW,
    NOW_MS,
    changed,
    hostile_frames,
    record,
    unusual,
    usual,
    usual_frames,
)  # fmt: skip
from tests.streams.test_totals import begun, new_partials

DAY_MS = 86_400_000

junk = st.sampled_from([
    None, b"", b"O", b"OUT1", b"OUT1\xff\xff\xff\xff", b"Only", b"{", b"[", b"[]", b"[{}]", b"\0",
])  # fmt: skip
json_values = st.one_of(
    (usual | unusual).map(lambda made: encode_usage([made])),
    st.lists(usual | unusual, min_size=1, max_size=3).map(encode_usage),
)
frames = usual_frames | usual_frames | hostile_frames
values = frames | frames | frames | junk | json_values
timestamps = st.sampled_from([
    *[NOW_MS] * 5, NOW_MS - 1, NOW_MS + DAY_MS // 2 - 1, NOW_MS + DAY_MS // 2, NOW_MS - DAY_MS,
    NOW_MS + DAY_MS, NOW_MS - 60 * DAY_MS, -1, -(2**62), 0, 2**62,
])  # fmt: skip
logs = st.lists(st.tuples(values, timestamps), min_size=1, max_size=12).map(
    lambda messages: [
        Record(offset, None, value, timestamp) for offset, (value, timestamp) in enumerate(messages)
    ]
)


def frame(*made: UsageRecord) -> bytes:
    found = encode_frame(made)
    assert found is not None
    return found


def log(*messages: bytes | None, timestamp_ms: int = NOW_MS) -> list[Record]:
    return [Record(offset, None, value, timestamp_ms) for offset, value in enumerate(messages)]


def counted(groups: Sequence[Sequence[Record]]) -> Counting:
    """What counts the messages, a group at a time."""
    found = Counting("usage", 0, Floor())
    for group in groups:
        taken = 0
        while taken < len(group):
            more = found.count(group, taken)
            assert more > 0
            taken += more
        assert taken == len(group)
    return found


def grouped(records: list[Record], cuts: set[int]) -> list[list[Record]]:
    ends = sorted({0, len(records), *(cut for cut in cuts if cut < len(records))})
    return [records[start:end] for start, end in pairwise(ends)]


def check(found: Counting, records: list[Record]) -> None:
    """It has what `decode_usage` says of each message."""
    sums, letters = Sums(), []
    for each in records:
        usages, rejections = decode_usage(each.value, each.timestamp)
        sums.add_apart([u.record for u in usages], [u.cost_nano for u in usages])
        letters += [(each.offset, r.index, r.reason, each.timestamp) for r in rejections]
    assert by_window(found.sums) == by_window(sums)
    assert letters == [(x.offset, x.index, x.reason, x.timestamp_ms) for x in found.letters]
    alone = counted([[each] for each in records])
    assert found.letters == alone.letters
    counts, expected = found.take_counts(), alone.take_counts()
    assert counts["messages"] == len(records)
    assert counts["rejected"] == len(letters) == expected["rejected"]
    assert counts["records"] == expected["records"]
    if len({each.timestamp // DAY_MS for each in records}) == 1:
        assert counts["late"] == expected["late"]
    else:  # a run counts as late what its own last message makes so
        assert counts["late"] >= expected["late"]


@given(logs, st.sets(st.integers(1, 11)))
def test_a_run_comes_to_what_each_message_does(records: list[Record], cuts: set[int]) -> None:
    """Frames of any day, hostile ones, and what is no frame, in any grouping."""
    groups = grouped(records, cuts)
    event(f"{len(groups)} groups")
    check(counted(groups), records)


@given(st.lists(frames, min_size=2, max_size=8))
def test_a_run_of_frames_comes_to_what_each_does(made: list[bytes]) -> None:
    """The same, with nothing between that ends a run."""
    records = log(*made)
    check(counted([records]), records)


@pytest.mark.parametrize("nonsense_ms", [-1, -(2**62), 2**62])
@pytest.mark.parametrize("encode", [frame, lambda made: encode_usage([made])])
@pytest.mark.parametrize("comes_first", [True, False])
def test_a_message_with_no_timestamp_says_nothing_of_others(
    nonsense_ms: int, encode: Callable[[UsageRecord], bytes], comes_first: bool
) -> None:
    """What is too far ahead of its own message counts beside no other: a partial would depend on
    which messages came in one batch.
    """
    value = encode(record(occurred_at=NOW + timedelta(days=2)))
    records = [Record(0, None, value, nonsense_ms), Record(1, None, value, NOW_MS)]
    if not comes_first:
        records = [Record(0, None, value, NOW_MS), Record(1, None, value, nonsense_ms)]
    found = counted([records])
    assert len(found.letters) == 1
    check(found, records)


@pytest.mark.parametrize(
    ("ahead", "rejected"), [(timedelta(days=1), 0), (timedelta(days=1, microseconds=1), 1)]
)
def test_the_earliest_message_of_a_run_bounds_it(ahead: timedelta, rejected: int) -> None:
    """What a later one may hold, it may not."""
    value = frame(record(occurred_at=NOW + ahead))
    records = [Record(0, None, value, NOW_MS + 1), Record(1, None, value, NOW_MS)]
    found = counted([records])
    assert len(found.letters) == rejected
    check(found, records)


def test_records_of_frames_are_counted_late() -> None:
    """Those of a day that is forgotten, by the messages' own timestamps, together and alone."""
    late = frame(record(occurred_at=NOW - timedelta(days=41)), record(), record())
    old = frame(*[record(occurred_at=NOW - timedelta(days=41))] * 3)
    kept = frame(*[record(occurred_at=NOW - timedelta(days=40))] * 2)
    assert counted([log(old, old)]).take_counts() == {"messages": 2, "records": 6, "late": 6}
    assert counted([log(old, kept)]).take_counts() == {"messages": 2, "records": 5, "late": 3}
    assert counted([log(late, kept)]).take_counts() == {"messages": 2, "records": 5, "late": 1}


def test_no_more_than_some_frames_are_added_together() -> None:
    """They are held in memory at once, and each may be a megabyte."""
    records = log(*[frame(record())] * (2 * FRAMES_TOGETHER_MAX + 1))
    found = Counting("usage", 0, Floor())
    assert [found.count(records, at) for at in (0, 16, 32)] == [16, 16, 1]
    check(found, records)


def test_what_is_no_frame_ends_a_run() -> None:
    """Frames go with frames, an array goes alone, records with records."""
    one, made = encode_usage([record()]), [record(), record()]
    array, framed = encode_usage(made), frame(*made)
    records = log(framed, framed, array, array, one, None, b"", one, framed, one, framed)
    found = Counting("usage", 0, Floor())
    taken, counts = 0, []
    while taken < len(records):
        counts.append(found.count(records, taken))
        taken += counts[-1]
    assert counts == [2, 1, 1, 4, 1, 1, 1]
    check(found, records)


def test_frames_that_are_plain_are_added_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one go, and none is looked at closely; a bad one among them leaves the rest plain."""
    runs: list[int] = []
    judged: list[bytes | None] = []
    plain_frames, decode = counting.plain_frames, counting.decode_usage

    def added(values: Sequence[bytes], latest_us: int) -> Any:
        runs.append(len(values))
        return plain_frames(values, latest_us)

    def looked_at(value: bytes | None, timestamp_ms: int) -> Any:
        judged.append(value)
        return decode(value, timestamp_ms)

    monkeypatch.setattr(counting, "plain_frames", added)
    monkeypatch.setattr(counting, "decode_usage", looked_at)
    good, bad = frame(record(), record()), frame(record(metadata={"a": 1}))
    counted([log(good, good, good)])
    assert (runs, judged) == ([3], [])
    counted([log(good, bad, good)])
    assert (runs, judged) == ([3, 3, 1, 1, 1], [bad])


def test_a_state_that_fills_in_a_run_stops_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it has counted, and no more: it goes on where it stood."""
    monkeypatch.setattr(dead_letters, "REJECTED_MAX", 2)
    records = log(frame(record()), b"OUT1", b"Only", frame(record()), frame(record()))
    found = Counting("usage", 0, Floor())
    assert found.count(records, 0) == 3
    assert found.is_full
    assert found.take_counts() == {"messages": 3, "records": 1, "rejected": 2}
    found.letters.clear()
    assert found.count(records, 3) == 2
    assert found.take_counts() == {"messages": 2, "records": 2}
    check_sums = Sums()
    check_sums.add_apart([record()] * 3, [10**7] * 3)
    assert by_window(found.sums) == by_window(check_sums)


def test_a_state_that_fills_in_a_run_of_records_stops_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same for JSON."""
    monkeypatch.setattr(dead_letters, "REJECTED_MAX", 2)
    one = encode_usage([record()])
    records = log(one, b"{", None, one, one)
    found = Counting("usage", 0, Floor())
    assert found.count(records, 0) == 3
    assert found.take_counts() == {"messages": 3, "records": 1, "rejected": 2}


def test_each_message_of_a_run_raises_the_floor() -> None:
    """Not only its first, nor only its last."""
    value = frame(record(occurred_at=NOW - timedelta(days=9)))
    floor = Floor()
    times_ms = (NOW_MS - 2 * DAY_MS, NOW_MS, NOW_MS - DAY_MS)
    run = [Record(offset, None, value, at_ms) for offset, at_ms in enumerate(times_ms)]
    assert Counting("usage", 0, floor).count(run, 0) == 3
    assert floor.day == NOW.toordinal()


def test_what_a_replay_brings_is_counted_apart() -> None:
    """Its sums are not among those that are new; all else is as it was."""
    floor = Floor()
    found = Counting("usage", 0, floor)
    (message,) = log(frame(record(), record(executions=3, kind="correction", cost_usd="-1")))
    sums, expected = found.count_apart(message), Sums()
    usages, _ = decode_usage(message.value, message.timestamp)
    expected.add_apart([u.record for u in usages], [u.cost_nano for u in usages])
    assert by_window(sums) == by_window(expected)
    assert found.sums.size == 0
    assert found.take_counts() == {"messages": 1, "records": 2}
    assert floor.day == NOW.toordinal()


def test_a_spender_that_is_none_is_a_dead_letter_among_frames() -> None:
    """All else of such a frame is plain; the others of its run count, and none of them twice."""
    good = frame(record())
    records = log(good, changed(good, {"spenders": "acme///"}, b""), good)
    found = counted([records])
    assert len(found.letters) == 1
    check(found, records)


def test_sums_that_fill_in_a_run_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As dead letters do, where the frames are of several days."""
    monkeypatch.setattr(counting, "SUMS_MAX", 2)
    days = [NOW, NOW - timedelta(days=1), NOW]
    records = log(*[frame(record(agent_id=str(i), occurred_at=at)) for i, at in enumerate(days)])
    found = Counting("usage", 0, Floor())
    assert found.count(records, 0) == 2
    found.take_sums()
    assert found.count(records, 2) == 1
    assert found.take_counts() == {"messages": 3, "records": 3}


def amounts(partials: Partials) -> dict[tuple[str, str], tuple[int, ...]]:
    return {(window, scope): entry[1:] for (scope, window), entry in held(partials.entries).items()}


class Kept:
    """A state, and all that it has said: its dead letters, and what it counted."""

    def __init__(self) -> None:
        self.partials = begun(new_partials())
        self.letters: list[bytes | None] = []
        self.counts: Counter[Any] = Counter()

    def flush(self) -> None:
        plan = self.partials.flush(0, last=True)
        self.counts.update(self.partials.take_counts())
        if plan is not None:
            self.letters += [m.value for m in outputs(plan) if m.topic == "outlay.rejected"]

    def apply(self, group: list[Record]) -> Iterator[int]:
        """Take a group, with a flush wherever it is full; after each step, the position."""
        start, end = group[0].offset, group[-1].offset + 1
        rest: Batch | None = Batch("outlay.usage", 0, group, start, end)
        while rest is not None:
            before = self.partials.position
            rest = self.partials.apply(rest)
            yield self.partials.position
            if rest is not None:
                assert self.partials.is_full
                assert self.partials.position == rest.start > before
                self.flush()


@given(logs, st.sets(st.integers(1, 11)), st.sets(st.integers(0, 11)), st.integers(1, 5))
def test_a_partial_is_that_of_the_prefix_of_its_log(
    records: list[Record], cuts: set[int], flushes: set[int], most: int
) -> None:
    """However the messages came in batches, wherever it was full, whenever it was flushed."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(counting, "SUMS_MAX", 4 * most)
        monkeypatch.setattr(dead_letters, "REJECTED_MAX", most)
        grown = Kept()
        for number, group in enumerate(grouped(records, cuts)):
            event(f"{len(list(grown.apply(group)))} steps")
            if number in flushes or grown.partials.is_full:
                grown.flush()
        grown.flush()
    alone = Kept()
    for each in records:
        list(alone.apply([each]))
    alone.flush()
    assert grown.partials.position == alone.partials.position == len(records)
    assert amounts(grown.partials) == amounts(alone.partials)
    assert grown.letters == alone.letters
    for name in ("messages", "records", "rejected"):
        assert grown.counts[name] == alone.counts[name]
    assert grown.counts["messages"] == len(records)


@given(logs, st.integers(0, 11))
def test_a_replay_comes_to_the_same(records: list[Record], saved: int) -> None:
    """Of messages that the entries contain, and of such that they do not."""
    first = Kept()
    list(first.apply(records))
    first.flush()
    again = Kept()
    list(again.apply(records[: saved + 1]))
    again.flush()
    later = Kept()
    later.partials.entries = again.partials.entries
    later.partials = begun(later.partials)
    list(later.apply(records))
    later.flush()
    assert amounts(later.partials) == amounts(first.partials)
    assert later.letters == first.letters
    assert later.counts["records"] == first.counts["records"]
    assert later.counts["messages"] == len(records)
