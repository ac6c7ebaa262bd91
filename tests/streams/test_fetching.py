"""Fetching, mostly on a real broker: every message once, and the offsets that none has covered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import (
    READ_COMMITTED,
    FetchResult,
    PartitionRecords,
)
from aiokafka.errors import GroupAuthorizationFailedError, OffsetOutOfRangeError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from outlay.embedded.asking import supports_transactions
from streams import fetching
from streams.batch import Batch
from streams.fetching import fetch
from streams.transport import Consumer, ConsumerThread
from tests.conftest import Topics


def fetched(
    topics: Topics,
    start: int,
    end: int,
    *,
    bytes_max: int = 1_048_576,
    changelog: bool = False,
    **options: Any,
) -> list[Batch]:
    """The batches of the usage topic's only partition between two offsets, as they come.

    Args:
        changelog: take it for one, not for a source topic.
    """
    sources = () if changelog else (topics.names.usage,)

    async def run(consumer: Any, tp: TopicPartition) -> list[Batch]:
        consumer.seek(tp, start)
        batches: list[Batch] = []
        async with asyncio.timeout(30):
            while not batches or batches[-1].end < end:
                batches += (await fetch(consumer._fetcher, {tp}, sources, 0.2)).values()
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
@pytest.mark.parametrize("changelog", [False, True])
def test_every_message_comes_once_whatever_the_size_of_a_fetch(
    topic_prefix: Topics, compression: str | None, changelog: bool
) -> None:
    """Also from the middle of what was sent together, and where only committed ones are asked for.

    What was sent without a transaction is committed, on a broker that has none too.
    """
    level = "read_committed" if changelog else "read_uncommitted"
    topic_prefix.create(usage=1)
    values = [b"%04d" % n * 100 for n in range(300)]
    topic_prefix.send(
        topic_prefix.names.usage, [(None, value, 0) for value in values],
        compression_type=compression, linger_ms=20,
    )  # fmt: skip
    for start, bytes_max in ((0, 1_048_576), (0, 4_096), (137, 4_096), (299, 1_048_576)):
        batches = fetched(
            topic_prefix, start, 300,
            bytes_max=bytes_max, changelog=changelog, isolation_level=level,
        )  # fmt: skip
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
        fetching._drain(fetcher, {tp}, {"usage"})
    assert fetching._drain(fetcher, {tp}, {"usage"}) == {}
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
        assert await fetch(consumer._fetcher, {tp}, {tp.topic}, 0.2) == {}
        consumer.seek(tp, 5)
        with pytest.raises(OffsetOutOfRangeError):
            await asyncio.wait_for(fetch(consumer._fetcher, {tp}, {tp.topic}, 30.0), 30)

    _with_consumer(topic_prefix, run, auto_offset_reset="none")


def test_what_ends_the_groups_coordination_is_raised(topic_prefix: Topics) -> None:
    """Else the worker would wait for messages for ever, without a group."""
    topic_prefix.create(usage=1)

    async def run(consumer: Any, tp: TopicPartition) -> None:
        fetching = asyncio.ensure_future(fetch(consumer._fetcher, {tp}, {tp.topic}, 20.0))
        await asyncio.sleep(0.3)
        consumer._subscription.abort_waiters(GroupAuthorizationFailedError("group"))
        with pytest.raises(GroupAuthorizationFailedError):
            await asyncio.wait_for(fetching, 10)

    _with_consumer(topic_prefix, run)


# -- aborted transactions

COMMIT, ABORT = "commit", "abort"
PLAIN = "plain"

Step = tuple[str, str | Sequence[bytes]]
"""Who, and what: messages that are sent together, or the end of a transaction."""


async def play(topics: Topics, steps: Sequence[Step]) -> None:
    """Let producers write to the usage topic's only partition; all but PLAIN in transactions."""
    async with AsyncExitStack() as stack:
        producers: dict[str, AIOKafkaProducer] = {}
        writing: set[str] = set()
        for who, what in steps:
            if who not in producers:
                transactional_id = None if who == PLAIN else f"{topics.names.prefix}-{who}"
                producers[who] = await stack.enter_async_context(
                    AIOKafkaProducer(
                        bootstrap_servers=topics.bootstrap_servers,
                        transactional_id=transactional_id, acks="all",
                        compression_type="gzip", linger_ms=20,
                    )
                )  # fmt: skip
            if what == COMMIT:
                await producers[who].commit_transaction()
            elif what == ABORT:
                await producers[who].abort_transaction()
            else:
                if who not in writing and who != PLAIN:
                    await producers[who].begin_transaction()
                topic = topics.names.usage
                sent = [await producers[who].send(topic, value, partition=0) for value in what]
                await asyncio.gather(*sent)
            (writing.discard if what in (COMMIT, ABORT) else writing.add)(who)


