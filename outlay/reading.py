"""Reading a whole topic, from its beginning and then on: the seam to Kafka's consumer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from outlay.connecting import METADATA_AGE_MS_MAX, REQUEST_TIMEOUT_MS, RETRY_BACKOFF_MS, knock
from outlay.errors import TopicNotFound

READ_RECORDS_MAX = 1_000
"""How many messages one read returns at most: others on the loop have their turn between."""

READ_WAIT_MS = 200
"""How long one read waits for messages."""

STOP_TIMEOUT_S = 5.0


class Message(NamedTuple):
    """One message of the topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class Reader(Protocol):
    """Reads all partitions of one topic without a group. It is started once and stopped once."""

    async def start(self) -> dict[int, int]:
        """Go to the beginning; the end offset of each partition at this moment.

        Raises any `Exception` when that fails. Not bounded: the caller is.
        """

    async def read(self) -> list[Message]:
        """The next messages, none after a short wait; raises when reading cannot go on."""

    async def position(self, partition: int) -> int:
        """The offset from which the next read goes on.

        It also passes what no reader is ever given: the markers at a transaction's end and what
        compaction has removed.
        """

    @property
    def partitions(self) -> int:
        """How many partitions the topic has, as far as is known now; 0: not known."""

    async def stop(self) -> None:
        """End it, within `STOP_TIMEOUT_S`; never raises."""


class EndedReader(Reader, Protocol):
    """A `Reader` that also says where the topic ends now."""

    async def ends(self) -> dict[int, int]:
        """The end offset of each partition at this moment; raises when that cannot be told."""


ReaderFactory = Callable[[], Reader]


async def reached(reader: Reader, ends: Mapping[int, int]) -> bool:
    """Whether everything before these offsets, by partition, was read."""
    for partition, end in ends.items():
        if await reader.position(partition) < end:
            return False
    return True


class KafkaReader:
    """An `EndedReader` over aiokafka. It reads uncommitted messages: see DESIGN.md, invariant 5."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._options = dict(client_options or {})
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> dict[int, int]:
        await knock(self._bootstrap_servers)
        consumer = self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            group_id=None,
            enable_auto_commit=False,
            # A position that no longer exists means another topic of this name: read it anew.
            auto_offset_reset="none",
            isolation_level="read_uncommitted",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            metadata_max_age_ms=METADATA_AGE_MS_MAX,
            max_poll_records=READ_RECORDS_MAX,
            **self._options,
        )
        await consumer.start()
        await consumer._client.set_topics([self._topic])
        numbers = consumer.partitions_for_topic(self._topic)
        if not numbers:
            raise TopicNotFound(f"no topic {self._topic} at {self._bootstrap_servers}")
        partitions = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        ends = await self.ends()
        for partition, offset in (await consumer.beginning_offsets(partitions)).items():
            consumer.seek(partition, offset)
        return ends

    async def ends(self) -> dict[int, int]:
        assert self._consumer is not None
        ends = await self._consumer.end_offsets(sorted(self._consumer.assignment()))
        return {partition.partition: int(end) for partition, end in ends.items()}

    async def read(self) -> list[Message]:
        assert self._consumer is not None
        batches = await self._consumer.getmany(timeout_ms=READ_WAIT_MS)
        return [
            Message(record.partition, record.offset, record.key, record.value)
            for batch in batches.values()
            for record in batch
        ]

    async def position(self, partition: int) -> int:
        assert self._consumer is not None
        return int(await self._consumer.position(TopicPartition(self._topic, partition)))

    @property
    def partitions(self) -> int:
        if self._consumer is None:
            return 0
        return len(self._consumer.partitions_for_topic(self._topic) or ())

    async def stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await consumer.stop()
