"""Producer: writes, and goes on until the broker has it: idempotent where the broker knows that."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError

from outlay.connecting import (
    METADATA_AGE_MS_MAX,
    REQUEST_TIMEOUT_MS,
    RETRY_BACKOFF_MS,
    Pauses,
    knock,
)
from streams.alerting.records import Records

BATCH_BYTES_MAX = 1_000_000
"""The largest batch, in bytes: just below what a broker takes by default."""

STOP_TIMEOUT_S = 5.0
"""How long a producer may take to stop; with the broker gone it would take for ever."""

log = structlog.get_logger("outlay.alerts")


class AlertProducer:
    """One producer for everything that is written.

    What fails is written again by a new producer, since an idempotent one that lost a batch is
    refused from there on; so a message may stand twice, and nothing that is written here minds.

    Raises:
        KafkaError: from each write, what trying again does not help against.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._starting = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None

    async def send(self, topic: str, key: bytes, value: bytes | None, partition: int) -> None:
        """Write a message; returns when it is acknowledged."""

        async def write(producer: AIOKafkaProducer) -> None:
            await producer.send_and_wait(topic, value, key, partition)

        await self._until_written(write)

    async def send_whole(self, topic: str, records: Records, partition: int) -> None:
        """Write messages as one batch, which a broker takes whole or not at all."""

        async def write(producer: AIOKafkaProducer) -> None:
            batch = producer.create_batch()
            for key, value in records.items():
                if batch.append(key=key, value=value, timestamp=None) is None:
                    raise ValueError(f"a change of state is over {BATCH_BYTES_MAX} bytes")
            await (await producer.send_batch(batch, topic, partition=partition))

        await self._until_written(write)

    async def close(self) -> None:
        """Stop, within a bound."""
        producer, self._producer = self._producer, None
        await _stop(producer)

    async def _until_written(self, write: Callable[[AIOKafkaProducer], Awaitable[None]]) -> None:
        pauses = Pauses()
        while True:
            producer = None
            try:
                producer = await self._get()
                return await write(producer)
            except (OSError, KafkaError) as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    raise
                log.warning("the broker did not take it, trying on", error=repr(error))
                await self._drop(producer)
            await pauses.pause()

    async def _get(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                await knock(self._bootstrap_servers)
                self._producer = await self._started()
            return self._producer

    async def _drop(self, producer: AIOKafkaProducer | None) -> None:
        if producer is not None and producer is self._producer:
            self._producer = None
            await _stop(producer)

    async def _started(self) -> AIOKafkaProducer:
        try:
            return await self._start(idempotent=True)
        except KafkaError as error:
            if error.retriable and not isinstance(error, IncompatibleBrokerVersion):
                raise
            log.warning("the broker has no idempotent producer", error=repr(error))
            return await self._start(idempotent=False)

    async def _start(self, *, idempotent: bool) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap_servers,
            enable_idempotence=idempotent,
            acks="all",
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=2 * BATCH_BYTES_MAX,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            metadata_max_age_ms=METADATA_AGE_MS_MAX,
        )
        try:
            await producer.start()
        except BaseException:
            await _stop(producer)
            raise
        return producer


async def _stop(producer: AIOKafkaProducer | None) -> None:
    if producer is None:
        return
    with contextlib.suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await producer.stop()
