"""Rows: what a flush does with many entries at a time is what it would do with each of them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from outlay.topics import TopicNames, partition_of
from outlay.usage import encode_usage
from streams import messages, producing
from streams import partials as partials_module
from streams.flush import Outgoing
from streams.partials import Partials
from streams.placing import TOGETHER_MIN, partitions_of
from tests.streams.flat import changelog, entries_of, held, outputs, rows_of
from tests.streams.test_partials_saved import wanting
from tests.streams.test_totals import NOON, batch, begun, usage


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


def test_a_flush_in_pieces_tells_each_entry_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the owner of its scope, with its row in the changelog, and the progress with the last."""
    monkeypatch.setattr(partials_module, "SETTLED_TOGETHER_MAX", 7)
    partitions = 3
    partials = begun(
        Partials(0, topics=TopicNames(), changelog="changelog", totals_partitions=partitions)
    )
    partials.apply(wanting(*(f"a{n}" for n in range(50))))
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
            parsed = messages.decode_partials(message.value)
            assert last.get(message.partition) is None
            last[message.partition] = parsed.progress
            its_scopes = {s.encode() for s in parsed.entries.scopes}
            assert {partition_of(s, partitions) for s in its_scopes} <= {message.partition}
            told += entries_of(parsed.entries).items()
        assert last == dict.fromkeys(range(partitions), position)
        days, month = 2 * (1 + 5) + len(records), 1 + 5 + len(records)
        assert len(told) == days + month
        assert dict(told) == held(partials.entries) == rows_of(changelog(flush))


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
    rows = [(f"organization:acme/agent:a{n}".encode(), b"%d" % n**9) for n in range(50)]
    floor = [(messages.FLOOR_KEY, b"7")]
    producer: Any = Batches()
    outgoing = [Outgoing("changelog", 0, each) for each in (rows, [], floor)]
    asyncio.run(producing.send(producer, outgoing))
    assert len(producer.sent) > 5
    assert [message for batch in producer.sent for message in batch] == [*rows, *floor]
