"""The emitter: never waits, never raises, loses nothing silently, keeps each agent's order."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from decimal import Decimal
from enum import IntEnum

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from hypothesis import given
from hypothesis import strategies as st
from library_fakes import FakeSender, FakeTopic, eventually, read_usages

from outlay import UsageEmitter, UsageRecord
from outlay.embedded import TansuBroker
from outlay.embedded.ports import free_port
from outlay.frame import is_frame
from outlay.framing import decode_message
from outlay.judging import MESSAGE_BYTES_MAX, decode_usage
from outlay.packing import Bundle, Packer
from outlay.stamping import Item
from outlay.topics import usage_key, usage_partition
from outlay.usage import decode_records, encode_usage


class Text(str):
    """No text itself."""


class Number(IntEnum):
    """No number itself."""

    TWO = 2


USAGE = {"organization_id": "acme", "agent_id": "a1", "cost_usd": "0.00123"}
AT_ONCE_S = 0.5  # no network timeout is shorter; a loaded machine needs some


def over(topic, **options):
    return UsageEmitter(sender_factory=lambda: FakeSender(topic), **options)


def agents_of(topic):
    """The records that arrived, by agent, in the order of their partition."""
    by_agent = defaultdict(list)
    for partition, _, value in topic.messages():
        for usage in decode_usage(value, -1)[0]:
            assert usage_partition("acme", usage.record.agent_id, len(topic.logs)) == partition
            by_agent[usage.record.agent_id].append(usage.record)
    return by_agent


def assert_consistent(stats):
    assert stats.emitted == (
        stats.sent + stats.failed + stats.dropped + stats.invalid + stats.buffered
    )


# -- packing


def put(packer, partitions, *records, frames=True):
    """Put records of one agent into their partition's pack."""
    partition = usage_partition("acme", records[0].agent_id, partitions)
    bundle = Bundle(partition, list(records), frames=frames)
    packer.add(bundle, 0.0)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 400)), min_size=1, max_size=60),
    st.integers(1, 10),
    st.integers(600, 2_000),
    st.booleans(),
)
def test_packs_keep_order_and_bounds(records, records_max, bytes_max, frames):
    """Whatever comes, a pack has one partition, its agents' order, and neither bound is passed."""
    packer = Packer(records_max, bytes_max)
    for number, (agent, size) in enumerate(records):
        record = UsageRecord.new(
            **USAGE | {"agent_id": f"a{agent}"}, sequence=number, metadata={"x": "y" * size}
        )
        put(packer, 3, record, frames=frames)
    packer.close_due(0.0, 10**6)
    seen = []
    while leaving := list(packer.leave()):
        for lane, pack in leaving:
            assert len(pack) <= records_max
            value = pack.message()
            packed = decode_message(value)
            assert packed == pack.records()
            assert len(packed) == len(pack)
            assert is_frame(value) or value == encode_usage(packed)
            assert frames or not is_frame(value)
            assert len(value) <= bytes_max or len(pack) == 1
            assert (pack.key is None) == (len(pack) > 1)
            assert {usage_partition("acme", r.agent_id, 3) for r in packed} == {pack.partition}
            seen += packed
            packer.settle(lane)
        packer.close_due(0.0, 10**6)
    assert packer.closed == 0
    assert packer.first_number == packer.last_number + 1
    for agent in range(6):
        sequences = [record.sequence for record in seen if record.agent_id == f"a{agent}"]
        assert sequences == sorted(sequences)
    assert len(seen) == len(records)


def test_one_pack_leaves_a_lane_at_a_time():
    """So that what is sent again cannot overtake; one that has not left is the next again."""
    packer = Packer(1, 10_000)
    records = [UsageRecord.new(**USAGE, sequence=number) for number in range(3)]
    for record in records:
        put(packer, 1, record)
    ((lane, first),) = packer.leave()
    assert list(packer.leave()) == []
    packer.put_back(lane)
    ((lane, again),) = packer.leave()
    assert again is first
    packer.settle(lane)
    ((_, second),) = packer.leave()
    assert decode_records(second.message()) == [records[1]]


# -- emitting


