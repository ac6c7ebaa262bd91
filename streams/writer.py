"""Writers: they execute a flush, in its order, and verify every delivery.

`TransactionalWriter` fences: each owned partition of a stage has a producer of its own whose
transactional id names it, so that a worker that lost the partition without knowing cannot write
any more. `PlainWriter` serves brokers without transactions, where a crash is still exact and such
a worker is not refused.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from streams.flush import Flush, Message, Messages, Offsets, Outgoing, Transaction

BATCH_BYTES_MAX = 1_000_000
"""The largest batch sent, in bytes: just below what a broker takes by default."""

TRANSACTION_TIMEOUT_MS = 60_000
"""After how long the broker aborts a transaction whose writer is gone."""

REQUEST_TIMEOUT_MS = 30_000
"""How long a request to the broker may take before it is tried again."""

STOP_TIMEOUT_S = 5.0
"""How long a writer may take to stop; with the broker gone it would take for ever."""

RECORDS_PER_PRODUCER_MAX = 1_000_000_000
"""After how many messages a worker ends, to be started again: at 2**31 sequences turn negative."""


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
            **_SETTINGS,
            **self._settings,
        )
        self._written = 0
        await self._producer.start()

    async def write(self, flush: Flush) -> None:
        for transaction in flush.transactions:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._write(transaction)
            except (ProducerFenced, InvalidProducerEpoch) as error:
                raise Fenced(f"{self.transactional_id} was taken over: {error}") from error

    async def _write(self, transaction: Transaction) -> None:
        if self._written >= RECORDS_PER_PRODUCER_MAX:
            # Not here: to start it anew would fence whoever owns the partition by now.
            raise RuntimeError(f"{self.transactional_id} is at the end of its sequence numbers")
        producer = self._producer
        assert producer is not None, "write before start"
        await producer.begin_transaction()
        try:
            # Every delivery is awaited before the offsets go in: aiokafka's commit_transaction
            # commits although a batch failed.
            await _send(producer, transaction.outputs)
            await _send(producer, transaction.changelog)
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
            await _stop(producer)


class SharedProducer:
    """The producer that all plain writers of a worker share; started by the first of them."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._starting = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None

    async def get(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                self._producer = AIOKafkaProducer(**_SETTINGS, **self._settings)
                await self._producer.start()
            return self._producer

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)


class PlainWriter:
    """Writes in the same order without transactions, through a producer that all share.

    `commit` commits the offsets in the consumer's group, and raises when it cannot. What takes
    longer than `timeout_s` fails with a TimeoutError.
    """

    def __init__(
        self,
        shared: SharedProducer,
        timeout_s: float,
        commit: Callable[[Offsets], Awaitable[None]],
    ) -> None:
        self._shared = shared
        self._timeout_s = timeout_s
        self._commit = commit

    async def start(self) -> None:
        await self._shared.get()

    async def write(self, flush: Flush) -> None:
        producer = await self._shared.get()
        for transaction in flush.transactions:
            async with asyncio.timeout(self._timeout_s):
                await _send(producer, transaction.outputs)
                await _send(producer, transaction.changelog)
                if transaction.offsets:
                    await self._commit(transaction.offsets)

    async def stop(self) -> None:
        pass  # others write on


_SETTINGS: dict[str, Any] = {
    "acks": "all",
    "linger_ms": 0,
    "max_batch_size": BATCH_BYTES_MAX,
    "max_request_size": 2 * BATCH_BYTES_MAX,
    "request_timeout_ms": REQUEST_TIMEOUT_MS,
}


async def _send(producer: AIOKafkaProducer, outgoing: list[Outgoing]) -> None:
    """Send messages in their order per partition; returns when each is acknowledged."""
    targets: dict[tuple[str, int], list[Messages]] = defaultdict(list)
    for each in outgoing:
        targets[each.topic, each.partition].append(each.messages)
    await _all(
        *(
            _send_to(producer, *target, chain.from_iterable(queued))
            for target, queued in targets.items()
        )
    )


async def _send_to(
    producer: AIOKafkaProducer, topic: str, partition: int, messages: Iterator[Message]
) -> None:
    acknowledged = []
    first = next(messages, None)
    while first is not None:
        batch = producer.create_batch()
        appended, first = _append(batch, first, messages)
        if not appended:
            raise ValueError(f"a message for {topic} is over {BATCH_BYTES_MAX} bytes")
        acknowledged.append(await producer.send_batch(batch, topic, partition=partition))
    await _all(*acknowledged)


def _append(batch: Any, first: Message, others: Iterator[Message]) -> tuple[int, Message | None]:
    """Append as many messages as fit; how many, and the one that does not fit any more.

    To the builder itself, past its wrapper, which takes as long as the appending.
    """
    append = batch._builder.append
    now_ms = time.time_ns() // 1_000_000
    count = 0
    left = None
    for key, value in chain((first,), others):
        if append(count, now_ms, key, value, []) is None:
            left = key, value
            break
        count += 1
    batch._relative_offset = count
    return count, left


async def _all(*deliveries: Awaitable[Any]) -> None:
    """Wait for every one of them, and raise what the first that failed says."""
    for result in await asyncio.gather(*deliveries, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _structure(offsets: Offsets) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, partition): at for (topic, partition), at in offsets.items()}


async def _abort(producer: AIOKafkaProducer) -> None:
    """Try to abort, so that readers of committed data need not wait for the timeout."""
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await producer.abort_transaction()
    except Exception:
        pass


async def _stop(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await producer.stop()
    except TimeoutError:
        pass  # its sockets end with the process
