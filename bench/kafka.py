"""Kafka: what the benchmarks put into topics and read back, past the code that they measure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from bench.usage import Sample
from outlay.framing import encode_message
from outlay.usage import decode_records

BATCH_BYTES = 16_384
"""How large the producer's batches of single records are, in bytes: Kafka's own default."""

PACKED_BATCH_BYTES = 900_000
FETCH_BYTES = 4 * 1_048_576
IN_FLIGHT_MAX = 64
READ_TIMEOUT_S = 300.0
LISTED_INTERVAL_S = 0.1

Packing = Callable[[list[bytes]], bytes]
"""Makes a usage message of many records' JSON."""


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
        bootstrap_servers=servers,
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
        check_crcs=False,
    ) as client:
        await client._client.set_topics([topic])
        found = sorted(client.partitions_for_topic(topic) or ())
        yield client, [TopicPartition(topic, partition) for partition in found]


async def make_topic(servers: str, topic: str, partitions: int) -> None:
    """Make a topic that is none of ours, and wait until it has leaders."""
    async with admin(servers) as client, asyncio.timeout(READ_TIMEOUT_S):
        await client.create_topics([NewTopic(topic, partitions, 1)])
        while True:
            found = (await client.describe_topics([topic]))[0]
            if sum(p["leader"] >= 0 for p in found["partitions"]) == partitions:
                return
            await asyncio.sleep(LISTED_INTERVAL_S)


async def delete_topics(servers: str, names: list[str]) -> None:
    """Delete topics, and wait until the broker lists none of them: it goes on for some time."""
    async with admin(servers) as client, asyncio.timeout(READ_TIMEOUT_S):
        await client.delete_topics(names)
        while set(names) & set(await client.list_topics()):  # noqa: ASYNC110 - the broker tells no event
            await asyncio.sleep(LISTED_INTERVAL_S)


def array_of(records: list[bytes]) -> bytes:
    """A usage message with these records, as a producer packs them that knows JSON only."""
    return b"[%b]" % b",".join(records)


def frame_of(records: list[bytes]) -> bytes:
    """The same as an emitter packs them."""
    return encode_message(decode_records(array_of(records)))


async def load(
    servers: str,
    topic: str,
    samples: Iterable[Sample],
    *,
    pack: int = 1,
    packing: Packing = array_of,
) -> None:
    """Put records into a usage topic: one a message, or `pack` of them."""
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
                await append(sample.partition, packing(packs.pop(sample.partition)))
        for partition, parts in packs.items():
            await append(partition, packing(parts))
        for partition in list(filling):
            await send(partition)
        await asyncio.gather(*sent)


async def ends(servers: str, topic: str) -> dict[int, int]:
    """Where each partition of a topic ends."""
    async with consumer(servers, topic) as (client, partitions):
        found: Mapping[TopicPartition, int] = await client.end_offsets(partitions)
        return {tp.partition: end for tp, end in found.items()}


async def newest(servers: str, topic: str) -> dict[tuple[int, bytes], bytes | None]:
    """The newest value of each key that a topic holds, by partition and key, in their order."""
    found: dict[tuple[int, bytes], bytes | None] = {}
    async with consumer(servers, topic) as (client, partitions), asyncio.timeout(READ_TIMEOUT_S):
        until = await client.end_offsets(partitions)
        client.assign(partitions)
        await client.seek_to_beginning(*partitions)
        for tp, end in until.items():
            while await client.position(tp) < end:
                for message in (await client.getmany(tp, timeout_ms=200)).get(tp, []):
                    found.pop((tp.partition, message.key), None)  # in the order of the newest
                    found[tp.partition, message.key] = message.value
    return found


async def committed(client: AIOKafkaAdminClient, group_id: str, topic: str) -> dict[int, int]:
    """What a group has committed of a topic; nothing while the broker looks for the group."""
    try:
        offsets = await client.list_consumer_group_offsets(group_id)
    except KafkaError as error:
        if not error.retriable:
            raise
        return {}
    return {tp.partition: at.offset for tp, at in offsets.items() if tp.topic == topic}