def test_a_record_arrives_with_time_source_and_sequence():
    """One record is an object keyed by its agent; what is not given is filled in."""
    topic = FakeTopic(4)
    before = time.time()
    with over(topic, linger_s=0.2) as emitter:
        assert emitter.emit(**USAGE, metadata={"k": [1]})
        after = time.time()
        assert emitter.flush()
    (message,) = topic.messages()
    assert message[1] == usage_key("acme", "a1")
    (usage,) = decode_usage(message[2], -1)[0]
    assert usage.cost_nano == 1_230_000
    assert before - 0.001 <= usage.record.occurred_at.timestamp() <= after
    assert (usage.record.source, usage.record.sequence) == (emitter.source, 1)
    assert json.loads(bytes(usage.record.metadata)) == {"k": [1]}


def test_a_ready_made_record_keeps_its_own_source():
    """Where a record names its source, neither that nor its sequence is touched."""
    topic = FakeTopic()
    with over(topic) as emitter:
        emitter.emit(UsageRecord.new(**USAGE))
        emitter.emit(UsageRecord.new(**USAGE, source="mine", sequence=77))
        emitter.emit(**USAGE)
    records = agents_of(topic)["a1"]
    assert [(r.source, r.sequence) for r in records] == [
        (emitter.source, 1),
        ("mine", 77),
        (emitter.source, 2),
    ]


def test_metadata_is_taken_as_it_is_at_the_call():
    """The caller may go on using its dictionary, also one that was empty."""
    topic = FakeTopic()
    metadata, empty = {"step": 1}, {}
    with over(topic) as emitter:
        emitter.emit(**USAGE, metadata=metadata)
        emitter.emit(**USAGE, metadata=empty)
        metadata["step"] = empty["step"] = 2
    taken = [json.loads(bytes(record.metadata)) for record in agents_of(topic)["a1"]]
    assert taken == [{"step": 1}, {}]


WRONG_CALLS = [
    ((), {}),
    ((), {"organization_id": "acme"}),
    ((), {**USAGE, "unknown": 1}),
    ((), {**USAGE, "cost_usd": "many"}),
    ((), {**USAGE, "cost_usd": float("nan")}),
    ((), {**USAGE, "cost_usd": -1}),
    ((), {**USAGE, "agent_id": ""}),
    ((), {**USAGE, "agent_id": "\ud800"}),
    ((), {**USAGE, "input_tokens": "1"}),
    ((), {**USAGE, "metadata": {"x": object()}}),
    ((), {**USAGE, "metadata": object()}),
    ((), {**USAGE, "occurred_at": "now"}),
    (("no record",), {}),
    ((1, 2, 3), {}),
    ((UsageRecord.new(**USAGE), "more"), {}),
    ((UsageRecord.new(**USAGE),), USAGE),
]


def test_wrong_arguments_are_counted_and_logged_and_never_raise(caplog):
    """The caller's own work goes on whatever it passes; good records beside arrive."""
    topic = FakeTopic()
    bad = UsageRecord(
        id="x", occurred_at=None, organization_id="", agent_id="a", cost_usd=None
    )  # a Struct checks nothing when it is made
    with over(topic) as emitter:
        emitter.emit(bad)
        for args, fields in WRONG_CALLS:
            emitter.emit(*args, **fields)
        emitter.emit(**USAGE)
        assert emitter.flush()
        stats = emitter.stats
    assert stats.invalid == len(WRONG_CALLS) + 1
    assert stats.sent == 1
    assert_consistent(stats)
    lines = [r for r in caplog.records if r.name == "outlay.emitter" and "invalid" in r.message]
    assert len(lines) == 1


def test_records_from_threads_and_loops_keep_their_order():
    """Each agent's records arrive in the order in which they were emitted, each once, packed."""
    topic = FakeTopic(4)
    with over(topic) as emitter:

        def work(agent):
            for number in range(500):
                emitter.emit(**USAGE | {"agent_id": agent}, input_tokens=number)

        async def more():
            for number in range(500):
                emitter.emit(**USAGE | {"agent_id": "async"}, input_tokens=number)
                if number % 100 == 0:
                    await asyncio.sleep(0)
            assert await emitter.aflush()

        threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        asyncio.run(more())
        for thread in threads:
            thread.join()
    arrived = agents_of(topic)
    assert {agent: [r.input_tokens for r in records] for agent, records in arrived.items()} == {
        agent: list(range(500)) for agent in ("t0", "t1", "t2", "t3", "async")
    }
    sequences = sorted(r.sequence for records in arrived.values() for r in records)
    assert sequences == list(range(1, 2501))
    assert len(topic.messages()) < 250


