"""Where the history reads: a topic, in a consumer group of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    UnknownTopicOrPartitionError,
)

from outlay.connecting import METADATA_AGE_MS_MAX, REQUEST_TIMEOUT_MS, RETRY_BACKOFF_MS, knock
from schemas.settings import Settings
from streams.history_rows import Message

PARTITION_FETCH_BYTES_MAX = 4 * 1_048_576
"""How much of one partition is asked for and held at a time, in bytes."""

FETCH_MESSAGES_MAX = 20_000
"""How many messages are handed over at a time."""

# Whoever waits for ClickHouse reads nothing meanwhile, and shall keep its place in the group: it
# lives as long as it sends heartbeats, and each of its requests to ClickHouse is bounded.
_POLL_INTERVAL_MS_MAX = 24 * 3_600_000

log = structlog.get_logger("outlay.history")


class Source(ConsumerRebalanceListener):
    """The consumer of a topic. `generation` rises whenever partitions are taken away.

    What was read under an older generation and is not committed belongs to someone else now, who
    reads it again: it must be dropped, and above all not committed past.
    """

    def __init__(self, settings: Settings, topic: str, group_id: str) -> None:
        self.generation = 0
        self._settings = settings
        self._topic = topic
        self._group_id = group_id
        self._consumer: AIOKafkaConsumer | None = None

    async def open(self) -> None:
        """Join the group.

        Raises:
            OSError, KafkaError: the broker is away, or the topic does not exist yet.
        """
        servers = self._settings.kafka_bootstrap_servers
        await knock(servers)
        await self._find_topic(servers)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=servers,
            group_id=self._group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES_MAX,
            max_poll_interval_ms=_POLL_INTERVAL_MS_MAX,
            session_timeout_ms=int(self._settings.session_timeout_s * 1000),
            heartbeat_interval_ms=int(self._settings.session_timeout_s * 1000 / 4),
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            metadata_max_age_ms=METADATA_AGE_MS_MAX,
        )
        consumer.subscribe([self._topic], listener=self)
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer

    async def _find_topic(self, servers: str) -> None:
        # A subscription to a topic that is absent may make it, with the broker's partition count.
        admin = AIOKafkaAdminClient(
            bootstrap_servers=servers, request_timeout_ms=REQUEST_TIMEOUT_MS
        )
        await admin.start()
        try:
            if self._topic not in await admin.list_topics():
                raise UnknownTopicOrPartitionError(f"{self._topic} does not exist yet")
        finally:
            await admin.close()

    async def read(self, timeout_s: float) -> list[Message]:
        """Messages in the order of each partition; none when `timeout_s` is over.

        Cancelling it loses nothing: messages are taken and returned in one step.
        """
        assert self._consumer is not None
        try:
            async with asyncio.timeout(timeout_s + 0.05):  # it may wait for a rebalance, unbounded
                fetched = await self._consumer.getmany(
                    timeout_ms=int(timeout_s * 1000), max_records=FETCH_MESSAGES_MAX
                )
        except TimeoutError:
            return []
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("the broker does not answer", error=repr(error))
            await asyncio.sleep(timeout_s)
            return []
        return [
            Message(partition.partition, record.offset, record.timestamp, record.value)
            for partition, records in fetched.items()
            for record in records
        ]

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        """Commit the next offset to read of each partition; False when it was refused.

        A refusal means that the group has moved on: rows are read, and inserted, once more.
        """
        assert self._consumer is not None
        named = {TopicPartition(self._topic, part): offset for part, offset in offsets.items()}
        try:
            await self._consumer.commit(named)
        except (CommitFailedError, IllegalStateError) as error:
            log.warning("offsets not committed, the group has moved on", error=str(error))
            return False
        return True

    def lags(self, applied: Mapping[int, int]) -> dict[int, int]:
        """How many messages of each assigned partition are not applied yet, as far as is known."""
        assert self._consumer is not None
        lags = {}
        for partition in self._consumer.assignment():
            end = self._consumer.highwater(partition)
            if end is not None and partition.partition in applied:
                lags[partition.partition] = max(end - applied[partition.partition], 0)
        return lags

    async def close(self) -> None:
        """Leave the group."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by aiokafka."""
        self.generation += 1

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by aiokafka."""
        partitions = sorted(part.partition for part in assigned)
        log.info("partitions assigned", topic=self._topic, partitions=partitions)
