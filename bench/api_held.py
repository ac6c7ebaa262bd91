"""API held: how many records a usage topic holds, counted past the code that is measured."""

from __future__ import annotations

import asyncio

import msgspec

from bench import kafka


async def records_held(servers: str, topic: str) -> int:
    """How many there are in all messages: one record each, or an array of them."""
    count = 0
    async with kafka.consumer(servers, topic) as (client, partitions):
        until = await client.end_offsets(partitions)
        client.assign(partitions)
        await client.seek_to_beginning(*partitions)
        async with asyncio.timeout(kafka.READ_TIMEOUT_S):
            for tp, end in until.items():
                while await client.position(tp) < end:
                    for message in (await client.getmany(tp, timeout_ms=200)).get(tp, []):
                        count += records_of(message.value)
    return count


def records_of(value: bytes) -> int:
    """How many records a message holds."""
    if value[:1] != b"[":
        return 1
    return len(msgspec.json.decode(value, type=list[msgspec.Raw]))
