"""What all tests share: one Kafka broker for the session, and topics of their own for each test."""

import asyncio
import gc
import os
import signal
import tempfile
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from hypothesis import HealthCheck, settings

from outlay import TopicNames
from outlay.embedded import Broker, EmbeddedError, find_broker

# A run in a shell's background begins with SIGINT ignored, and so would the children that tests
# interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A broker here ends before Java's second compiler, which takes a third of its time, has paid.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# How long an example takes says more about what else this machine does than about the code.
settings.register_profile("outlay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("outlay")

pytest_plugins = ["tests.parallel"]

_TOPIC_CONFIGS = {
    "usage": {"message.timestamp.type": "LogAppendTime"},
    "partials": {},
    "budgets": {},
    "decisions": {"cleanup.policy": "compact"},
    "audit": {"cleanup.policy": "delete"},
    "alerts": {"cleanup.policy": "delete"},
    "alert_deliveries": {"cleanup.policy": "delete"},
    "rejected": {},
}


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[Broker]:
    """The session's broker: the best that can be had here, started once, in its own directory."""
    with tempfile.TemporaryDirectory(
        prefix="outlay-test-", ignore_cleanup_errors=True
    ) as directory:
        try:
            broker = find_broker(Path(directory))
            broker.start()
        except EmbeddedError as error:
            pytest.skip(f"no broker: {error}")
        try:
            yield broker
        finally:
            broker.stop()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector what is imported: it would look at all of it again and again.

    A collection takes a third of a second with it, and many tests end with one.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="module")
def spared() -> None:
    """The same with what other modules have left: what a test leaves is found sooner."""
    gc.collect()
    gc.freeze()


def pytest_report_header() -> str:
    """Which broker the tests run on; it is started by the first test that needs one."""
    try:
        # Only asked for its name here: it is not started, and writes nothing.
        return f"kafka broker: {find_broker(Path('unused')).name}"
    except EmbeddedError as error:
        return f"kafka broker: none ({error})"


@dataclass
class Topics:
    """Topics with a prefix of their own on a broker, and how to read and write them in tests."""

    broker: Broker
    names: TopicNames = field(
        default_factory=lambda: TopicNames(prefix=f"test-{uuid.uuid4().hex[:12]}")
    )

    @property
    def bootstrap_servers(self) -> str:
        return self.broker.bootstrap_servers

    def create(self, **partitions: int) -> None:
        """Create topics by their attribute of `TopicNames`: `create(usage=4, decisions=2)`."""
        asyncio.run(self._create(partitions))

    async def _create(self, partitions: dict[str, int]) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            await admin.create_topics(
                [
                    NewTopic(
                        getattr(self.names, name), count, 1, topic_configs=_TOPIC_CONFIGS[name]
                    )
                    for name, count in partitions.items()
                ]
            )
            for name, count in partitions.items():  # created is not yet known everywhere
                await _wait_for_topic(admin, getattr(self.names, name), count)
        finally:
            await admin.close()

    def limit_messages(self, topic: str, bytes_max: int) -> None:
        """Have the broker refuse larger messages on a topic."""
        asyncio.run(self._limit_messages(topic, bytes_max))

    async def _limit_messages(self, topic: str, bytes_max: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            configs = {"max.message.bytes": str(bytes_max)}
            await admin.alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)]
            )
        finally:
            await admin.close()

    def send(
        self, topic: str, messages: list[tuple[bytes | None, bytes | None, int]], **producer: Any
    ) -> None:
        """Send (key, value, partition)s in order; with `transactional_id=…` in one transaction."""
        asyncio.run(self.asend(topic, messages, **producer))

    async def asend(
        self, topic: str, messages: list[tuple[bytes | None, bytes | None, int]], **options: Any
    ) -> None:
        """`send` for code in an event loop."""
        async with AIOKafkaProducer(
            bootstrap_servers=self.bootstrap_servers, acks="all", **options
        ) as producer:
            if "transactional_id" in options:
                await producer.begin_transaction()
            sent = [
                await producer.send(topic, value, key, partition)
                for key, value, partition in messages
            ]
            await asyncio.gather(*sent)
            if "transactional_id" in options:
                await producer.commit_transaction()

    def read(self, topic: str) -> list[Any]:
        """Every message that the topic holds now, as aiokafka's records, in order by partition."""
        return asyncio.run(self.aread(topic))

    async def aread(self, topic: str) -> list[Any]:
        """`read` for code in an event loop."""
        async with AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap_servers, enable_auto_commit=False
        ) as consumer:
            await consumer._client.set_topics([topic])
            partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
            ends = await consumer.end_offsets(partitions)
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            messages: list[Any] = []
            async with asyncio.timeout(30):
                for partition, end in ends.items():
                    while await consumer.position(partition) < end:
                        batch = await consumer.getmany(partition, timeout_ms=500)
                        messages += batch.get(partition, [])
            return messages


async def _wait_for_topic(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> None:
    async with asyncio.timeout(20):
        while True:
            found = (await admin.describe_topics([topic]))[0]
            ready = [p for p in found["partitions"] if p["leader"] >= 0]
            if not found["error_code"] and len(ready) == partitions:
                return
            await asyncio.sleep(0.05)


@pytest.fixture
def topic_prefix(kafka: Broker) -> Topics:
    """Unique topic names for one test on the session's broker, with `create`, `send`, `read`."""
    return Topics(kafka)
