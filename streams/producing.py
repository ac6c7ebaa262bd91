"""Producing: what every producer of a worker has in common."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Iterator, Sequence
from itertools import chain
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.flush import Message, Outgoing

BATCH_BYTES_MAX = 1_000_000
"""The largest batch sent, in bytes: just below what a broker takes by default."""

REQUEST_TIMEOUT_MS = 30_000
"""How long a request to the broker may take before it is tried again."""

STOP_TIMEOUT_S = 5.0
"""How long a writer may take to stop; with the broker gone it would take for ever."""

RECORDS_PER_PRODUCER_MAX = 1_000_000_000
"""After how many messages a worker ends, to be started again: at 2**31 sequences turn negative."""

SETTINGS: dict[str, Any] = {
    "acks": "all",
    "linger_ms": 0,
    "max_batch_size": BATCH_BYTES_MAX,
    "max_request_size": 2 * BATCH_BYTES_MAX,
    "request_timeout_ms": REQUEST_TIMEOUT_MS,
}


def check_sequences(name: str, written: int) -> None:
    """Raise RuntimeError where `name` has no sequence numbers left."""
    if written >= RECORDS_PER_PRODUCER_MAX:
        raise RuntimeError(f"{name} is at the end of its sequence numbers")


async def send(producer: AIOKafkaProducer, outgoing: Sequence[Outgoing]) -> None:
    """Send messages in their order per partition; returns when each is acknowledged."""
    targets: dict[tuple[str, int], list[Sequence[Message]]] = defaultdict(list)
    for each in outgoing:
        targets[each.topic, each.partition].append(each.messages)
    await wait_all(
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
    await wait_all(*acknowledged)


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


async def wait_all(*deliveries: Awaitable[Any]) -> None:
    """Wait for every one of them, and raise what the first that failed says."""
    for result in await asyncio.gather(*deliveries, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def stop(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await producer.stop()
    except TimeoutError:
        pass  # its sockets end with the process
