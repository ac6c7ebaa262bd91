"""Rows: what a flush does with many entries at a time is what it would do with each of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from outlay.topics import TopicNames, partition_of
from outlay.usage import encode_usage
from schemas.messages import Entry, PartialsMessage
from streams import messages, producing
from streams import partials as partials_module
from streams.adding import add_amounts
from streams.flush import Outgoing
from streams.partials import Partials
from streams.placing import TOGETHER_MIN, partitions_of
from streams.totals import Totals
from tests.streams.flat import changelog, outputs
from tests.streams.test_totals import NOON, batch, begun, usage, written

WINDOW = "2026-03-01"
scopes = st.sampled_from([f"organization:acme/agent:a{number}" for number in range(8)])
amounts = st.integers(0, 10**40)
offsets = st.integers(0, 4)
entries = st.builds(Entry, offsets, amounts, amounts, amounts, amounts)


@given(st.lists(st.binary(max_size=40)), st.integers(1, 2**31))
def test_many_keys_are_placed_as_each_of_them(keys: list[bytes], partitions: int) -> None:
    """A scope's totals have one owner, whoever asks for it."""
    assert partitions_of(keys, partitions) == [partition_of(key, partitions) for key in keys]


@pytest.mark.parametrize("count", [TOGETHER_MIN - 1, TOGETHER_MIN, 3 * TOGETHER_MIN])
def test_keys_of_any_length_are_placed(count: int) -> None:
    """Alone, together, and among those of other lengths."""
    different = []
    for length in range(70):
        keys = [
            bytes((7 * length + 31 * n + n * i) % 256 for i in range(length)) for n in range(count)
        ]
        assert partitions_of(keys, 997) == [partition_of(key, 997) for key in keys]
        different += keys
    assert partitions_of(different, 64) == [partition_of(key, 64) for key in different]


@given(st.dictionaries(scopes, entries))
def test_rows_are_an_entry_each(told: dict[str, Entry]) -> None:
    """As they were when the flush was made, whatever becomes of the entries after it."""
    expected = [(f"{scope} {WINDOW}".encode(), messages.encode(e)) for scope, e in told.items()]
    rows = messages.Rows(WINDOW, told)
    for entry in told.values():
        entry.offset, entry.cost_nano = -1, -1
    assert list(rows) == expected
    assert len(rows) == len(expected)
    assert list(rows[1:3]) == expected[1:3]


@given(
    st.dictionaries(scopes, entries),
    st.dictionaries(scopes, st.lists(amounts, min_size=4, max_size=4)),
    offsets,
)
def test_amounts_are_added_where_they_are_not_contained(
    held: dict[str, Entry], added: dict[str, list[int]], offset: int
) -> None:
    """An entry that reaches the offset contains them already."""
    expected = {scope: astuple(entry) for scope, entry in held.items()}
    for scope, each in added.items():
        before = expected.get(scope, (-1, 0, 0, 0, 0))
        if before[0] < offset:
            expected[scope] = (offset, *map(sum, zip(before[1:], each, strict=True)))
    found = add_amounts(held, added, offset)
    assert {scope: astuple(entry) for scope, entry in held.items()} == expected
    assert [id(entry) for entry in found] == [id(held[scope]) for scope in added]


@given(st.lists(st.tuples(st.integers(0, 1), st.dictionaries(scopes, entries)), max_size=6))
def test_what_was_told_is_written_once_as_it_is_held(
    told: list[tuple[int, dict[str, Entry]]],
) -> None:
    """Also what brought nothing newer: a crash may have cut its publication off."""
    totals = Totals()
    held: dict[tuple[int, str], bytes] = {}
    newest: dict[tuple[int, str], int] = defaultdict(lambda: -1)
    for partition, each in told:
        for scope, entry in each.items():
            if entry.offset > newest[partition, scope]:
                newest[partition, scope] = entry.offset
                held[partition, scope] = messages.encode(entry)
        totals.merge(PartialsMessage(partition, NOON.toordinal(), None, {WINDOW: dict(each)}))
    rows = [message for message in written(totals) if message[0] != messages.FLOOR_KEY]
    assert len(rows) == len(held)
    assert dict(rows) == {
        f"{scope} {WINDOW} {partition}".encode(): value
        for (partition, scope), value in held.items()
    }
    found = {
        (partition, scope): messages.encode(entry)
        for partition, windows in totals.parts.items()
        for scope, entry in windows[WINDOW].items()
    }
    assert found == held


def test_a_flush_in_pieces_tells_each_entry_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the owner of its scope, with its row in the changelog, and the progress with the last."""
    monkeypatch.setattr(partials_module, "SETTLED_TOGETHER_MAX", 7)
    partitions = 3
    partials = begun(
        Partials(0, topics=TopicNames(), changelog="changelog", totals_partitions=partitions)
    )
    for position in range(2):  # the second finds the entries of the first
        records = [
            usage(NOON + timedelta(hours=13 * (n % 2)), agent_id=f"a{n}", user_id=f"u{n % 5}")
            for n in range(30 + 20 * position)
        ]
        value = encode_usage(records)
        partials.apply(batch((value, NOON), start=position))
        flush = partials.flush(position, last=True)
        assert flush is not None
        told = []
        last = {}
        for message in outputs(flush):
            parsed = messages.decode_partials(message.value or b"")
            assert last.get(message.partition) is None
            last[message.partition] = parsed.progress
            for window, table in parsed.entries.items():
                assert {partition_of(s.encode(), partitions) for s in table} == {message.partition}
                told += [(f"{s} {window}".encode(), messages.encode(e)) for s, e in table.items()]
        assert last == dict.fromkeys(range(partitions), position)
        days, month = 2 * (1 + 5) + len(records), 1 + 5 + len(records)
        assert len(told) == days + month
        assert dict(told) == {
            f"{scope} {window}".encode(): messages.encode(entry)
            for window, table in partials.entries.items()
            for scope, entry in table.items()
        }
        rows = [(m.key, m.value) for m in changelog(flush) if m.key != messages.FLOOR_KEY]
        assert rows == told


class Batches:
    """A producer of small batches, which are read back as a consumer reads them."""

    def __init__(self) -> None:
        self.sent: list[list[tuple[bytes | None, bytes | None]]] = []

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(400, 0)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        assert batch.record_count() > 0
        read = MemoryRecords(bytes(batch._build())).next_batch()
        self.sent.append([(record.key, record.value) for record in read])
        assert len(self.sent[-1]) == batch.record_count()
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        acknowledged.set_result(None)
        return acknowledged


def test_batches_follow_each_other_without_a_gap() -> None:
    """What did not fit one batch is the first of the next."""
    told = {f"organization:acme/agent:a{n}": Entry(n, n * n, 1, 2, 3) for n in range(50)}
    rows, floor = messages.Rows(WINDOW, told), [(messages.FLOOR_KEY, b"7")]
    producer: Any = Batches()
    outgoing = [Outgoing("changelog", 0, each) for each in (rows, [], floor)]
    asyncio.run(producing.send(producer, outgoing))
    assert len(producer.sent) > 5
    assert [message for batch in producer.sent for message in batch] == [*rows, *floor]
