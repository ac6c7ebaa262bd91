"""What the application needs of its log: the same of the one in memory, and of the real broker."""

import asyncio
import uuid

import pytest
from msgspec.structs import replace

from outlay.alert import encode_alert
from schemas.messages import AlertDelivery
from schemas.settings import Settings
from streams.alerting.dead import dead_letters, redeliver
from streams.alerting.dead_letter import REDELIVERY_HEADER, DeadAlert, Redelivery, at, encode
from streams.alerting.kafka_log import KafkaAlertLog
from streams.alerting.log import Lost
from streams.alerting.state_reading import read_state
from tests.alerts.alert_world import Broker, MemoryLog, alert


class Owner:
    """Remembers which partitions it has."""

    def __init__(self):
        self.partitions = []
        self.revocations = 0
        self.changed = asyncio.Event()

    def assigned(self, partitions):
        self.partitions = list(partitions)
        self.changed.set()

    async def revoked(self):
        self.partitions = []
        self.revocations += 1


class InMemory:
    """Makes logs over one broker in memory."""

    def __init__(self):
        self.broker = Broker(partitions=2)

    def log(self):
        return MemoryLog(self.broker)

    async def publish(self, partition, value, headers=()):
        self.broker.alerts[partition].append((value, list(headers)))

    async def told(self):
        return len(self.broker.deliveries), len(self.broker.dead)


class OnKafka:
    """Makes logs over the session's broker."""

    def __init__(self, topics):
        self.topics = topics
        self.settings = Settings(
            kafka_bootstrap_servers=topics.bootstrap_servers,
            topic_prefix=topics.names.prefix,
            app_id=topics.names.prefix,
            session_timeout_s=6,
        )

    def log(self):
        return KafkaAlertLog(self.settings)

    async def publish(self, partition, value, headers=()):
        from aiokafka import AIOKafkaProducer

        async with AIOKafkaProducer(bootstrap_servers=self.topics.bootstrap_servers) as producer:
            await producer.send_and_wait(
                self.topics.names.alerts, value, b"k", partition, headers=list(headers)
            )

    async def told(self):
        names = self.topics.names
        return tuple(
            [len(await self.topics.aread(n)) for n in (names.alert_deliveries, names.alerts_dead)]
        )


@pytest.fixture(params=["memory", "kafka"])
def logs(request):
    """Where logs are made."""
    if request.param == "memory":
        return InMemory()
    return OnKafka(request.getfixturevalue("alert_topics"))


async def opened(log):
    owner = Owner()
    await log.open(owner)
    async with asyncio.timeout(30):
        await owner.changed.wait()
    return owner


async def read(log, count, partitions=(0, 1)):
    """So many messages, by partition."""
    found = {}
    async with asyncio.timeout(30):
        while sum(map(len, found.values())) < count:
            for partition, messages in (await log.read(partitions, 0.1)).items():
                found.setdefault(partition, []).extend(messages)
    return found


def delivery():
    return AlertDelivery(
        delivery_id="alt_1", alert_ids=("alt_1",), scope="organization:acme",
        organization_id="acme", event="budget.warning", channel="webhook", target="t",
        attempt=1, status="delivered", code=200, reason="", attempted_at=at(0), duration_ms=1,
    )  # fmt: skip


def dead(one):
    return DeadAlert(
        delivery_id=one.alert_id, channel="webhook", scope=one.scope, organization_id="acme",
        alerts=(one,), target="t", reason="HTTP 500", code=500, attempts=3, failed_at=at(0),
    )  # fmt: skip


def test_the_log_keeps_its_word(logs):
    """Order and headers of what is read, state by its keys, and a restart from the commit."""

    async def main():
        alerts = [alert() for _ in range(3)]
        log = logs.log()
        owner = await opened(log)
        assert sorted(owner.partitions) == [0, 1]
        assert [await log.load(n) for n in (0, 1)] == [{}, {}]
        again = Redelivery("r 1", dead(alerts[2]))
        await logs.publish(0, encode_alert(alerts[0]))
        await logs.publish(0, b"{")
        await logs.publish(1, encode_alert(alerts[1]))
        await logs.publish(0, encode_alert(alerts[2]), [(REDELIVERY_HEADER, encode(again))])
        found = await read(log, 4)
        assert [each.alert for each in found[0]] == [alerts[0], None, alerts[2]]
        assert [each.redelivery for each in found[0]] == [None, None, again]
        assert [each.offset for each in found[0]] == [0, 1, 2]
        assert [each.alert for each in found[1]] == [alerts[1]]
        await log.write(0, {b"a": b"1", b"b": b"1", b"c": b"1"})
        await log.write(0, {b"a": None})
        await log.write(0, {b"b": b"2", b"d": b"x" * 100_000})
        await log.write(1, {b"a": b"5"})
        assert await log.commit(0, 2)
        await log.write(0, {}, told=delivery(), dead=dead(alerts[0]))
        assert await logs.told() == (1, 1)
        await log.close()

        log = logs.log()
        await opened(log)
        assert await log.load(0) == {b"b": b"2", b"c": b"1", b"d": b"x" * 100_000}
        assert await log.load(1) == {b"a": b"5"}
        found = await read(log, 2)
        assert [each.offset for each in found[0]] == [2]
        assert [each.alert for each in found[1]] == [alerts[1]]
        await log.load(0)  # and that is where it goes on from again
        assert [each.offset for each in (await read(log, 1, [0]))[0]] == [2]
        await log.close()

    asyncio.run(main())


