"""Fetching, mostly on a real broker: every message once, and the offsets that none has covered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import GroupAuthorizationFailedError, OffsetOutOfRangeError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from outlay.embedded.asking import supports_transactions
from streams import fetching
from streams.batch import Batch
from streams.fetching import fetch
from streams.transport import Consumer
from tests.conftest import Topics


def fetched(
    topics: Topics, start: int, end: int, *, bytes_max: int = 1_048_576, **options: Any
) -> list[Batch]:
    """The batches of the usage topic's only partition between two offsets, as they come."""

    async def run(consumer: Any, tp: TopicPartition) -> list[Batch]:
        consumer.seek(tp, start)
        batches: list[Batch] = []
        async with asyncio.timeout(30):
            while not batches or batches[-1].end < end:
                batches += (await fetch(consumer._fetcher, {tp}, 0.2)).values()
        assert await consumer.position(tp) == batches[-1].end
        return batches

    return _with_consumer(topics, run, max_partition_fetch_bytes=bytes_max, **options)


def _with_consumer(
    topics: Topics, run: Callable[[Any, TopicPartition], Awaitable[Any]], **options: Any
) -> Any:
    async def connected() -> Any:
        tp = TopicPartition(topics.names.usage, 0)
        async with AIOKafkaConsumer(
            bootstrap_servers=topics.bootstrap_servers,
            enable_auto_commit=False,
            check_crcs=False,
            **options,
        ) as consumer:
            consumer.assign([tp])
            return await run(consumer, tp)

    return asyncio.run(connected())


def whole(batches: list[Batch]) -> list[tuple[int, bytes | None]]:
    """What the batches hold, after a check that they follow each other without a hole."""
    for before, after in pairwise(batches):
        assert after.start == before.end
    return [(record.offset, record.value) for batch in batches for record in batch.records]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_every_message_comes_once_whatever_the_size_of_a_fetch(
    topic_prefix: Topics, compression: str | None
) -> None:
    """Also from the middle of what was sent together."""
    topic_prefix.create(usage=1)
    values = [b"%04d" % n * 100 for n in range(300)]
    topic_prefix.send(
        topic_prefix.names.usage, [(None, value, 0) for value in values],
        compression_type=compression, linger_ms=20,
    )  # fmt: skip
    for start, bytes_max in ((0, 1_048_576), (0, 4_096), (137, 4_096), (299, 1_048_576)):
        batches = fetched(topic_prefix, start, 300, bytes_max=bytes_max)
        assert batches[0].start == start
        assert whole(batches) == [(n, values[n]) for n in range(start, 300)]