def test_without_a_broker_nothing_blocks_or_raises(caplog):
    """Neither making it nor emitting nor the numbers; one line says what is wrong."""
    started = time.monotonic()
    emitter = UsageEmitter(f"127.0.0.1:{free_port()}")
    for _ in range(1_000):
        assert emitter.emit(**USAGE)
    assert emitter.stats.buffered == 1_000
    assert time.monotonic() - started < AT_ONCE_S
    time.sleep(0.5)  # several attempts
    assert not emitter.flush(0.1)
    assert not emitter.close(0.1)
    assert emitter.stats.failed == 1_000
    assert_consistent(emitter.stats)
    away = [r for r in caplog.records if "cannot be sent now" in r.message]
    assert len(away) == 1
    assert not [r for r in caplog.records if r.name.startswith("aiokafka")]


def test_what_was_kept_is_sent_when_the_broker_comes():
    """Connecting is tried on, with pauses."""
    topic = FakeTopic()
    topic.away = True
    with over(topic) as emitter:
        for _ in range(10):
            emitter.emit(**USAGE)
        assert not emitter.flush(0.2)
        topic.away = False
        assert emitter.flush()
        assert emitter.stats.sent == 10


def test_a_full_buffer_drops_the_newest_and_says_so_once(caplog):
    """Dropped records are counted, the older ones stay, and the log is not flooded."""
    topic = FakeTopic()
    topic.away = True
    with over(topic, buffer_records_max=100) as emitter:
        taken = [emitter.emit(**USAGE, input_tokens=number) for number in range(5_000)]
        assert taken == [True] * 100 + [False] * 4_900
        assert emitter.stats.dropped == 4_900
        assert emitter.stats.buffered == 100
        topic.away = False
        assert emitter.flush()
        assert emitter.emit(**USAGE, input_tokens=5_000)  # there is room again
    assert [r.input_tokens for r in agents_of(topic)["a1"]] == [*range(100), 5_000]
    assert_consistent(emitter.stats)
    lines = [r for r in caplog.records if "buffer is full" in r.message]
    assert len(lines) == 1


def test_the_bound_counts_what_is_under_way():
    """With a broker that answers nothing, no more than the bound is held, wherever it is."""
    topic = FakeTopic(2)

    async def hold():
        topic.held = asyncio.Event()

    with over(topic, buffer_records_max=50, pack_records_max=5, in_flight_max=2) as emitter:
        emitter._background.run(hold(), 1)
        deadline = time.monotonic() + 1.0
        taken = 0
        while time.monotonic() < deadline:
            taken += emitter.emit(**USAGE | {"agent_id": f"a{taken}"})
            time.sleep(0.001)
        assert taken == 50
        assert emitter.stats.buffered == 50
        emitter._background.call(topic.held.set)
        assert emitter.flush()
        assert emitter.stats.sent == 50


def test_a_failed_delivery_is_counted_and_not_sent_again(caplog):
    """It may have arrived, so a resend could count twice; then a new connection goes on."""
    topic = FakeTopic()
    made = []

    def factory():
        made.append(FakeSender(topic))
        return made[-1]

    with UsageEmitter(sender_factory=factory) as emitter:
        topic.delivery_error = RuntimeError("lost")
        for _ in range(3):
            emitter.emit(**USAGE)
        assert emitter.flush()
        topic.delivery_error = None
        emitter.emit(**USAGE)
        assert emitter.flush()
        assert (emitter.stats.failed, emitter.stats.sent) == (3, 1)
        assert len(made) == 2
    assert topic.senders == 0
    assert len([r for r in caplog.records if "failed to be sent" in r.message]) == 1


def test_what_was_not_handed_over_is_sent_again_in_order():
    """Nothing has left then, so nothing can count twice."""
    topic = FakeTopic()
    with over(topic, pack_records_max=2) as emitter:
        topic.hand_over_error = RuntimeError("no leader")
        for number in range(9):
            emitter.emit(**USAGE, input_tokens=number)
        assert not emitter.flush(0.3)
        topic.hand_over_error = None
        assert emitter.flush()
        assert emitter.stats.sent == 9
        assert emitter.stats.failed == 0
    assert [r.input_tokens for r in agents_of(topic)["a1"]] == list(range(9))