def test_a_second_member_takes_half_and_the_first_is_told_before(alert_topics):
    """It may finish what it has under way; then its commits are refused."""

    async def main():
        logs = OnKafka(alert_topics)
        first, second = logs.log(), logs.log()
        one = await opened(first)
        assert sorted(one.partitions) == [0, 1]
        joining = asyncio.create_task(opened(second))
        async with asyncio.timeout(60):
            while not joining.done() or len(one.partitions) != 1:
                await first.read([0, 1], 0.1)
        two = joining.result()
        assert one.revocations >= 1
        assert sorted(one.partitions + two.partitions) == [0, 1]
        (foreign,) = two.partitions
        assert not await first.commit(foreign, 1)
        await first.close()
        await second.close()

    asyncio.run(main())


def test_who_lost_a_partition_without_knowing_writes_nothing_more(alert_topics, kafka):
    """The newest owner's state stands; nothing of the other's write does, nor its dead letter."""
    if not kafka.transactions:
        pytest.skip(f"{kafka.name} has no transactions: a paused process is not fenced")

    async def main():
        logs = OnKafka(alert_topics)
        zombie, owner = logs.log(), logs.log()
        await opened(zombie)
        await zombie.load(0)
        await zombie.write(0, {b"a": b"old", b"b": b"1"})
        await owner.open(Owner())
        assert await owner.load(0) == {b"a": b"old", b"b": b"1"}
        await owner.write(0, {b"a": b"new"})
        with pytest.raises(Lost):
            await zombie.write(0, {b"a": b"older", b"b": None}, told=delivery(), dead=dead(alert()))
        with pytest.raises(Lost):
            await zombie.write(0, {b"a": b"older"})
        await owner.write(0, {b"c": b"2"})
        names = logs.topics.names
        kept = await read_state(
            logs.settings.kafka_bootstrap_servers, names.alert_state, 0, committed=True
        )
        assert kept == {b"a": b"new", b"b": b"1", b"c": b"2"}
        assert await logs.told() == (0, 0)
        assert await zombie.load(0) == kept  # and whoever has it again goes on from there
        await zombie.write(0, {b"a": b"newest"})
        with pytest.raises(Lost):
            await owner.write(0, {b"a": b"x"})
        await owner.close()
        await zombie.close()

    asyncio.run(main())


def test_dead_letters_are_sent_again_once(alert_topics):
    """All or some, by their id; then they are none any more, until they fail again.

    That may be before the message that says that they were sent again.
    """

    async def main():
        logs = OnKafka(alert_topics)
        log = logs.log()
        await opened(log)
        await log.load(0)
        one, two, three = (alert(f"organization:acme/agent:{n}") for n in range(3))
        for each in (one, two, three):
            await log.write(0, {}, dead=dead(each))
        first = await redeliver(logs.settings, [two.alert_id, "alt_x"])
        assert (first.sent, first.unknown) == ((two.alert_id,), ("alt_x",))
        left = [each.delivery_id for each in await dead_letters(logs.settings)]
        assert sorted(left) == sorted([one.alert_id, three.alert_id])
        assert len((await redeliver(logs.settings, None)).sent) == 2
        assert await dead_letters(logs.settings) == []
        assert (await redeliver(logs.settings, None)).sent == ()
        found = [each for part in (await read(log, 3)).values() for each in part]
        assert {each.redelivery.dead.delivery_id for each in found} == {
            one.alert_id, two.alert_id, three.alert_id,
        }  # fmt: skip
        assert all(each.alert == each.redelivery.dead.alerts[0] for each in found)
        again = replace(dead(one), failed_at=at(1))
        for _ in range(2):  # the second after a crash
            await log.write(0, {}, dead=again)
            again = replace(again, failed_at=at(2))
        await logs.topics.asend(logs.topics.names.alerts_dead, [(dead(one).key, None, 0)])
        assert await dead_letters(logs.settings) == [replace(dead(one), failed_at=at(2))]
        assert (await redeliver(logs.settings, None)).sent == (one.alert_id,)
        assert await dead_letters(logs.settings) == []
        await log.close()

    asyncio.run(main())


def test_a_topic_that_is_absent_is_waited_for(topic_prefix):
    """Joining does not make it, with the broker's own partition count."""
    from aiokafka.errors import UnknownTopicOrPartitionError

    settings = Settings(
        kafka_bootstrap_servers=topic_prefix.bootstrap_servers,
        topic_prefix=f"absent-{uuid.uuid4().hex}",
    )

    async def main():
        with pytest.raises(UnknownTopicOrPartitionError, match="do not exist yet"):
            await KafkaAlertLog(settings).open(Owner())

    asyncio.run(main())
