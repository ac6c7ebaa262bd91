"""Entries: what is added, what is taken over, and what the changelog gives back."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from schemas.messages import Block, Columns
from streams import blocks, marks, month, window_table
from streams.amounts import rows, summed
from streams.entries import Entries, parse_key
from streams.flush import Message
from streams.messages import MessageError, decode_partials
from streams.pieces import ENTRY_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGE_SCOPES_MAX, pieces
from streams.window_table import INT64_MAX
from tests.streams.flat import Entry, block_of, entries_of, held

SCOPES = [f"organization:acme/agent:a{number}" for number in range(8)]
DAYS = ("2026-02-28", "2026-03-01", "2026-03-02")
Key = tuple[str, str]

scopes = st.sampled_from(SCOPES)
amounts = st.one_of(
    st.integers(-100, 100),
    st.integers(-(10**40), 10**40),
    st.sampled_from([INT64_MAX, -INT64_MAX, INT64_MAX // 2 + 1, -INT64_MAX - 1, INT64_MAX + 1]),
)
used = st.dictionaries(scopes, st.lists(amounts, min_size=4, max_size=4), min_size=1)
windows = st.sampled_from([*((day, day[:7]) for day in DAYS), ("2026-03",), ("2026-03-01",)])
offsets = st.integers(0, 4)
entry = st.builds(Entry, offsets, amounts, amounts, amounts, amounts)


# -- adding and taking over


@given(st.lists(st.tuples(windows, used, offsets)))
def test_amounts_are_added_where_they_are_not_contained(
    added: list[tuple[tuple[str, ...], dict[str, list[int]], int]],
) -> None:
    """An entry that reaches the offset contains them already; whatever their size."""
    entries = Entries(3)
    expected: dict[Key, Entry] = {}
    for its_windows, each, offset in added:
        slots, told = entries.add(list(each), its_windows, rows(list(each.values())), offset)
        for window in its_windows:
            for scope, more in each.items():
                before = expected.get((scope, window), Entry(-1))
                if before.offset < offset:
                    sums = map(sum, zip(before[1:], more, strict=True))
                    expected[scope, window] = Entry(offset, *sums)
            assert told[window].tolist() == [list(expected[scope, window]) for scope in each]
        assert entries.rows(its_windows, slots)[0] == list(each)
    assert held(entries) == expected
    assert entries.reaches == max((e.offset for e in expected.values()), default=-1)
    for window in (*DAYS, "2026-03", "2026-02", "2027-01"):
        asked = (*SCOPES, "organization:other", *SCOPES)
        found = list(entries.find(asked, (window,)))
        assert [
            (asked[place], Entry(*row))
            for _, places, its_rows in found
            for place, row in zip(places, its_rows.tolist(), strict=True)
        ] == [(scope, expected[scope, window]) for scope in asked if (scope, window) in expected]


def test_large_amounts_take_no_look_at_all_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a table is wide, what is added costs what it costs."""
    entries = Entries(0)
    entries.add(["s"], DAYS[:1], rows([[INT64_MAX + 1, 0, 0, 0]]), 0)
    entries.take(block_of({DAYS[0]: {"t": Entry(1, INT64_MAX + 1)}}))
    monkeypatch.setattr(window_table, "largest", None)
    entries.add(["s"], DAYS[:1], rows([[INT64_MAX, 0, 0, 0]]), 1)
    entries.take(block_of({DAYS[0]: {"t": Entry(2, INT64_MAX + 2)}}))
    assert held(entries)["s", DAYS[0]] == (1, 2 * INT64_MAX + 1, 0, 0, 0)
    assert held(entries)["t", DAYS[0]] == (2, INT64_MAX + 2, 0, 0, 0)


def test_what_was_taken_away_again_needs_no_room() -> None:
    """Large amounts that cancel each other leave the numbers as small as they are."""
    entries = Entries(0)
    for offset in range(100):
        large = INT64_MAX // 2 * (-1) ** offset
        entries.add(["s"], DAYS[:1], rows([[large, 0, 0, 0]]), offset)
    assert entries._months["2026-02"].windows[DAYS[0]]._rows.dtype != object
    entries.add(["s"], DAYS[:1], rows([[INT64_MAX, 0, 0, 0]] * 1), 100)
    entries.add(["s"], DAYS[:1], rows([[INT64_MAX, 0, 0, 0]] * 1), 101)
    assert held(entries)["s", DAYS[0]] == (101, 2 * INT64_MAX, 0, 0, 0)


