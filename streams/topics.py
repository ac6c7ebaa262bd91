"""Topics: made when absent, and checked when there, before a worker starts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, TopicAlreadyExistsError, for_code

from outlay.judging import MESSAGE_BYTES_MAX
from outlay.topics import TopicNames
from schemas.settings import Settings
from streams.stages import Changelogs

ADMIN_TIMEOUT_MS = 30_000
"""How long one request to the broker may take."""

READY_TIMEOUT_S = 60.0
"""How long topics may take to be made and to have leaders."""

AUDIT_RETENTION_DAYS = 400
"""How long the audit topic keeps who changed which budget: a year, and time to read it. What
ClickHouse has read stays there."""

ALERTS_RETENTION_DAYS = 30
"""How long alerts, what became of their delivery, and those that could not be delivered are kept on
their topics."""

CHANGELOG_SEGMENT_BYTES = 64 * 1_048_576
"""How large a segment of the changelogs of partials and totals gets, in bytes. The newest is never
compacted: by default it is a gigabyte, all of which a new owner would read."""

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_KEPT = {"retention.ms": "-1"}
_COMPACTED = {"cleanup.policy": "compact"}
_CHANGELOG = _COMPACTED | {"segment.bytes": str(CHANGELOG_SEGMENT_BYTES)}
# A cleaner that overtook a gateway which is loading would hide decisions that a watermark claims.
_DECISIONS = _COMPACTED | {"min.compaction.lag.ms": str(_HOUR_MS)}

log = structlog.get_logger("outlay.streams")


class TopicError(Exception):
    """A topic is not as the worker needs it, and is not changed by itself."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it is made: its name, partitions and configuration."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """All topics that the streams need, those that agents and gateways use among them."""
    names, changelogs = settings.topics, Changelogs(settings.app_id)
    usage, totals = settings.usage_partitions, settings.totals_partitions
    week = {"retention.ms": str(7 * _DAY_MS)}
    return [
        # The broker's own clock: one agent's wrong one must not age everybody's windows.
        TopicSpec(
            names.usage,
            usage,
            week
            | {
                "message.timestamp.type": "LogAppendTime",
                "max.message.bytes": str(MESSAGE_BYTES_MAX + 65_536),
            },
        ),
        # What was not read stays, however long the workers are down; see `trimming` for the rest.
        TopicSpec(names.partials, totals, _KEPT),
        TopicSpec(names.wants, usage, _KEPT),
        TopicSpec(names.budgets, totals, _KEPT),
        TopicSpec(names.decisions, totals, _DECISIONS),
        # Never compacted, whatever the broker's default is: each change of a scope is to be kept.
        TopicSpec(
            names.audit,
            totals,
            {"cleanup.policy": "delete", "retention.ms": str(AUDIT_RETENTION_DAYS * _DAY_MS)},
        ),
        TopicSpec(names.rejected, 1, {"retention.ms": str(30 * _DAY_MS)}),
        *_alert_topics(names, totals),
        TopicSpec(changelogs.partials, usage, _CHANGELOG),
        TopicSpec(changelogs.totals, totals, _CHANGELOG),
        TopicSpec(changelogs.budgets, totals, _COMPACTED),
        TopicSpec(changelogs.alerts, totals, _COMPACTED),
    ]


def _alert_topics(names: TopicNames, totals: int) -> list[TopicSpec]:
    """What the stream tells of crossings, and what their delivery keeps."""
    # Never compacted, whatever the broker's default is: a scope has more than one alert.
    kept = {
        "cleanup.policy": "delete",
        "retention.ms": str(ALERTS_RETENTION_DAYS * _DAY_MS),
    }
    return [
        TopicSpec(names.alerts, totals, kept),
        TopicSpec(names.alert_configs, totals, _COMPACTED),
        TopicSpec(names.alert_state, totals, _COMPACTED),
        TopicSpec(names.alert_deliveries, totals, kept),
        TopicSpec(names.alerts_dead, 1, kept),
    ]


async def ensure_topics(settings: Settings, *, configs_told: bool = True) -> None:
    """Make the topics that are absent.

    Args:
        settings: which topics, and where.
        configs_told: whether the broker can be asked how a topic is configured. Tansu ends the
            connection instead; then that is not checked, and said.

    Raises:
        TopicError: one exists with another number of partitions, or configured so that totals
            would not be exact; or it could not be made.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.kafka_bootstrap_servers, request_timeout_ms=ADMIN_TIMEOUT_MS
    )
    await admin.start()
    try:
        specs = topic_specs(settings)
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not await _ready(admin, specs, settings.replication_factor):  # noqa: ASYNC110 - the broker tells no event
                await asyncio.sleep(0.1)
        try:
            await _check_configs(admin, specs)
        except KafkaConnectionError as error:
            if configs_told:
                raise
            log.warning("how the topics are configured is not checked", error=str(error))
    except TimeoutError:
        raise TopicError(f"topics had no leaders after {READY_TIMEOUT_S:.0f} s") from None
    finally:
        await admin.close()


async def _ready(admin: AIOKafkaAdminClient, specs: list[TopicSpec], replication: int) -> bool:
    """Whether all topics have leaders; those that are absent are made.

    What exists is asked anew each time, since a broker goes on listing what was just deleted; and
    for all topics, since to ask for one by its name may make it, as the broker's defaults are.
    """
    described = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
    absent = [spec for spec in specs if spec.name not in described]
    if absent:
        await _create(admin, absent, replication)
        return False
    for spec in specs:
        partitions = described[spec.name]
        if not partitions or any(p["leader"] < 0 for p in partitions):
            return False
        if len(partitions) != spec.partitions:
            raise TopicError(
                f"{spec.name} has {len(partitions)} partitions, the settings say "
                f"{spec.partitions}: totals would start again from nothing"
            )
    return True


async def _create(admin: AIOKafkaAdminClient, specs: list[TopicSpec], replication: int) -> None:
    response = await admin.create_topics(
        [
            NewTopic(spec.name, spec.partitions, replication, topic_configs=spec.config)
            for spec in specs
        ]
    )
    made = []
    for name, code, *_ in response.topic_errors:
        if code == 0:
            made.append(name)
        # Another worker may have made it in the meantime, or the broker does not list it yet.
        elif code != TopicAlreadyExistsError.errno:
            raise TopicError(f"{name} could not be made: {for_code(code).__name__}")
    if made:
        log.info("topics made", topics=made)


_ESSENTIAL = ("cleanup.policy", "message.timestamp.type")
"""What of a topic's configuration the totals depend on; the rest is the operator's choice."""


async def _check_configs(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> None:
    wanted = {s.name: {k: v for k, v in s.config.items() if k in _ESSENTIAL} for s in specs}
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, configs=dict(configs))
        for name, configs in wanted.items()
        if configs
    ]
    for response in await admin.describe_configs(resources):
        for code, _, _, name, entries in response.resources:
            if code:
                raise TopicError(f"{name} cannot be described: {for_code(code).__name__}")
            for entry in entries:
                want = wanted[name].get(entry[0])
                if want is not None and entry[1] != want:
                    raise TopicError(
                        f"{name} has {entry[0]}={entry[1]}, but totals stay exact only with {want}"
                    )