def test_flush_covers_what_was_emitted_before_and_does_not_linger():
    """However long the linger is."""
    topic = FakeTopic(3)
    with over(topic, linger_s=30) as emitter:
        for number in range(20):
            emitter.emit(**USAGE | {"agent_id": f"a{number}"})
        started = time.monotonic()
        assert emitter.flush()
        assert time.monotonic() - started < 5
        assert sum(map(len, agents_of(topic).values())) == 20


def test_records_linger_to_travel_together():
    """Not sent one by one, and not kept for longer than the linger either."""
    topic = FakeTopic()
    with over(topic, linger_s=0.1) as emitter:
        for _ in range(10):
            emitter.emit(**USAGE)
            time.sleep(0.001)
        assert topic.messages() == []
        deadline = time.monotonic() + 5
        while not topic.messages() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [len(decode_message(value)) for _, _, value in topic.messages()] == [10]


ODD = {
    "a text of its own": {"organization_id": Text("acme")},
    "bytes": {"provider": bytearray(b"abc")},
    "a number of its own": {"executions": Number.TWO},
    "encoded": {"input_tokens": msgspec.Raw(b"3")},
    "metadata that is no JSON": {"metadata": msgspec.Raw(b'{"a":}}')},
}


@pytest.mark.parametrize("frames", [False, True], ids=["json", "frames"])
@pytest.mark.parametrize("name", ODD)
def test_an_odd_record_takes_no_other_with_it(name, frames):
    """A record is not checked when it is made: it arrives or is invalid, and all others arrive."""
    topic = FakeTopic()
    odd = msgspec.structs.replace(UsageRecord.new(**USAGE), **ODD[name])
    told = []
    with over(topic, frames=frames, on_delivered=told.append) as emitter:
        for number in range(20):
            emitter.emit(**USAGE)
            if number == 9:
                emitter.emit(odd)
        assert emitter.flush(5)
        stats = emitter.stats
    arrived = [usage for _, _, value in topic.messages() for usage in decode_usage(value, -1)[0]]
    assert len(arrived) == stats.sent == 21 - stats.invalid
    assert stats.invalid <= 1
    assert sum(len(each.records) for each in told) == stats.sent


def test_metadata_that_holds_no_json_is_invalid_alone():
    """What stands in it encoded already is looked at."""
    topic = FakeTopic()
    with over(topic) as emitter:
        for number in range(10):
            metadata = {"a": msgspec.Raw(b"}")} if number == 4 else {"a": 1}
            emitter.emit(**USAGE, metadata=metadata)
        assert emitter.flush(5)
        assert (emitter.stats.sent, emitter.stats.invalid) == (9, 1)
    assert len([u for _, _, value in topic.messages() for u in decode_usage(value, -1)[0]]) == 9


def test_a_record_that_comes_just_before_the_background_sleeps_is_seen():
    """It was put in before the emitter could know that somebody has to be woken."""
    with over(FakeTopic(), linger_s=0.001) as emitter:
        emitter.emit(**USAGE)
        assert emitter.flush()
        eventually(lambda: emitter._delivery.asleep)

        async def race():
            rest = asyncio.create_task(emitter._delivery._rest())
            emitter._queue.append(Item(None, (), dict(USAGE), 0.0))
            await rest
            emitter._queue.clear()
            return emitter._delivery.asleep

        assert emitter._background.run(race(), 1) is False


def test_closing_delivers_and_later_records_are_dropped():
    """In sync and async code; a second close does nothing."""
    topic = FakeTopic()
    emitter = over(topic, linger_s=30)
    emitter.emit(**USAGE)
    assert emitter.close()
    assert emitter.close()
    assert emitter.flush()
    assert emitter.emit(**USAGE) is False
    assert (emitter.stats.sent, emitter.stats.dropped) == (1, 1)

    async def use():
        async with over(topic, linger_s=30) as other:
            other.emit(**USAGE)
        assert await other.aclose()
        assert await other.aflush()
        return other.stats

    assert asyncio.run(use()).sent == 1
    assert topic.senders == 0