told_blocks = st.dictionaries(scopes, entry, min_size=1).flatmap(
    lambda some: st.lists(st.sampled_from([*DAYS, "2026-03"]), min_size=1, unique=True).map(
        lambda names: block_of(dict.fromkeys(names, some))
    )
)


@given(st.lists(told_blocks, max_size=6))
def test_the_newest_entry_is_held(told: list[Block]) -> None:
    """In whatever order they come; all that were told wait to be saved."""
    entries = Entries(3)
    newest: dict[Key, int] = {}
    candidates: dict[Key, set[Entry]] = {}
    for each in told:
        entries.take(each)
        for key, found in entries_of(each).items():
            if found.offset > newest.get(key, -1):
                newest[key], candidates[key] = found.offset, set()
            if found.offset == newest[key]:
                candidates[key].add(found)
    assert {key: found.offset for key, found in held(entries).items()} == newest
    assert all(found in candidates[key] for key, found in held(entries).items())
    assert read_back(log_of(entries.take_changes())) == held(entries)


# -- the changelog


class Log:
    """A changelog, which is compacted now and then."""

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self.messages: list[Message] = []
        self.write(messages)

    def write(self, messages: Iterable[Message]) -> None:
        self.messages += messages

    def compact(self) -> None:
        """What the log cleaner may do in the end: the last of each key, and no tombstones."""
        last = {key: place for place, (key, _) in enumerate(self.messages)}
        self.messages = [
            message
            for place, message in enumerate(self.messages)
            if last[message[0]] == place and message[1] is not None
        ]

    @property
    def kept(self) -> int:
        """How many entries it holds once it is compacted."""
        compacted = Log(self.messages)
        compacted.compact()
        values = [value for _, value in compacted.messages if value is not None]
        return sum(len(entries_of(msgspec.json.decode(value, type=Block))) for value in values)


def log_of(messages: Iterable[Message]) -> Log:
    return Log(messages)


def recovered(log: Log) -> Entries:
    entries = Entries(3)
    for key, value in log.messages:
        name, partition, number = parse_key(key or b"")
        assert partition == 3
        entries.load(name, number, value)
    return entries


def read_back(log: Log) -> dict[Key, Entry]:
    return held(recovered(log))


@given(st.integers(0, 2**32))
def test_the_changelog_gives_back_what_was_saved(seed: int) -> None:
    """Whatever was saved how often, compacted or not, by one owner or by several in turn.

    It holds at most about twice as many entries as there are.
    """
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(month, "REWRITTEN_MIN", rng.choice((1, 5)))
        patch.setattr("streams.pieces.MESSAGE_SCOPES_MAX", rng.choice((1, 3, 1_000)))
        patch.setattr(marks, "SPREAD_MAX", rng.choice((0, 64)))
        patch.setattr(blocks, "SMALL_MAX", small := rng.choice((0, 2, 50)))
        patch.setattr(blocks, "SMALL_BLOCKS_MAX", rng.choice((1, 4)))
        log, entries = Log(), Entries(3)
        names = [f"s{n}" for n in range(rng.choice((3, 12)))]
        forgotten = ""

        def forgets(window: str) -> bool:
            return len(window) > 7 and window <= forgotten

        def current(log: Log) -> dict[Key, Entry]:
            entries = recovered(log)
            entries.drop(forgets)
            return held(entries)

        for offset in range(rng.randint(1, 40)):
            some = rng.sample(names, rng.randint(1, min(4, len(names))))
            day = rng.choice([day for day in DAYS if day > forgotten])
            entries.add(some, (day, day[:7]), rows([[offset, 1, 0, 0]] * len(some)), offset)
            if rng.random() < 0.5:
                log.write(entries.take_changes())
                assert entries.unsaved == 0
                assert current(log) == held(entries)
            if rng.random() < 0.1:
                log.compact()
            if rng.random() < 0.1:
                log.write(entries.take_changes())
                entries = recovered(log)
                entries.drop(forgets)
            if rng.random() < 0.05:
                forgotten = max(forgotten, rng.choice(DAYS[:2]))
                log.write(entries.forget(forgets))
        for _ in range(20):  # what is sparse is written anew some at a time
            log.write(entries.take_changes())
        assert current(log) == held(entries)
        log.compact()
        assert current(log) == held(entries)
        event(f"{log.kept / len(held(entries)):.1f} entries for each")
        assert small or log.kept <= 2 * len(held(entries))  # else small ones wait for each other


