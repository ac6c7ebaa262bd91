"""What the tests of the brokers send and read, with plain aiokafka clients."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

READ_TIMEOUT_S = 20.0


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run within a bound, so that no broker can hang the tests."""
    return asyncio.run(asyncio.wait_for(coroutine, 3 * READ_TIMEOUT_S))


async def create_topic(servers: str, topic: str, **settings: str) -> None:
    """Create a topic of one partition; raises AssertionError when the broker refuses."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        new = NewTopic(
            topic, 1, 1, topic_configs={k.replace("_", "."): settings[k] for k in settings}
        )
        answer = await admin.create_topics([new])
        assert [error[1] for error in answer.topic_errors] == [0]
    finally:
        await admin.close()


async def produce(servers: str, topic: str, values: list[bytes], **settings: Any) -> list[Any]:
    """Send in one transaction when `settings` name a transactional id; the records' metadata."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, **settings)
    await producer.start()
    try:
        if "transactional_id" in settings:
            async with producer.transaction():
                return [await producer.send_and_wait(topic, value) for value in values]
        return [await producer.send_and_wait(topic, value) for value in values]
    finally:
        await producer.stop()


async def read(servers: str, topic: str, count: int, *, group: str | None = None) -> list[bytes]:
    """The first `count` committed values, from the start or as a member of `group`."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers,
        group_id=group,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        if group is None:
            consumer.assign([TopicPartition(topic, 0)])
        else:
            consumer.subscribe([topic])
        async with asyncio.timeout(READ_TIMEOUT_S):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()
