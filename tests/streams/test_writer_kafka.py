"""What a worker's partitions tell and save on a real broker, also one that was taken over."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest

from outlay.embedded.asking import supports_transactions
from streams.flush import Flush, Outgoing, Transaction
from streams.shared_writer import SharedProducer, TellingWriter
from streams.writer import Fenced, TransactionalWriter
from tests.conftest import Topics


@pytest.fixture
def partials(topic_prefix: Topics) -> Topics:
    """Partials and, for a changelog, decisions, on a broker with transactions."""
    if not supports_transactions(topic_prefix.bootstrap_servers):
        pytest.skip("the broker has no transactions")
    topic_prefix.create(partials=2, decisions=1, usage=1)
    return topic_prefix


class Worker:
    """The writers of a worker: one for each usage partition, on one shared producer."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._kafka = {"bootstrap_servers": topics.bootstrap_servers}
        self.shared = SharedProducer(self._kafka, idempotent=True)

    async def writer(self, partition: int) -> TellingWriter:
        """Take a partition over."""
        names = self._topics.names
        tid = f"{names.prefix}-{partition}"
        inner = TransactionalWriter(tid, names.prefix, 20.0, self._kafka)
        telling = TellingWriter(self.shared, inner, 20.0)
        await telling.start()
        return telling

    def flush(self, source: int, number: int, *, saves: bool = True) -> Flush:
        """What a partition tells each totals partition, and what it saves."""
        names, value = self._topics.names, b"%d %d" % (source, number)
        some = [Outgoing(names.partials, target, [(None, value)]) for target in (0, 1)]
        row = [Outgoing(names.decisions, 0, [(b"%d" % source, value)])] if saves else []
        offsets = {(names.usage, 0): number} if saves else {}
        return Flush([Transaction(told=some, changelog=row, offsets=offsets)])


def test_what_partitions_tell_together_arrives_in_order(partials: Topics) -> None:
    """Each one's in its own, at each totals partition, whoever else tells and saves meanwhile."""

    async def run() -> None:
        worker = Worker(partials)
        writers = [await worker.writer(source) for source in range(3)]

        async def write(source: int) -> None:
            for number in range(40):
                flush = worker.flush(source, number, saves=number % 10 == 9)
                await writers[source].write(flush)

        await asyncio.gather(*map(write, range(3)))
        for each in writers:
            await each.stop()
        await worker.shared.stop()

    asyncio.run(run())
    found = defaultdict(list)
    for record in partials.read(partials.names.partials):
        source, number = map(int, record.value.split())
        found[record.partition, source].append(number)
    assert found == {(target, source): [*range(40)] for target in (0, 1) for source in range(3)}
    saved = [record.value for record in partials.read(partials.names.decisions)]
    assert sorted(saved) == sorted(b"%d %d" % (s, n) for s in range(3) for n in (9, 19, 29, 39))


def test_who_was_taken_over_tells_and_saves_nothing(partials: Topics) -> None:
    """What it knows is true; the table is another's."""

    async def run() -> None:
        old, new = Worker(partials), Worker(partials)
        before = await old.writer(0)
        await before.write(old.flush(0, 1))
        after = await new.writer(0)
        await before.write(old.flush(0, 2, saves=False))
        with pytest.raises(Fenced):
            await before.write(old.flush(0, 3))
        await after.write(new.flush(0, 4))
        for worker, telling in ((old, before), (new, after)):
            await telling.stop()
            await worker.shared.stop()

    asyncio.run(run())
    told = [r.value for r in partials.read(partials.names.partials) if r.partition == 0]
    assert told == [b"0 1", b"0 2", b"0 3", b"0 4"]
    assert [r.value for r in partials.read(partials.names.decisions)] == [b"0 1", b"0 4"]


def test_after_what_the_broker_refuses_its_partition_is_told_nothing(partials: Topics) -> None:
    """The progress would be known without its entries; and nothing of it is saved."""
    names = partials.names
    partials.limit_messages(names.partials, 1_000)

    async def run() -> None:
        worker = Worker(partials)
        telling = await worker.writer(0)
        await telling.write(worker.flush(0, 1))
        large = worker.flush(0, 2)
        large.transactions[0].told = [Outgoing(names.partials, 0, [(None, b"x" * 5_000)])]
        with pytest.raises(Exception, match=r"(?i)large"):
            await telling.write(large)
        with pytest.raises(Exception, match=r"(?i)sequence"):
            async with asyncio.timeout(5):
                await worker.shared.tell(worker.flush(0, 3).transactions[0].told)
        await telling.stop()
        await worker.shared.stop()

    asyncio.run(run())
    told = [r.value for r in partials.read(names.partials) if r.partition == 0]
    assert told == [b"0 1"]
    assert [r.value for r in partials.read(names.decisions)] == [b"0 1"]