def test_a_block_goes_when_nothing_of_it_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before, and behind the block that has its last entry."""
    monkeypatch.setattr(blocks, "SMALL_MAX", 0)
    entries = Entries(3)
    entries.add(["a", "b", "c"], DAYS[:1], rows([[1, 1, 1, 1]] * 3), 0)
    assert [key for key, _ in entries.take_changes()] == [b"2026-02 3 0"]
    entries.add(["a"], DAYS[:1], rows([[1, 1, 1, 1]]), 1)
    assert [key for key, _ in entries.take_changes()] == [b"2026-02 3 1"]
    entries.add(["b"], DAYS[:1], rows([[1, 1, 1, 1]]), 2)
    written = list(entries.take_changes())  # c alone is left of three: it is written, too
    assert [(key, value is None) for key, value in written] == [
        (b"2026-02 3 2", False),
        (b"2026-02 3 3", False),
        (b"2026-02 3 0", True),
    ]


def test_a_save_writes_no_more_anew_than_it_writes_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all blocks are sparse at one time it does not end in one long save."""
    monkeypatch.setattr(month, "REWRITTEN_MIN", 10)
    monkeypatch.setattr(blocks, "SMALL_MAX", 0)
    entries, one = Entries(3), [1, 1, 1, 1]

    def save(names: list[str], offset: int) -> int:
        """How many entries a save writes beside these, which have changed."""
        entries.add(names, DAYS[:1], rows([one] * len(names)), offset)
        found = [msgspec.json.decode(v, type=Block) for _, v in entries.take_changes() if v]
        return sum(len(each.scopes) for each in found) - len(names)

    for start in range(0, 1_000, 10):
        assert save([f"s{n}" for n in range(start, start + 10)], start) == 0
    for rest in range(5):
        assert save([f"s{n}" for n in range(1_000) if n % 10 == rest], 1_000 + rest) == 0
    assert save([f"s{n}" for n in range(1_000) if n % 10 == 5], 1_005) == 100  # of 400
    assert [save([f"t{n}"], 1_006 + n) for n in range(42)] == [8] * 37 + [4] + [0] * 4


def test_a_month_that_is_forgotten_leaves_nothing_behind() -> None:
    """Its blocks are taken away, also where they held the newest values, or wait to be saved."""
    entries, log = Entries(3), Log()
    for day in ("2026-02-28", "2026-03-01"):
        for offset in range(2):
            some = [f"s{n}" for n in range(100 * offset, 100 * offset + 100)]
            entries.add(some, (day, day[:7]), rows([[1, 1, 1, 1]] * 100), offset)
            log.write(entries.take_changes())
        entries.add(["t"], (day, day[:7]), rows([[1, 1, 1, 1]]), 2)
    log.write(entries.forget(lambda window: window < "2026-03"))
    log.write(entries.take_changes())
    log.compact()
    assert {window for _, window in held(entries)} == {"2026-03-01", "2026-03"}
    assert {(key or b"")[:7] for key, _ in log.messages} == {b"2026-03"}
    assert read_back(log) == held(entries)


@pytest.mark.parametrize(("late", "times"), [(False, 4), (True, 20)])
def test_small_blocks_are_written_anew_together(late: bool, times: int) -> None:
    """Agents that are new one by one leave few blocks; also where many windows have entries."""
    entries, log, written, count = Entries(3), Log(), 0, 3_000
    for number in range(count):
        day = f"2026-03-{number % 28 + 1:02d}" if late else "2026-03-01"
        some = ["organization", f"agent:{number}"]
        entries.add(some, (day, day[:7]), rows([[1, 1, 1, 1]] * 2), number)
        saved = list(entries.take_changes())
        written += sum(len(entries_of(msgspec.json.decode(v, type=Block))) for _, v in saved if v)
        log.write(saved)
    log.compact()
    assert read_back(log) == held(entries)
    assert len(log.messages) <= 3 * blocks.SMALL_BLOCKS_MAX + 2 * count // blocks.SMALL_MAX
    assert log.kept <= 1.5 * len(held(entries))
    assert written <= times * 2 * count