def test_what_is_delivered_is_told_with_its_place():
    """So that a gateway knows which of its records a decision contains; a hook may fail."""
    topic = FakeTopic(2)
    told = []

    def hook(details):
        told.append(details)
        raise RuntimeError("mistake in the hook")

    with over(topic, on_delivered=hook) as emitter:
        for number in range(10):
            emitter.emit(**USAGE | {"agent_id": f"a{number}"})
        assert emitter.flush()
    assert sum(len(details.records) for details in told) == 10
    for details in told:
        value = next(v for o, _, v in topic.logs[details.partition] if o == details.offset)
        assert encode_usage(list(details.records)) == value


def test_numbers_are_consistent_at_every_moment():
    """While four threads emit and the background settles, the sums always match."""
    topic = FakeTopic(2)
    with over(topic, buffer_records_max=200, linger_s=0.001) as emitter:
        stop = threading.Event()

        def work():
            while not stop.is_set():
                for _ in range(50):
                    emitter.emit(**USAGE)
                time.sleep(0.001)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        last = emitter.stats
        for _ in range(300):
            stats = emitter.stats
            assert_consistent(stats)
            assert stats.buffered >= 0
            assert stats.emitted >= last.emitted
            last = stats
        stop.set()
        for thread in threads:
            thread.join()
    assert emitter.stats.buffered == 0
    assert_consistent(emitter.stats)
    assert sum(map(len, agents_of(topic).values())) == emitter.stats.sent


@pytest.mark.parametrize(
    "wrong",
    [
        {"buffer_records_max": 0},
        {"buffer_records_max": float("nan")},
        {"pack_records_max": 1.5},
        {"pack_records_max": 0},
        {"pack_bytes_max": MESSAGE_BYTES_MAX + 1},
        {"in_flight_max": 0},
        {"linger_s": -1},
    ],
)
def test_bounds_that_cannot_be_are_refused(wrong):
    """When it is made: there the programmer is at hand."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        UsageEmitter(**wrong)


# -- on a real broker


@pytest.mark.parametrize("frames", [False, True], ids=["json", "frames"])
def test_20000_records_arrive_once_and_packed(topic_prefix, frames):
    """From threads and from async code, on a real broker, each in its agent's partition."""
    topic_prefix.create(usage=4)
    told = Counter()
    emitter = UsageEmitter(
        topic_prefix.bootstrap_servers,
        topics=topic_prefix.names,
        frames=frames,
        on_delivered=lambda details: told.update([(details.partition, details.offset)]),
    )
    with emitter:

        def work(name):
            for number in range(4_000):
                assert emitter.emit(**USAGE | {"agent_id": f"{name}-{number % 50}"})

        async def more():
            for number in range(4_000):
                assert emitter.emit(**USAGE | {"agent_id": f"async-{number % 50}"})
                if number % 100 == 0:
                    await asyncio.sleep(0)

        threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        asyncio.run(more())
        for thread in threads:
            thread.join()
        assert emitter.flush()
    assert emitter.stats.sent == emitter.stats.emitted == 20_000
    usages, messages = read_usages(topic_prefix)
    assert len(usages) == len({usage.record.id for _, usage in usages}) == 20_000
    assert sorted(usage.record.sequence for _, usage in usages) == list(range(1, 20_001))
    assert len(messages) < 1_000
    assert any(is_frame(message.value) for message in messages) == frames
    assert told == Counter((message.partition, message.offset) for message in messages)
    by_agent = defaultdict(list)
    for partition, usage in usages:
        assert partition == usage_partition("acme", usage.record.agent_id, 4)
        by_agent[usage.record.agent_id].append(usage.record.sequence)
    assert all(sequences == sorted(sequences) for sequences in by_agent.values())


def test_after_a_message_that_is_refused_the_others_go_on(topic_prefix):
    """An idempotent producer's sequence has a gap then, which the broker never forgives."""
    if not topic_prefix.broker.transactions:
        pytest.skip(f"{topic_prefix.broker.name} has no idempotent producer")
    topic_prefix.create(usage=1)
    emitter = UsageEmitter(
        topic_prefix.bootstrap_servers, topics=topic_prefix.names, pack_bytes_max=1_000_000
    )
    topic_prefix.limit_messages(topic_prefix.names.usage, 20_000)
    with emitter:
        emitter.emit(**USAGE)
        assert emitter.flush()
        for _ in range(200):  # one pack of some 40 kB
            emitter.emit(**USAGE)
        assert emitter.flush()
        assert emitter.stats.failed == 200
        for _ in range(3):
            emitter.emit(**USAGE)
            assert emitter.flush()
        assert emitter.stats.sent == 4