@pytest.fixture
def log(topic_prefix: Topics) -> Topics:
    """The topics of a broker with transactions; the usage topic has one partition."""
    if not supports_transactions(topic_prefix.bootstrap_servers):
        pytest.skip("the broker has no transactions")
    topic_prefix.create(usage=1)
    return topic_prefix


INTERLEAVED: list[Step] = [
    ("a", [b"a0", b"a1", b"a2"]),  # 0
    ("b", [b"b3", b"b4"]),
    ("c", [b"c5"]),
    (PLAIN, [b"p6", b"p7"]),
    ("a", [b"a8"]),
    ("a", ABORT),  # 9
    ("b", [b"b10", b"b11"]),
    ("a", [b"a12", b"a13"]),
    ("b", COMMIT),  # 14
    ("c", [b"c15", b"c16"]),
    ("a", COMMIT),  # 17
    ("b", [b"b18", b"b19", b"b20"]),
    ("c", ABORT),  # 21
    ("c", [b"c22"]),
    ("c", COMMIT),  # 23
    (PLAIN, [b"p24"]),
    ("a", [b"a25", b"a26"]),
    ("b", ABORT),  # 27
    ("a", ABORT),  # 28
]
INTERLEAVED_END = 29
SENT = [value for _, what in INTERLEAVED if not isinstance(what, str) for value in what]
ABORTED = {0, 1, 2, 5, 8, 15, 16, 18, 19, 20, 25, 26}


@pytest.mark.parametrize("bytes_max", [1_048_576, 1])  # the whole log at once; batch by batch
def test_aborted_messages_of_a_changelog_are_left_out(log: Topics, bytes_max: int) -> None:
    """And of a source topic they are not, from wherever a fetch begins; all offsets are covered."""
    asyncio.run(play(log, INTERLEAVED))
    messages = [(int(value[1:]), value) for value in SENT]

    async def run(consumer: Any, tp: TopicPartition) -> None:
        for start in range(INTERLEAVED_END):
            for sources in ((), (tp.topic,)):
                consumer.seek(tp, start)
                batches: list[Batch] = []
                async with asyncio.timeout(10):
                    while not batches or batches[-1].end < INTERLEAVED_END:
                        batches += (await fetch(consumer._fetcher, {tp}, sources, 0.2)).values()
                left_out = () if sources else ABORTED
                assert batches[0].start == start
                assert whole(batches) == [
                    (n, value) for n, value in messages if n >= start and n not in left_out
                ]

    _with_consumer(log, run, isolation_level="read_committed", max_partition_fetch_bytes=bytes_max)


def test_a_changelog_that_ends_with_what_was_aborted_is_read_to_its_end(log: Topics) -> None:
    """Who waits for its end would else wait for ever."""
    asyncio.run(play(log, [("a", [b"0"]), ("a", COMMIT), ("a", [b"2", b"3"]), ("a", ABORT)]))
    for start, messages in ((0, [(0, b"0")]), (2, []), (3, []), (4, [])):
        batches = fetched(log, start, 5, changelog=True, isolation_level="read_committed")
        assert whole(batches) == messages
        assert (batches[0].start, batches[-1].end) == (start, 5)


