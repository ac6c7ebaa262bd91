"""Connecting to a broker that may be away: quietly, with bounded and growing pauses."""

from __future__ import annotations

import asyncio
import random

from aiokafka.conn import collect_hosts

CONNECT_TIMEOUT_S = 5.0
"""How long one server may take to accept a plain connection."""

START_TIMEOUT_S = 45.0
"""How long a client may take to be connected and to know its topic, in seconds."""

PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 5.0

RETRY_BACKOFF_MS = 500
"""The pause between the Kafka client's own attempts: it logs each failed one."""

REQUEST_TIMEOUT_MS = 30_000
METADATA_AGE_MS_MAX = 60_000
"""How soon a raised partition count is noticed."""


class Pauses:
    """Growing pauses between attempts, with jitter, so that a fleet does not come back at once."""

    def __init__(self) -> None:
        self._next_s = PAUSE_MIN_S

    def reset(self) -> None:
        """Begin with the shortest again: something worked."""
        self._next_s = PAUSE_MIN_S

    async def pause(self) -> None:
        """Sleep for half to the whole of the current pause, and double it up to its bound."""
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, PAUSE_MAX_S)
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))


async def knock(bootstrap_servers: str) -> None:
    """Open and close a plain connection: aiokafka logs an error for each that is refused.

    Raises:
        OSError: no server accepts one.
    """
    refused: OSError | None = None
    for host, port, _ in collect_hosts(bootstrap_servers):
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            refused = error
            continue
        writer.close()
        return
    raise refused or OSError("no servers named")