def test_a_topic_that_is_made_later_is_found(topic_prefix):
    """Until then everything is kept."""
    if isinstance(topic_prefix.broker, TansuBroker):
        pytest.skip(f"{topic_prefix.broker.name} makes any topic that is asked about")
    with UsageEmitter(topic_prefix.bootstrap_servers, topics=topic_prefix.names) as emitter:
        emitter.emit(**USAGE)
        assert not emitter.flush(1)
        topic_prefix.create(usage=3)
        assert emitter.flush()
        assert emitter.stats.sent == 1


def test_a_broker_without_idempotence_gets_a_plain_producer(topic_prefix, monkeypatch, caplog):
    """As Tansu, which refuses InitProducerId: said once, and the records arrive."""
    topic_prefix.create(usage=1)
    from aiokafka.errors import UnsupportedVersionError
    from aiokafka.producer.sender import Sender

    async def refuse(self, node_id):
        raise UnsupportedVersionError("InitProducerId")

    monkeypatch.setattr(Sender, "_do_init_pid", refuse)
    monkeypatch.setattr("outlay.sending._said", set())
    for _ in range(2):
        with UsageEmitter(topic_prefix.bootstrap_servers, topics=topic_prefix.names) as emitter:
            emitter.emit(**USAGE)
            assert emitter.flush()
    assert len([r for r in caplog.records if "no idempotent producer" in r.message]) == 1
    assert len(read_usages(topic_prefix)[0]) == 2


def test_the_producer_is_idempotent_where_the_broker_has_it(topic_prefix, monkeypatch):
    """And acknowledged by all."""
    topic_prefix.create(usage=1)
    made = []
    start = AIOKafkaProducer.start

    async def spy(self):
        made.append(self)
        await start(self)

    monkeypatch.setattr(AIOKafkaProducer, "start", spy)
    with UsageEmitter(topic_prefix.bootstrap_servers, topics=topic_prefix.names) as emitter:
        emitter.emit(**USAGE)
        assert emitter.flush()
        if topic_prefix.broker.transactions:
            assert made[0]._txn_manager is not None
        assert made[-1]._sender._acks == -1


def test_what_is_open_at_the_end_of_a_program_is_delivered(topic_prefix):
    """Also from a script that ends at once and names its broker by a host name."""
    topic_prefix.create(usage=1)
    port = topic_prefix.bootstrap_servers.rsplit(":", 1)[1]
    script = f"""
from outlay import TopicNames, UsageEmitter
emitter = UsageEmitter("localhost:{port}", topics=TopicNames({topic_prefix.names.prefix!r}))
for n in range(100):
    emitter.emit(organization_id="acme", agent_id="a1", cost_usd=0.5)
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=30
    )
    assert run.returncode == 0
    if topic_prefix.broker.transactions:  # otherwise it says that duplicates are possible
        assert run.stderr == ""
    usages, _ = read_usages(topic_prefix)
    assert sum(Decimal(usage.cost_nano) / 10**9 for _, usage in usages) == 50


def test_importing_the_library_imports_no_part_of_the_service():
    """Only what the published wheel depends on; and it starts nothing."""
    script = """
import sys, threading
import outlay
heavy = {"faust", "fastapi", "pydantic", "starlette", "mode", "chdb", "clickhouse_connect",
         "typer", "rich", "structlog", "prometheus_client", "streams", "api", "schemas"}
print(sorted(heavy & set(sys.modules)), threading.active_count())
print(sorted(set(outlay.__all__)) == sorted(outlay.__all__),
      [name for name in outlay.__all__ if not hasattr(outlay, name)])
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert run.stdout.splitlines() == ["[] 1", "True []"]


def test_logging_is_left_to_the_program():
    """The library adds no handlers."""
    assert logging.getLogger("outlay").handlers == []