def test_a_changelog_handed_over_in_parts_knows_what_was_aborted(
    log: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the broker told with a fetch holds for all parts of it."""
    monkeypatch.setattr(fetching, "BATCH_BYTES_MAX", 1)
    steps: list[Step] = [("a", [b"0"]), ("b", [b"1"]), ("a", [b"2"]), ("a", ABORT), ("b", COMMIT)]
    asyncio.run(play(log, steps))
    batches = fetched(log, 0, 5, changelog=True, isolation_level="read_committed")
    assert len(batches) > 1
    assert whole(batches) == [(1, b"1")]


def test_the_empty_batch_of_a_marker_that_was_cleaned_away_is_covered() -> None:
    """The log cleaner leaves such a batch of a producer that has written nothing since.

    And what was written without a transaction is there, whatever is said of its producer's.
    """
    tp = TP("changelog", 0)
    marker = bytearray(_sent(0, corrupt=False)[:61])
    marker[8:12] = (61 - 12).to_bytes(4, "big")
    marker[21:23] = (0x30).to_bytes(2, "big")  # of a transaction, a control batch
    marker[57:61] = bytes(4)  # messages
    sent = bytes(marker) + _sent(10, corrupt=False)
    records = PartitionRecords(
        tp, MemoryRecords(sent), [(-1, 0)], 0, None, None, False, READ_COMMITTED
    )
    state = SimpleNamespace(highwater=20, consumed_to=lambda _: None)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    result = FetchResult(tp, assignment=assignment, partition_records=records, backoff=0.1)
    batch, more = fetching._take(tp, result, whole=False)
    assert [record.offset for record in batch.records] == list(range(10, 20))
    assert (batch.start, batch.end, more) == (0, 20, False)


# -- the levels of reading


def thread_of(consumer: Any) -> ConsumerThread:
    thread = ConsumerThread.__new__(ConsumerThread)
    thread._consumer = consumer
    return thread


def test_a_worker_begins_with_committed_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = AIOKafkaConsumer.__new__(AIOKafkaConsumer)
    consumer._closed = True
    monkeypatch.setattr(
        driver.AIOKafkaConsumerThread, "_create_worker_consumer", lambda *_: consumer
    )
    created = thread_of(None)._create_worker_consumer(None)
    assert created._isolation_level == "read_committed"


def test_an_open_transaction_holds_up_a_changelog_and_no_source_that_is_counted(
    log: Topics,
) -> None:
    """And it hides nothing of where a log ends: recovery has to wait for what may be committed."""

    async def run(consumer: Any, tp: TopicPartition) -> None:
        thread, fetcher = thread_of(consumer), consumer._fetcher
        async with AIOKafkaProducer(
            bootstrap_servers=log.bootstrap_servers, transactional_id=log.names.prefix
        ) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(tp.topic, b"0", partition=0)
            consumer.seek(tp, 0)
            assert await fetch(fetcher, {tp}, (), 0.5) == {}
            assert await thread._highwaters([tp]) == {tp: 1}
            assert fetcher._isolation_level == READ_COMMITTED
            thread.set_counting(True)
            batch = (await fetch(fetcher, {tp}, {tp.topic}, 5.0))[tp]
            assert whole([batch]) == [(0, b"0")]
            await producer.abort_transaction()

    _with_consumer(log, run, isolation_level="read_committed")


def test_a_changelog_that_was_fetched_uncommitted_is_fetched_anew(log: Topics) -> None:
    """Nobody knows what of it was aborted."""
    asyncio.run(play(log, [("a", [b"0"]), ("a", ABORT), ("b", [b"2"]), ("b", COMMIT)]))

    async def run(consumer: Any, tp: TopicPartition) -> None:
        fetcher = consumer._fetcher
        consumer.seek(tp, 0)
        assert await fetch(fetcher, {tp}, (), 0.5) == {}
        assert await consumer.position(tp) == 0
        consumer.pause(tp)  # no fetch is on its way when the level changes
        await asyncio.sleep(0.5)
        fetcher._isolation_level = READ_COMMITTED
        consumer.resume(tp)
        batch = (await fetch(fetcher, {tp}, (), 5.0))[tp]
        assert whole([batch]) == [(2, b"2")]
        assert (batch.start, batch.end) == (0, 4)

    _with_consumer(log, run)


@pytest.mark.parametrize("arrives", ["before", "after"])
def test_no_fetch_outlives_its_assignment(log: Topics, arrives: str) -> None:
    """The level of reading changes between two: a fetch of the last would bring aborted messages.

    aiokafka notes the level when a fetch arrives, not the one that it was asked for with.
    """
    steps: list[Step] = [("a", [b"0"]), ("a", ABORT), ("b", [b"2"]), ("b", COMMIT)]

    async def run(consumer: Any, tp: TopicPartition) -> None:
        thread, fetcher = thread_of(consumer), consumer._fetcher
        thread.set_counting(True)
        consumer.seek(tp, 0)
        if arrives == "before":
            await play(log, steps)
        await asyncio.sleep(1.0)
        assert fetcher._records if arrives == "before" else fetcher._in_flight
        thread.set_counting(False)
        consumer.assign([tp])
        consumer.seek(tp, 0)
        if arrives == "after":
            await play(log, steps)
        batches: list[Batch] = []
        async with asyncio.timeout(20):
            while not batches or batches[-1].end < 4:
                batches += (await fetch(fetcher, {tp}, (), 0.2)).values()
        assert whole(batches) == [(2, b"2")]

    _with_consumer(log, run, fetch_max_wait_ms=5_000)


def test_counting_does_not_begin_when_partitions_are_revoked_meanwhile() -> None:
    """Else changelogs would be fetched uncommitted under the next assignment."""
    source, told = TP("usage", 0), []
    owner = SimpleNamespace(awaits_begin=True)

    class Thread:
        async def seek_to_committed(self) -> dict[TP, int]:
            return {}

        async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
            return dict.fromkeys(tps, 0)

        async def seek_wait(self, positions: dict[TP, int]) -> None:
            owner.awaits_begin = False

        def assignment(self) -> set[TP]:
            return {source}

        def set_counting(self, counting: bool) -> None:
            told.append(counting)

    consumer = Consumer.__new__(Consumer)
    consumer.app = SimpleNamespace(ownership=owner, source_topics={"usage"})  # type: ignore[assignment]
    consumer._thread = Thread()  # type: ignore[assignment]
    consumer._read_offset, consumer._committed_offset = {}, {}
    asyncio.run(consumer.perform_seek())
    assert told == []
