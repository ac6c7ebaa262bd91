"""Hop: how long a message takes from a producer to a consumer, with nothing in between."""

from __future__ import annotations

import asyncio
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from bench import kafka

PAUSE_S = 0.01
TIMEOUT_S = 60.0
VALUE = b"x" * 300
"""As large as a record."""


async def hops_s(servers: str, topic: str, count: int) -> list[float]:
    """The times of so many messages, one after the other, in seconds; the first are not counted."""
    async with kafka.admin(servers) as admin:
        if topic not in await admin.list_topics():
            await admin.create_topics([NewTopic(topic, 1, 1)])
            await asyncio.sleep(1.0)  # until it has a leader
    found = []
    async with (
        AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer,
        AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False) as consumer,
        asyncio.timeout(TIMEOUT_S),
    ):
        tp = TopicPartition(topic, 0)
        await consumer._client.set_topics([topic])
        consumer.assign([tp])
        await consumer.seek_to_end(tp)
        await consumer.position(tp)
        warm = max(count // 10, 1)
        for _ in range(count + warm):
            arriving = asyncio.create_task(consumer.getone())
            await asyncio.sleep(PAUSE_S)
            sent_s = time.monotonic()
            await producer.send(topic, VALUE, partition=0)
            await arriving
            found.append(time.monotonic() - sent_s)
    return found[warm:]
