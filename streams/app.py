"""The Faust application: two stages, as agents, over the transport, the tables and the owner."""

from __future__ import annotations

from typing import Any

import faust
from faust.types import TP
from yarl import URL

from outlay.topics import TopicNames
from schemas.settings import Settings
from streams.flush import Offsets
from streams.ownership import Ownership
from streams.saving import SAVE_INTERVAL_MS
from streams.shared_writer import PlainWriter, SharedProducer, TellingWriter
from streams.stages import Changelogs, PartialsStage, TotalsStage
from streams.table import write_behind_table
from streams.transport import Transport
from streams.writer import TransactionalWriter, Writer

FETCH_BYTES_MAX = 4 * 1_048_576
"""How much one fetch brings from one partition, in bytes as they travel: with a quarter of it, the
thread that fetches and the one that counts wait for each other. While there is more to read than
can be counted, a worker holds about two of them for each partition that it owns."""

BATCHES_MAX = 2
"""How many batches may wait before an agent, of all its partitions. While one waits, a partition
that brings another is not asked for more until none does (see `streams.transport`)."""


class App(faust.App):
    """A Faust app that knows who owns what."""

    ownership: Ownership
    source_topics: frozenset[str]
    topic_names: TopicNames
    usage_partitions: int
    shared_producer: SharedProducer

    def _create_directories(self) -> None:
        pass  # the tables live in memory and in their changelogs

    async def _stop_consumer(self) -> None:
        await super()._stop_consumer()
        await self.ownership.let_go()
        await self.shared_producer.stop()


def create_app(settings: Settings, *, transactions: bool) -> App:
    """The application of one worker; nothing is connected before it is started.

    Args:
        settings: the installation's.
        transactions: whether the broker has transactions, so that flushes can be fenced.
    """
    servers = settings.kafka_bootstrap_servers.split(",")
    urls = [URL(f"aiokafka://{server.strip()}") for server in servers]
    app = App(
        settings.app_id,
        broker=urls,
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        stream_buffer_maxsize=BATCHES_MAX,
        consumer_max_fetch_size=FETCH_BYTES_MAX,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 5,
        broker_rebalance_timeout=max(settings.session_timeout_s, 10.0),
        broker_check_crcs=False,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        loghandlers=[],
        reply_create_topic=False,
    )
    app.transport = Transport(urls, app)
    names, changelogs = settings.topics, Changelogs(settings.app_id)
    app.topic_names = names
    app.usage_partitions = settings.usage_partitions
    app.source_topics = frozenset({names.usage, names.wants, names.partials, names.budgets})
    _declare_tables(app, settings, changelogs)
    app.ownership = _ownership(app, settings, changelogs, transactions=transactions)
    _declare_agents(app, settings, names)
    return app


def _declare_tables(app: App, settings: Settings, changelogs: Changelogs) -> None:
    write_behind_table(app, "partials", changelogs.partials, settings.usage_partitions)
    write_behind_table(app, "totals", changelogs.totals, settings.totals_partitions)
    write_behind_table(app, "budgets", changelogs.budgets, settings.totals_partitions)
    write_behind_table(app, "alerts", changelogs.alerts, settings.totals_partitions)


def _declare_agents(app: App, settings: Settings, names: TopicNames) -> None:
    """One agent a source topic: each hands its batches to the partition's owner."""

    def topic(name: str, partitions: int) -> Any:
        return app.topic(name, partitions=partitions, key_type=bytes, value_type=bytes)

    async def apply(stream: Any) -> None:
        async for event in stream.events():
            await app.ownership.apply(event.message.value)

    usage, totals = settings.usage_partitions, settings.totals_partitions
    app.agent(topic(names.usage, usage), name="partials")(apply)
    app.agent(topic(names.wants, usage), name="wants")(apply)
    app.agent(topic(names.partials, totals), name="totals")(apply)
    app.agent(topic(names.budgets, totals), name="budgets")(apply)


def _ownership(
    app: App, settings: Settings, changelogs: Changelogs, *, transactions: bool
) -> Ownership:
    kafka = {"bootstrap_servers": settings.kafka_bootstrap_servers}
    app.shared_producer = shared = SharedProducer(kafka, idempotent=transactions)
    timeout_s = settings.write_timeout_s

    def fenced(stage: str, partition: int) -> Writer:
        transactional_id = f"{settings.app_id}-{stage}-{partition}"
        writer = TransactionalWriter(transactional_id, settings.app_id, timeout_s, kafka)
        return TellingWriter(shared, writer, timeout_s)

    async def commit(offsets: Offsets) -> None:
        await app.consumer.commit_offsets({TP(*tp): at for tp, at in offsets.items()})

    def plain(stage: str, partition: int) -> Writer:
        return TellingWriter(shared, PlainWriter(shared, timeout_s, commit), timeout_s)

    new_writer = fenced if transactions else plain
    names, partitions = settings.topics, settings.totals_partitions
    refresh_ms = round(settings.decision_refresh_s * 1000)
    # Without transactions nobody knows for sure how far the last owner had told, and what was told
    # and not saved could be told back.
    save_ms = SAVE_INTERVAL_MS if transactions else 0
    return Ownership(
        [
            PartialsStage(names, changelogs, partitions, new_writer, save_ms),
            TotalsStage(
                names,
                changelogs,
                partitions,
                settings.usage_partitions,
                refresh_ms,
                new_writer,
                save_interval_ms=save_ms,
            ),
        ],
        flush_interval_s=settings.flush_interval_s,
        usage_topic=names.usage,
        check_ends=transactions,
        crash=app.crash,
    )
