"""Reader: how fast aiokafka alone reads a usage topic and msgspec decodes it, keeping nothing.

It is the limit of any consumer that is built on both. Of a frame it asks for each value of
each record.

`python -m bench.reader SERVERS TOPIC RECORDS` prints a `Peer` as JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import msgspec

from bench import kafka
from bench.peer import Peer, say
from outlay.frame import is_frame
from outlay.framing import decode_columns
from outlay.usage import UsageRecord
from streams.plain import ARRAY_BYTE

TIMEOUT_S = 300.0


async def read(servers: str, topic: str, records: int) -> Peer:
    """Read and decode a topic that holds so many records; what it took."""
    one = msgspec.json.Decoder(UsageRecord).decode
    many: Callable[[bytes], list[UsageRecord]] = msgspec.json.Decoder(list[UsageRecord]).decode
    async with kafka.consumer(servers, topic) as (client, partitions):
        client.assign(partitions)
        await client.seek_to_beginning(*partitions)
        seen = tokens = 0
        started, cpu = time.perf_counter(), time.process_time()
        async with asyncio.timeout(TIMEOUT_S):
            while seen < records:
                for messages in (await client.getmany(timeout_ms=1_000)).values():
                    for message in messages:
                        value = message.value
                        if is_frame(value):
                            seen += len(decode_columns(value).ids)
                        elif value[0] == ARRAY_BYTE:
                            seen += len(many(value))
                        else:
                            tokens += one(value).input_tokens
                            seen += 1
        return Peer(seen, time.perf_counter() - started, time.process_time() - cpu)


if __name__ == "__main__":
    say(asyncio.run(read(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
