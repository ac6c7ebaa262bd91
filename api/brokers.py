"""Brokers: whether one of those that are named answers, and not only takes connections."""

from __future__ import annotations

import asyncio

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError

BROKER_TIMEOUT_S = 2.0
"""How long the brokers together may take for a sign of life."""


async def ask_broker(bootstrap_servers: str) -> None:
    """Return when a broker has said which versions it speaks, as each does at first.

    Raises:
        OSError: none does within `BROKER_TIMEOUT_S`.
    """
    problem: Exception = OSError("no servers named")
    try:
        async with asyncio.timeout(BROKER_TIMEOUT_S):
            for host, port, _ in collect_hosts(bootstrap_servers):
                try:
                    connection = await create_conn(
                        host, port, request_timeout_ms=int(BROKER_TIMEOUT_S * 1000)
                    )
                except (OSError, KafkaError) as error:
                    problem = error
                    continue
                connection.close()
                return
    except TimeoutError:
        problem = OSError(f"no answer within {BROKER_TIMEOUT_S:g} s")
    raise OSError(str(problem) or repr(problem)) from None
