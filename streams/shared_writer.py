"""Shared writers: what needs no fence is written through one producer for all of a worker.

What is told (see `streams.flush`) goes out for all partitions together, in one request where a
transaction takes seven.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.flush import Flush, Offsets, Outgoing
from streams.producing import SETTINGS, check_sequences, send, stop, wait_all
from streams.writer import Writer


class SharedProducer:
    """The producer that all writers of a worker share; started by the first of them.

    Where it is `idempotent`, a batch that fails lets none of its partition follow.
    """

    def __init__(self, settings: dict[str, Any], *, idempotent: bool) -> None:
        self._settings = {**settings, "enable_idempotence": idempotent}
        self._starting = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._written: Counter[tuple[str, int]] = Counter()

    async def get(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(**SETTINGS, **self._settings)
                try:
                    await producer.start()
                except BaseException:
                    await stop(producer)
                    raise
                self._producer = producer
            return self._producer

    async def tell(self, told: Sequence[Outgoing]) -> None:
        """Send messages in their order per partition; returns when each is acknowledged.

        One by one, so that what several tell at a time goes out together: they are few and large.
        """
        producer = await self.get()
        for topic, partition, messages in told:
            check_sequences(f"{topic}-{partition}", self._written[topic, partition])
            self._written[topic, partition] += len(messages)
        acknowledged = [
            await producer.send(topic, value, key, partition)
            for topic, partition, messages in told
            for key, value in messages
        ]
        await wait_all(*acknowledged)

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop(producer)


class TellingWriter:
    """Writes what is told through the producer that all share, and all else as another writer.

    What takes longer than `timeout_s` fails with a TimeoutError.
    """

    def __init__(self, shared: SharedProducer, writer: Writer, timeout_s: float) -> None:
        self._shared = shared
        self._writer = writer
        self._timeout_s = timeout_s

    async def start(self) -> None:
        await self._writer.start()
        await self._shared.get()

    async def write(self, flush: Flush) -> None:
        for transaction in flush.transactions:
            if transaction.told:
                async with asyncio.timeout(self._timeout_s):
                    await self._shared.tell(transaction.told)
            if transaction.size or transaction.offsets:
                await self._writer.write(Flush([replace(transaction, told=[])]))

    async def stop(self) -> None:
        await self._writer.stop()


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
            assert not transaction.told, "what is told is for a TellingWriter"
            async with asyncio.timeout(self._timeout_s):
                await send(producer, transaction.outputs)
                await send(producer, transaction.changelog)
                if transaction.offsets:
                    await self._commit(transaction.offsets)

    async def stop(self) -> None:
        pass  # others write on
