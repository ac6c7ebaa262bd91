"""Quiet logs and short waits for all tests of the delivery of alerts."""

import asyncio
import logging

import pytest
import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.alerting import app

COMPACTED = {"cleanup.policy": "compact"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(app, "READ_S_MAX", 0.01)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def alert_topics(topic_prefix):
    """The topics of alerts on the session's broker, two partitions each, and one of the dead."""
    names = topic_prefix.names
    asyncio.run(
        make_topics(
            topic_prefix.bootstrap_servers,
            {
                names.alerts: (2, {}),
                names.alert_state: (2, COMPACTED),
                names.alert_configs: (1, COMPACTED),
                names.alert_deliveries: (2, {}),
                names.alerts_dead: (1, {}),
            },
        )
    )
    return topic_prefix


async def make_topics(bootstrap_servers, topics):
    """Make topics, by name: partitions and configuration; returns when all have leaders."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(name, n, 1, topic_configs=config) for name, (n, config) in topics.items()]
        )
        async with asyncio.timeout(20):
            while True:
                described = await admin.describe_topics(list(topics))
                found = {
                    each["topic"]: sum(p["leader"] >= 0 for p in each["partitions"])
                    for each in described
                }
                if found == {name: n for name, (n, _) in topics.items()}:
                    return
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
