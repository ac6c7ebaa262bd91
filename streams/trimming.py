"""Trimming: what the stages have told each other is deleted by those who took it over.

Their topics keep messages without end, so that no stop of the workers is too long; what the readers
have committed is never read again.
"""

from __future__ import annotations

import asyncio

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from schemas.settings import Settings
from streams.ownership import Ownership

TRIM_INTERVAL_S = 60.0
"""How often what is finished is deleted."""

log = structlog.get_logger("outlay.streams")


async def trim_told(settings: Settings, ownership: Ownership) -> None:
    """Delete the partials and the wants that are committed, now and then, until cancelled."""
    told = (settings.topics.partials, settings.topics.wants)
    while True:
        await asyncio.sleep(TRIM_INTERVAL_S)
        try:
            await trim(settings, [(t, p) for t, p in ownership.positions() if t in told])
        except Exception as error:  # it is housework: the next time will do
            log.warning("what was taken over was not trimmed", error=repr(error))


async def trim(settings: Settings, partitions: list[tuple[str, int]]) -> None:
    """Delete what the group has committed of these topics' partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        tps = [TopicPartition(topic, partition) for topic, partition in partitions]
        committed = await admin.list_consumer_group_offsets(settings.app_id, partitions=tps)
        finished = {tp: at.offset for tp, at in committed.items() if at.offset > 0}
        if finished:
            await admin.delete_records(
                {tp: RecordsToDelete(before_offset=at) for tp, at in finished.items()}
            )
    finally:
        await admin.close()