def test_a_block_that_stands_twice_counts_once() -> None:
    """Without transactions a producer that is not sure sends again."""
    entries = Entries(3)
    many = [f"s{n}" for n in range(2 * blocks.SMALL_MAX)]
    for some in (["s0"], many):
        entries.add(some, DAYS[:1], rows([[1, 1, 1, 1]] * len(some)), len(some))
        log = Log(list(entries.take_changes()) * 2)
        again = recovered(log)
        again.add(["t"], DAYS[:1], rows([[1, 1, 1, 1]]), 1_000)
        log.write(again.take_changes())
        log.compact()
        assert read_back(log) == held(again)


def test_what_changes_often_between_saves_lets_no_more_be_written_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An entry is saved once, however often it was told."""
    monkeypatch.setattr(month, "REWRITTEN_MIN", 1)
    monkeypatch.setattr(blocks, "SMALL_MAX", 0)
    entries, one = Entries(3), [1, 1, 1, 1]
    for start in range(0, 1_000, 10):
        entries.add([f"s{n}" for n in range(start, start + 10)], DAYS[:1], rows([one] * 10), start)
        list(entries.take_changes())
    for rest in range(6):
        some = [f"s{n}" for n in range(1_000) if n % 10 == rest]
        for offset in range(1_000 + 10 * rest, 1_010 + 10 * rest):
            entries.add(some, DAYS[:1], rows([one] * len(some)), offset)
        saved = [msgspec.json.decode(v, type=Block) for _, v in entries.take_changes() if v]
    assert sum(len(each.scopes) for each in saved) == 200


@pytest.mark.parametrize("key", [b"organization:acme 2026-03-01", b"2026-03", b"a b c"])
def test_a_key_that_is_no_blocks_is_an_error(key: bytes) -> None:
    """Of an older version, or of somebody who should not write there."""
    with pytest.raises(ValueError, match="older version"):
        parse_key(key)


@pytest.mark.parametrize("short", range(5))
def test_a_block_with_a_column_too_short_is_an_error(short: int) -> None:
    """Nothing of it is taken over."""
    columns = Columns(*([1] if place == short else [1, 2] for place in range(5)))
    raw = msgspec.json.encode({"scopes": ["a", "b"], "windows": {"2026-03": columns}})
    entries = Entries(0)
    with pytest.raises(msgspec.ValidationError, match="2026-03 has not a number"):
        entries.load("2026-03", 0, raw)
    assert not held(entries)


def test_a_message_from_before_blocks_is_an_error() -> None:
    """It must not be taken for one that has nothing to tell."""
    with pytest.raises(MessageError, match="unknown field"):
        decode_partials(b'{"partition":0,"floor_day":1,"progress":4,"entries":{"2026-03":{}}}')


# -- pieces and sums


@given(st.lists(st.integers(1, 3_000), max_size=200), st.integers(1, 3))
def test_pieces_fit_a_message(lengths: list[int], count: int) -> None:
    """All scopes in their order, each once."""
    names = ["x" * length for length in lengths]
    found = [names[piece] for piece in pieces(names, count)]
    assert [name for piece in found for name in piece] == names
    for piece in found:
        assert len(piece) <= MESSAGE_SCOPES_MAX
        size_bytes = sum(len(name) + count * ENTRY_BYTES_MAX for name in piece)
        assert size_bytes <= MESSAGE_BYTES_MAX or len(piece) == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(amounts, min_size=4, max_size=4))))
def test_sums_by_key(each: list[tuple[str, list[int]]]) -> None:
    """In the order in which the keys come first, whatever the size of the numbers."""
    expected: dict[str, list[int]] = {}
    for key, more in each:
        before = expected.get(key, [0] * 4)
        expected[key] = [a + b for a, b in zip(before, more, strict=True)]
    keys, sums = summed([key for key, _ in each], rows([more for _, more in each]))
    assert keys == list(expected)
    assert sums.tolist() == list(expected.values())


def test_blocks_that_are_not_known_do_not_matter() -> None:
    """Entries that no block shows stand in none."""
    some = blocks.Blocks()
    some.drop(7)
    assert some.take_empty() == some.take_worn(10) == []
