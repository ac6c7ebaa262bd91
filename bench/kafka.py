"""Kafka: what the benchmarks put into topics, and what they read back, past the code they measure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from bench.usage import Sample

BATCH_BYTES = 16_384
"""How large the producer's batches of single records are, in bytes: Kafka's own default."""

PACKED_BATCH_BYTES = 900_000
IN_FLIGHT_MAX = 64
READ_TIMEOUT_S = 300.0


@asynccontextmanager
async def admin(servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client, closed at the end."""
    client = AIOKafkaAdminClient(bootstrap_servers=servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def consumer(servers: str, topic: str) -> AsyncIterator[tuple[Any, list[TopicPartition]]]:
    """A consumer without a group, and the partitions of a topic; nothing is assigned yet."""
    async with AIOKafkaConsumer(
        bootstrap_servers=servers, enable_auto_commit=False, max_poll_records=None
    ) as client:
        await client._client.set_topics([topic])
        found = sorted(client.partitions_for_topic(topic) or ())
        yield client, [TopicPartition(topic, partition) for partition in found]


async def load(servers: str, topic: str, samples: Iterable[Sample], *, pack: int = 1) -> None:
    """Put records into a usage topic: one a message, or arrays of `pack` of them."""
    size = BATCH_BYTES if pack == 1 else PACKED_BATCH_BYTES
    async with AIOKafkaProducer(
        bootstrap_servers=servers, max_batch_size=size, max_request_size=4 * PACKED_BATCH_BYTES
    ) as producer:
        filling: dict[int, Any] = {}
        packs: dict[int, list[bytes]] = {}
        sent: list[Any] = []

        async def send(partition: int) -> None:
            batch = filling.pop(partition)
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            if len(sent) >= IN_FLIGHT_MAX:
                await asyncio.gather(*sent)
                sent.clear()

        async def append(partition: int, value: bytes) -> None:
            batch = filling.setdefault(partition, producer.create_batch())
            if batch.append(key=None, value=value, timestamp=None) is None:
                await send(partition)
                batch = filling[partition] = producer.create_batch()
                assert batch.append(key=None, value=value, timestamp=None) is not None

        for sample in samples:
            if pack == 1:
                await append(sample.partition, sample.json)
                continue
            parts = packs.setdefault(sample.partition, [])
            parts.append(sample.json)
            if len(parts) == pack:
                await append(sample.partition, b"[%b]" % b",".join(packs.pop(sample.partition)))
        for partition, parts in packs.items():
            await append(partition, b"[%b]" % b",".join(parts))
        for partition in list(filling):
            await send(partition)
        await asyncio.gather(*sent)


async def ends(servers: str, topic: str) -> dict[int, int]:
    """Where each partition of a topic ends."""
    async with consumer(servers, topic) as (client, partitions):
        found: Mapping[TopicPartition, int] = await client.end_offsets(partitions)
        return {tp.partition: end for tp, end in found.items()}


async def read(servers: str, topic: str) -> list[Any]:
    """Every message that a topic holds, in order by partition."""
    async with consumer(servers, topic) as (client, partitions), asyncio.timeout(READ_TIMEOUT_S):
        until = await client.end_offsets(partitions)
        client.assign(partitions)
        await client.seek_to_beginning(*partitions)
        messages: list[Any] = []
        for tp, end in until.items():
            while await client.position(tp) < end:
                messages += (await client.getmany(tp, timeout_ms=200)).get(tp, [])
        return messages


async def committed(client: AIOKafkaAdminClient, group_id: str, topic: str) -> dict[int, int]:
    """What a group has committed of a topic."""
    offsets = await client.list_consumer_group_offsets(group_id)
    return {tp.partition: at.offset for tp, at in offsets.items() if tp.topic == topic}