def test_a_fetch_that_was_compressed_is_handed_over_in_parts(
    topic_prefix: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be held in memory as a whole, at many times of what was fetched."""
    monkeypatch.setattr(fetching, "BATCH_BYTES_MAX", 50_000)
    topic_prefix.create(usage=1)
    values = [b"%04d" % n * 100 for n in range(1_000)]
    for start in range(0, 1_000, 100):  # 40,000 bytes sent together
        topic_prefix.send(
            topic_prefix.names.usage,
            [(None, value, 0) for value in values[start : start + 100]],
            compression_type="gzip", linger_ms=20, max_batch_size=100_000,
        )  # fmt: skip
    batches = fetched(topic_prefix, 37, 1_000)
    assert whole(batches) == [(n, values[n]) for n in range(37, 1_000)]
    assert max(len(batch.records) for batch in batches) < 50_000 / 400 + 100
    assert [batch.lag for batch in batches] == [1_000 - batch.end for batch in batches]


def test_what_fails_on_the_way_does_not_come_again_in_part() -> None:
    """Who asks again after an error gets nothing rather than messages with a hole before them."""
    tp = TP("usage", 0)
    state = SimpleNamespace(paused=False, position=0, highwater=30)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    sent = b"".join(_sent(base, corrupt=base == 10) for base in (0, 10, 20))
    records = PartitionRecords(tp, MemoryRecords(sent), None, 0, None, None, False, 0)
    result = FetchResult(tp, assignment=assignment, partition_records=records, backoff=0.1)
    fetcher = SimpleNamespace(
        _records={tp: result}, _wait_consume_future=None, _notify=lambda _: None
    )
    with pytest.raises(OSError, match="gzip"):
        fetching._drain(fetcher, {tp})
    assert fetching._drain(fetcher, {tp}) == {}
    assert state.position == 0


def _sent(base: int, *, corrupt: bool) -> bytes:
    """Ten messages that were sent together, compressed."""
    builder = DefaultRecordBatchBuilder(2, 1, 0, -1, -1, -1, 1_000_000)
    for number in range(10):
        builder.append(number, 1_000, None, b"value", [])
    sent = bytearray(builder.build())
    sent[:8] = base.to_bytes(8, "big")
    if corrupt:
        sent[61:63] = b"no"  # where the compressed messages begin
    return bytes(sent)


def test_a_full_agent_is_asked_again_soon() -> None:
    """Faust sleeps for a second where all partitions of a worker wait before agents."""

    async def run() -> Any:
        consumer = Consumer.__new__(Consumer)
        consumer.flow_active = True
        consumer._buffered_partitions = {TP("usage", 0)}
        consumer._active_partitions = set()
        consumer.sleep = None  # type: ignore[method-assign, assignment] # it is not to be called
        return await consumer._wait_next_records(1.0)

    assert asyncio.run(run()) == ({}, set())


def test_the_marker_of_a_transaction_is_covered(topic_prefix: Topics) -> None:
    """It has an offset and no message; who counts offsets must not wait for it."""
    if not supports_transactions(topic_prefix.bootstrap_servers):
        pytest.skip("the broker has no transactions")
    topic_prefix.create(usage=1)
    for number in range(2):
        topic_prefix.send(
            topic_prefix.names.usage, [(None, b"%d" % number, 0)], transactional_id="fetching"
        )
    batches = fetched(topic_prefix, 0, 4)
    assert whole(batches) == [(0, b"0"), (2, b"1")]
    assert batches[-1].end == 4


def test_nothing_new_is_nothing_after_a_bound(topic_prefix: Topics) -> None:
    """And a position outside of the log is an error, where that is asked for."""
    topic_prefix.create(usage=1)
    topic_prefix.send(topic_prefix.names.usage, [(None, b"0", 0)])

    async def run(consumer: Any, tp: TopicPartition) -> None:
        consumer.seek(tp, 1)
        assert await fetch(consumer._fetcher, {tp}, 0.2) == {}
        consumer.seek(tp, 5)
        with pytest.raises(OffsetOutOfRangeError):
            await asyncio.wait_for(fetch(consumer._fetcher, {tp}, 30.0), 30)

    _with_consumer(topic_prefix, run, auto_offset_reset="none")


def test_who_reads_committed_messages_only_is_refused(topic_prefix: Topics) -> None:
    """Aborted messages are handed out here: nobody may rely on their absence."""
    topic_prefix.create(usage=1)
    topic_prefix.send(topic_prefix.names.usage, [(None, b"0", 0)])
    with pytest.raises(RuntimeError, match="uncommitted"):
        fetched(topic_prefix, 0, 1, isolation_level="read_committed")


def test_what_ends_the_groups_coordination_is_raised(topic_prefix: Topics) -> None:
    """Else the worker would wait for messages for ever, without a group."""
    topic_prefix.create(usage=1)

    async def run(consumer: Any, tp: TopicPartition) -> None:
        fetching = asyncio.ensure_future(fetch(consumer._fetcher, {tp}, 20.0))
        await asyncio.sleep(0.3)
        consumer._subscription.abort_waiters(GroupAuthorizationFailedError("group"))
        with pytest.raises(GroupAuthorizationFailedError):
            await asyncio.wait_for(fetching, 10)

    _with_consumer(topic_prefix, run)
