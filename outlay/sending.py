"""Sending messages to one topic: the seam between the library and Kafka's producer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol

import aiokafka.codec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError

from outlay.connecting import METADATA_AGE_MS_MAX, REQUEST_TIMEOUT_MS, RETRY_BACKOFF_MS, knock
from outlay.errors import TopicNotFound

STOP_TIMEOUT_S = 2.0
"""How long a producer with nothing left to send may take to stop; then it is cut off."""

MESSAGE_BYTES_MAX = 1_048_576
"""The largest message that is handed to the producer, in bytes: Kafka's own default."""

ABANDON_ATTEMPTS_MAX = 20

Compression = Literal["gzip", "snappy", "lz4", "zstd"]

_logger = logging.getLogger("outlay.sending")


class Sender(Protocol):
    """One connection that sends to one topic. It is started once and stopped once."""

    async def start(self) -> None:
        """Connect; raises any `Exception` when that fails. Not bounded: the caller is."""

    @property
    def partitions(self) -> int:
        """How many partitions the topic has, as far as is known now; 0: it is gone."""

    async def send(self, partition: int, key: bytes | None, value: bytes) -> Awaitable[int]:
        """Hand a message over; what is returned gives its offset once it is delivered.

        An `Exception` of this call means that nothing has left, one of the awaitable that the
        message may or may not have arrived.
        """

    async def stop(self) -> None:
        """End it, within `STOP_TIMEOUT_S`; never raises."""


SenderFactory = Callable[[], Sender]


class KafkaSender:
    """A `Sender` over aiokafka: idempotent where the broker has it, else `acks=all`.

    An idempotent producer resends until it succeeds and never twice. A plain one gives up after
    `REQUEST_TIMEOUT_MS`, and a resend of its may arrive twice.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        client_options: Mapping[str, Any] | None = None,
        compression: Compression | None = None,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._options = dict(client_options or {})
        self._compression = compression
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        await knock(self._bootstrap_servers)
        try:
            await self._start(idempotent=True)
        except KafkaError as error:
            if error.retriable and not isinstance(error, IncompatibleBrokerVersion):
                raise
            await self._start(idempotent=False)
            _say_once_not_idempotent(self._bootstrap_servers, error)
        assert self._producer is not None
        await self._producer.client.set_topics([self._topic])
        if not self.partitions:
            raise TopicNotFound(f"no topic {self._topic} at {self._bootstrap_servers}")

    async def _start(self, *, idempotent: bool) -> None:
        await self.stop()
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap_servers,
            enable_idempotence=idempotent,
            acks="all",
            compression_type=self._compression if _has(self._compression) else None,
            max_batch_size=MESSAGE_BYTES_MAX,
            max_request_size=MESSAGE_BYTES_MAX,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            metadata_max_age_ms=METADATA_AGE_MS_MAX,
            **self._options,
        )
        await self._producer.start()

    @property
    def partitions(self) -> int:
        if self._producer is None:
            return 0
        return len(self._producer.client.cluster.partitions_for_topic(self._topic) or ())

    async def send(self, partition: int, key: bytes | None, value: bytes) -> Awaitable[int]:
        if self._producer is None:
            raise RuntimeError("the sender is not started")
        delivery = await self._producer.send(self._topic, value, key, partition)
        return _offset(delivery)

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await producer.stop()
        except Exception:
            await _abandon(producer)


async def _offset(delivery: Awaitable[Any]) -> int:
    return int((await delivery).offset)


async def _abandon(producer: Any) -> None:
    """End a producer whose `stop` hangs because it waits for a broker that is away.

    Its sender task waits for its requests when it is cancelled, so it takes several attempts.
    """
    producer._message_accumulator.fail_all(KafkaError("the producer was stopped"))
    task = producer._sender.sender_task
    for _ in range(ABANDON_ATTEMPTS_MAX):
        if task is None or task.done():
            break
        task.cancel()
        await asyncio.wait([task], timeout=STOP_TIMEOUT_S / ABANDON_ATTEMPTS_MAX)
    if task is not None and task.done() and not task.cancelled():
        task.exception()  # seen, so that the loop does not report it
    with contextlib.suppress(Exception):
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await producer.client.close()


def _has(compression: Compression | None) -> bool:
    """Whether the library for a compression is installed; without it nothing is compressed."""
    return compression is not None and bool(getattr(aiokafka.codec, f"has_{compression}")())


_said: set[str] = set()


def _say_once_not_idempotent(bootstrap_servers: str, error: Exception) -> None:
    if bootstrap_servers not in _said:
        _said.add(bootstrap_servers)
        _logger.warning(
            "the broker at %s has no idempotent producer (%r): what is sent again after a lost "
            "answer may arrive twice",
            bootstrap_servers,
            error,
        )
