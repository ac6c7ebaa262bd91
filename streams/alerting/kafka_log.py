"""The log on Kafka: the alerts in a group of their own, and what is written beside them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    UnknownTopicOrPartitionError,
)

from outlay.connecting import (
    METADATA_AGE_MS_MAX,
    REQUEST_TIMEOUT_MS,
    RETRY_BACKOFF_MS,
    Pauses,
    knock,
)
from outlay.topics import partition_of
from schemas.messages import AlertDelivery
from schemas.settings import Settings
from streams.alerting import dead_letter
from streams.alerting.dead_letter import DeadAlert
from streams.alerting.fencing import Note
from streams.alerting.incoming import Incoming, incoming
from streams.alerting.kafka_writing import AlertWriters
from streams.alerting.log import Owner
from streams.alerting.records import Records
from streams.alerting.state_reading import read_state

READ_MESSAGES_MAX = 500
"""How many alerts are handed over at a time."""

REBALANCE_TIMEOUT_MS = 120_000
"""How long the group waits for members that finish what is under way, in milliseconds."""

CLOSE_TIMEOUT_S = 5.0
POSITION_TIMEOUT_S = 0.5

# Whoever waits for room reads nothing meanwhile, and shall keep its place in the group.
_POLL_INTERVAL_MS_MAX = 24 * 3_600_000

log = structlog.get_logger("outlay.alerts")
_encode = msgspec.json.Encoder().encode


class KafkaAlertLog(ConsumerRebalanceListener):
    """An `AlertLog` over aiokafka."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = settings.topics
        self._servers = settings.kafka_bootstrap_servers
        self._writers = AlertWriters(settings)
        self._consumer: AIOKafkaConsumer | None = None
        self._owner: Owner | None = None
        self._deliveries_partitions = 0

    async def open(self, owner: Owner) -> None:
        self._owner = owner
        await knock(self._servers)
        await self._find_topics()
        await self._writers.find_out()
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            group_id=f"{self._settings.app_id}-alerts",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_interval_ms=_POLL_INTERVAL_MS_MAX,
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            session_timeout_ms=int(self._settings.session_timeout_s * 1000),
            heartbeat_interval_ms=int(self._settings.session_timeout_s * 1000 / 4),
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            metadata_max_age_ms=METADATA_AGE_MS_MAX,
        )
        consumer.subscribe([self._topics.alerts], listener=self)
        self._consumer = consumer  # it is asked for as soon as partitions are assigned
        try:
            await consumer.start()
        except BaseException:
            self._consumer = None
            await consumer.stop()
            raise

    async def load(self, partition: int) -> dict[bytes, bytes]:
        pauses = Pauses()
        while True:
            try:
                await self._writers.claim(partition)  # first: then nobody adds to what is read
                found = await read_state(
                    self._servers,
                    self._topics.alert_state,
                    partition,
                    committed=self._writers.is_fenced,
                )
                await self._rewind(partition)
                return found
            except (OSError, KafkaError) as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    raise
                log.warning("the state cannot be read now", error=repr(error))
            await pauses.pause()

    async def read(
        self, partitions: Collection[int], timeout_s: float
    ) -> dict[int, list[Incoming]]:
        assert self._consumer is not None
        wanted = [TopicPartition(self._topics.alerts, number) for number in partitions]
        try:
            async with asyncio.timeout(timeout_s + 0.05):  # it may wait for a rebalance, unbounded
                fetched = await self._consumer.getmany(
                    *wanted, timeout_ms=int(timeout_s * 1000), max_records=READ_MESSAGES_MAX
                )
        except (TimeoutError, IllegalStateError):  # one was taken away in this moment
            return {}
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("the broker does not answer", error=repr(error))
            await asyncio.sleep(timeout_s)
            return {}
        return {
            at.partition: [incoming(at.partition, r.offset, r.value, r.headers) for r in records]
            for at, records in fetched.items()
        }

    async def write(
        self,
        partition: int,
        records: Records,
        *,
        told: AlertDelivery | None = None,
        dead: DeadAlert | None = None,
    ) -> None:
        notes = []
        if dead is not None:
            notes.append(Note(self._topics.alerts_dead, 0, dead.key, dead_letter.encode(dead)))
        if told is not None:
            key = told.scope.encode()
            number = partition_of(key, self._deliveries_partitions)
            notes.append(Note(self._topics.alert_deliveries, number, key, _encode(told)))
        await self._writers.write(partition, notes, records)

    async def commit(self, partition: int, offset: int) -> bool:
        assert self._consumer is not None
        pauses = Pauses()
        while True:
            try:
                await self._consumer.commit(
                    {TopicPartition(self._topics.alerts, partition): offset}
                )
                return True
            except (CommitFailedError, IllegalStateError) as error:
                log.warning("offset not committed, the group has moved on", error=str(error))
                return False
            except KafkaError as error:
                if not error.retriable:
                    raise
                log.warning("the broker does not commit, trying on", error=repr(error))
            await pauses.pause()

    async def lags(self) -> dict[int, int]:
        consumer = self._consumer
        if consumer is None:
            return {}
        lags = {}
        with contextlib.suppress(IllegalStateError, TimeoutError):  # a rebalance meanwhile
            async with asyncio.timeout(POSITION_TIMEOUT_S):
                for at in consumer.assignment():
                    end = consumer.highwater(at)
                    if end is not None:  # a position also passes the markers of transactions
                        lags[at.partition] = max(end - await consumer.position(at), 0)
        return lags

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(TimeoutError, KafkaError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await consumer.stop()
        await self._writers.close()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by aiokafka."""
        assert self._owner is not None
        await self._owner.revoked()
        await self._writers.release()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by aiokafka."""
        assert self._owner is not None
        numbers = sorted(part.partition for part in assigned)
        log.info("partitions assigned", topic=self._topics.alerts, partitions=numbers)
        self._owner.assigned(numbers)

    async def _rewind(self, partition: int) -> None:
        assert self._consumer is not None
        at = TopicPartition(self._topics.alerts, partition)
        with contextlib.suppress(IllegalStateError):  # taken away meanwhile
            offset = await self._consumer.committed(at)
            self._consumer.seek(at, offset or 0)  # below the beginning: it goes on from there

    async def _find_topics(self) -> None:
        """Raise while a topic is absent: a subscription to one that is may make it."""
        names = self._topics
        wanted = [names.alerts, names.alert_state, names.alert_deliveries, names.alerts_dead]
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self._servers, request_timeout_ms=REQUEST_TIMEOUT_MS
        )
        await admin.start()
        try:
            existing = set(await admin.list_topics())
            absent = [name for name in wanted if name not in existing]
            if absent:
                raise UnknownTopicOrPartitionError(f"{', '.join(absent)} do not exist yet")
            described = await admin.describe_topics(wanted)
        finally:
            await admin.close()
        counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
        self._deliveries_partitions = counts[names.alert_deliveries]
        if counts[names.alert_state] < counts[names.alerts]:
            raise PartitionsError(f"{names.alert_state} has fewer partitions than {names.alerts}")


class PartitionsError(KafkaError):
    """The state's topic cannot hold the state of each partition of the alerts."""
