"""The demo as a guest on somebody's broker: topics of its own, and none left behind."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import uuid_utils
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from outlay.embedded import ExternalBroker, find_broker

REMOVAL_TIMEOUT_S = 20.0


def guest_name() -> str | None:
    """What the names of the demo's topics start with on an external broker; None on one of ours."""
    if not isinstance(find_broker(Path(os.devnull)), ExternalBroker):
        return None
    return f"outlay-demo-{str(uuid_utils.uuid7())[-12:]}"


def remove_topics(bootstrap_servers: str, name: str) -> list[str]:
    """Remove the topics of a guest; the names of those that were."""

    async def remove() -> list[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
        await admin.start()
        try:
            ours = [topic for topic in await admin.list_topics() if topic.startswith(name)]
            await admin.delete_topics(ours)
            return ours
        finally:
            await admin.close()

    async def bounded() -> list[str]:
        async with asyncio.timeout(REMOVAL_TIMEOUT_S):
            return await remove()

    try:
        return asyncio.run(bounded())
    except (OSError, KafkaError, TimeoutError):
        return []  # they are named after the demo: whoever runs the broker can tell
