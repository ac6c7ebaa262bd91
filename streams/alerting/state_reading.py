"""State reading: the last value of each key of a partition, from its beginning to its end."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError, UnknownTopicOrPartitionError

from outlay.connecting import REQUEST_TIMEOUT_MS, RETRY_BACKOFF_MS, knock

READ_TIMEOUT_S = 120.0
"""How long reading it once may take, in seconds."""

_READ_WAIT_MS = 200


async def read_state(
    bootstrap_servers: str, topic: str, partition: int, *, committed: bool = False
) -> dict[bytes, bytes]:
    """What a compacted topic's partition says; with `committed` without what was not.

    Raises:
        OSError, KafkaError: the broker is away, the partition does not exist, or it takes longer
            than `READ_TIMEOUT_S`.
    """
    await knock(bootstrap_servers)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed" if committed else "read_uncommitted",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        retry_backoff_ms=RETRY_BACKOFF_MS,
    )
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            await consumer.start()
            return await _read(consumer, topic, partition)
    except TimeoutError:
        raise KafkaTimeoutError(f"{topic} was not read within {READ_TIMEOUT_S:g} s") from None
    finally:
        await consumer.stop()


async def _read(consumer: AIOKafkaConsumer, topic: str, partition: int) -> dict[bytes, bytes]:
    await consumer._client.set_topics([topic])
    if partition not in (consumer.partitions_for_topic(topic) or ()):
        raise UnknownTopicOrPartitionError(f"{topic} has no partition {partition}")
    at = TopicPartition(topic, partition)
    consumer.assign([at])
    end = (await consumer.end_offsets([at]))[at]
    consumer.seek(at, (await consumer.beginning_offsets([at]))[at])
    state: dict[bytes, bytes] = {}
    while await consumer.position(at) < end:
        for record in (await consumer.getmany(at, timeout_ms=_READ_WAIT_MS)).get(at, ()):
            if record.value is None:
                state.pop(record.key, None)
            else:
                state[record.key] = record.value
    return state
