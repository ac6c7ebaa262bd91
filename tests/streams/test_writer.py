"""Writers: what is told goes out first, together, and what is saved only after it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from streams import producing, shared_writer
from streams.flush import Flush, Outgoing, Transaction
from streams.shared_writer import SharedProducer, TellingWriter

OFFSETS = {("usage", 0): 7}


class FakeProducer:
    """Acknowledges what it is sent a moment later, in the reverse order, or not at all."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.log: list[Any] = []
        self.fails: dict[bytes, BaseException | None] = {}
        """What of the values is not acknowledged, but fails, or is never heard of."""
        self.starts = 0
        self.start_error: Exception | None = None
        self.hangs = False

    async def start(self) -> None:
        self.starts += 1
        await asyncio.sleep(0.01)
        if self.start_error is not None:
            raise self.start_error

    async def stop(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        self.log.append("stopped")

    async def send(
        self, topic: str, value: bytes, key: bytes | None, partition: int
    ) -> asyncio.Future[None]:
        await asyncio.sleep(0)
        self.log.append((topic, partition, key, value))
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        error = self.fails.get(value)
        if error is not None:
            acknowledged.set_exception(error)
        elif value not in self.fails:
            delay_s = 0.02 / len(self.log)
            asyncio.get_running_loop().call_later(delay_s, self._acknowledge, acknowledged, value)
        return acknowledged

    def _acknowledge(self, acknowledged: asyncio.Future[None], value: bytes) -> None:
        self.log.append(("acknowledged", value))
        acknowledged.set_result(None)


class Saving:
    """The writer of all else: remembers what it is given, in the producer's log."""

    def __init__(self, producer: FakeProducer) -> None:
        self._producer = producer

    async def start(self) -> None:
        self._producer.log.append("fenced")

    async def write(self, flush: Flush) -> None:
        (transaction,) = flush.transactions
        rows = [value for out in transaction.changelog for _, value in out.messages]
        self._producer.log.append(("saved", rows, transaction.offsets))

    async def stop(self) -> None:
        self._producer.log.append("let go")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    """What a shared producer sends through."""
    producer = FakeProducer()

    def make(**settings: Any) -> FakeProducer:
        producer.settings = settings
        return producer

    monkeypatch.setattr(shared_writer, "AIOKafkaProducer", make)
    return producer


def telling(fake: FakeProducer, timeout_s: float = 5.0) -> TellingWriter:
    return TellingWriter(SharedProducer({}, idempotent=True), Saving(fake), timeout_s)


def told(*values: bytes, partition: int = 0) -> Outgoing:
    return Outgoing("partials", partition, [(None, value) for value in values])


def rows(*values: bytes) -> Outgoing:
    return Outgoing("changelog", 0, [(value, value) for value in values])


TWO = Flush(
    [
        Transaction(told=[told(b"a", b"b"), told(b"c", partition=1)], changelog=[rows(b"1")]),
        Transaction(told=[told(b"d")], changelog=[rows(b"2")], offsets=OFFSETS),
    ]
)


def test_each_transaction_is_told_and_acknowledged_before_it_is_written(
    fake: FakeProducer,
) -> None:
    """And the next one comes after it."""
    asyncio.run(telling(fake).write(TWO))
    sent = [each for each in fake.log if each[0] == "partials"]
    assert [(partition, value) for _, partition, _, value in sent] == [
        (0, b"a"), (0, b"b"), (1, b"c"), (0, b"d"),
    ]  # fmt: skip
    saved = [n for n, each in enumerate(fake.log) if each[0] == "saved"]
    assert [fake.log[n][1:] for n in saved] == [([b"1"], {}), ([b"2"], OFFSETS)]
    acknowledged = {each[1]: n for n, each in enumerate(fake.log) if each[0] == "acknowledged"}
    assert max(acknowledged[value] for value in (b"a", b"b", b"c")) < saved[0]
    assert saved[0] < fake.log.index(("partials", 0, None, b"d"))
    assert acknowledged[b"d"] < saved[1]


def test_offsets_alone_are_written_and_nothing_is_not(fake: FakeProducer) -> None:
    """A flush that only tells takes no transaction."""
    asyncio.run(telling(fake).write(Flush([Transaction(told=[told(b"a")])])))
    assert not [each for each in fake.log if each[0] == "saved"]
    asyncio.run(telling(fake).write(Flush([Transaction(offsets=OFFSETS)])))
    assert fake.log[-1] == ("saved", [], OFFSETS)


@pytest.mark.parametrize("value", [b"a", b"b", b"c"])
@pytest.mark.parametrize("error", [OSError("gone"), None])
def test_what_is_not_acknowledged_fails_and_nothing_is_saved(
    fake: FakeProducer, value: bytes, error: OSError | None
) -> None:
    """Neither that transaction nor a later one; what is never heard of fails after a while."""
    fake.fails[value] = error
    with pytest.raises(TimeoutError if error is None else OSError):
        asyncio.run(telling(fake, 0.1).write(TWO))
    assert not [each for each in fake.log if each[0] == "saved"]
    assert b"d" not in [each[-1] for each in fake.log]


def test_partitions_share_one_producer_that_starts_once(fake: FakeProducer) -> None:
    """Each is fenced before it could tell; when one is let go of, the others tell on."""
    shared = SharedProducer({"bootstrap_servers": "b"}, idempotent=True)

    async def run() -> None:
        writers = [TellingWriter(shared, Saving(fake), 5.0) for _ in range(3)]
        await asyncio.gather(*(each.start() for each in writers))
        assert fake.starts == 1
        await writers[0].stop()
        assert fake.log == ["fenced"] * 3 + ["let go"]
        await asyncio.gather(*(each.write(TWO) for each in writers[1:]))
        await shared.stop()
        await shared.stop()

    asyncio.run(run())
    assert fake.log.count("stopped") == 1
    assert fake.settings["bootstrap_servers"] == "b"


@pytest.mark.parametrize("idempotent", [True, False])
def test_the_shared_producer_is_idempotent_where_the_broker_can(
    fake: FakeProducer, idempotent: bool
) -> None:
    """And has every copy acknowledge."""
    asyncio.run(SharedProducer({}, idempotent=idempotent).get())
    assert fake.settings["enable_idempotence"] is idempotent
    assert fake.settings["acks"] == "all"


def test_it_tells_no_more_than_there_are_sequence_numbers(
    fake: FakeProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are each partition's own; the worker is started anew."""
    monkeypatch.setattr(producing, "RECORDS_PER_PRODUCER_MAX", 5)
    shared = SharedProducer({}, idempotent=True)

    async def run() -> None:
        await shared.tell([told(b"a", b"b", b"c")])
        await shared.tell([told(b"d", b"x"), told(*[b"y"] * 4, partition=1)])
        with pytest.raises(RuntimeError, match="sequence"):
            await shared.tell([told(b"e")])

    asyncio.run(run())
    assert b"e" not in [each[-1] for each in fake.log]


def test_a_producer_that_does_not_start_is_not_kept(fake: FakeProducer) -> None:
    """The next one who asks has it started anew."""
    shared = SharedProducer({}, idempotent=True)
    fake.start_error = OSError("gone")

    async def run() -> None:
        with pytest.raises(OSError, match="gone"):
            await shared.get()
        fake.start_error = None
        await shared.get()

    asyncio.run(run())
    assert fake.starts == 2
    assert fake.log == ["stopped"]


def test_to_stop_is_bounded(fake: FakeProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the broker gone a producer would try on for ever."""
    monkeypatch.setattr(producing, "STOP_TIMEOUT_S", 0.05)
    fake.hangs = True
    shared = SharedProducer({}, idempotent=True)

    async def run() -> float:
        await shared.get()
        started = time.monotonic()
        await shared.stop()
        return time.monotonic() - started

    assert asyncio.run(run()) < 5
