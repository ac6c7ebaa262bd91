"""Writers: they execute a flush, in its order, and verify every delivery.

`TransactionalWriter` fences: each owned partition of a stage has a producer of its own whose
transactional id names it, so that a worker that lost the partition without knowing cannot write
any more. For what needs no fence, or has none, see `streams.shared_writer`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from streams.flush import Flush, Offsets, Transaction
from streams.producing import SETTINGS, STOP_TIMEOUT_S, check_sequences, send, stop

TRANSACTION_TIMEOUT_MS = 60_000
"""After how long the broker aborts a transaction whose writer is gone."""


class Fenced(Exception):
    """Another worker owns the partition now; what this one writes is refused."""


class Writer(Protocol):
    """Executes the flushes of one owned partition of a stage, one after the other."""

    async def start(self) -> None:
        """Take the partition over: from then on the previous owner's writes are refused."""

    async def write(self, flush: Flush) -> None:
        """Execute a flush; raises when anything of it was not acknowledged."""

    async def stop(self) -> None:
        """Let go, within a bound."""


class TransactionalWriter:
    """Writes each transaction of a flush as a Kafka transaction, under a fencing id.

    A transaction that takes longer than `timeout_s` fails: an idempotent producer would try on
    for ever.

    Raises:
        Fenced: from `write`, when another worker has started a writer of the same id.
        TimeoutError: from `write`.
    """

    def __init__(
        self, transactional_id: str, group_id: str, timeout_s: float, settings: dict[str, Any]
    ) -> None:
        self.transactional_id = transactional_id
        self._timeout_s = timeout_s
        self._group_id = group_id
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._written = 0

    async def start(self) -> None:
        self._producer = AIOKafkaProducer(
            transactional_id=self.transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            **SETTINGS,
            **self._settings,
        )
        self._written = 0
        await self._producer.start()

    async def write(self, flush: Flush) -> None:
        for transaction in flush.transactions:
            assert not transaction.told, "what is told is for a TellingWriter"
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._write(transaction)
            except (ProducerFenced, InvalidProducerEpoch) as error:
                raise Fenced(f"{self.transactional_id} was taken over: {error}") from error

    async def _write(self, transaction: Transaction) -> None:
        # Nothing is started anew: that would fence whoever owns the partition by now.
        check_sequences(self.transactional_id, self._written)
        producer = self._producer
        assert producer is not None, "write before start"
        await producer.begin_transaction()
        try:
            # Every delivery is awaited before the offsets go in: aiokafka's commit_transaction
            # commits although a batch failed.
            await send(producer, transaction.outputs)
            await send(producer, transaction.changelog)
            if transaction.offsets:
                await producer.send_offsets_to_transaction(
                    _structure(transaction.offsets), self._group_id
                )
        except BaseException:
            await _abort(producer)
            raise
        await producer.commit_transaction()
        self._written += transaction.size

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop(producer)


def _structure(offsets: Offsets) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, partition): at for (topic, partition), at in offsets.items()}


async def _abort(producer: AIOKafkaProducer) -> None:
    """Try to abort, so that readers of committed data need not wait for the timeout."""
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await producer.abort_transaction()
    except Exception:
        pass
