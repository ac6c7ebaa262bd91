"""Dead: what could not be delivered, read and sent again.

`dead_letters` and `redeliver` are what the API and the command line call.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import uuid_utils
from aiokafka import AIOKafkaProducer
from aiokafka.errors import UnknownTopicOrPartitionError

from outlay.alert import encode_alert
from outlay.connecting import REQUEST_TIMEOUT_MS, knock
from outlay.topics import partition_of
from schemas.settings import Settings
from streams.alerting import dead_letter
from streams.alerting.dead_letter import REDELIVERY_HEADER, DeadAlert, Redelivery, decode_dead
from streams.alerting.state_reading import read_state


@dataclass(frozen=True, slots=True)
class Redelivered:
    """What `redeliver` did: the delivery ids that are sent again, and those that are not dead."""

    sent: tuple[str, ...]
    unknown: tuple[str, ...]


async def dead_letters(settings: Settings) -> list[DeadAlert]:
    """The dead letters that were not sent again, the oldest first; kept for 30 days.

    Raises:
        OSError, KafkaError: the broker is away, or the topic does not exist yet.
    """
    return [each[-1].dead for each in await _buried(settings)]


class _Buried(NamedTuple):
    key: bytes
    dead: DeadAlert


async def _buried(settings: Settings) -> list[list[_Buried]]:
    """What stands on the topic of each delivery, the newest last: a crash may leave several."""
    topic = settings.topics.alerts_dead
    found = await read_state(settings.kafka_bootstrap_servers, topic, 0)
    buried: dict[tuple[str, str], list[_Buried]] = {}
    for key, value in found.items():
        try:
            dead = decode_dead(value)
        except (msgspec.DecodeError, UnicodeDecodeError):  # somebody else's: it stays there
            continue
        buried.setdefault((dead.delivery_id, dead.channel), []).append(_Buried(key, dead))
    for each in buried.values():
        each.sort(key=lambda one: one.dead.failed_at)
    return sorted(buried.values(), key=lambda each: each[-1].dead.failed_at)


async def redeliver(settings: Settings, ids: Collection[str] | None) -> Redelivered:
    """Send dead letters again, under their ids and with all attempts before them.

    Each goes through its own channel, to what is configured now. It waits for no cooldown, and
    passes the duplicate check once. It is no dead letter any more, until it fails again.

    Args:
        settings: which broker and topics.
        ids: delivery ids, or ids of alerts that they hold; None: all that there are.

    Raises:
        OSError, KafkaError: the broker is away, or a topic does not exist yet. Those that were
            sent before stay sent.
    """
    chosen = [
        each for each in await _buried(settings) if ids is None or _ids(each[-1].dead) & set(ids)
    ]
    known = frozenset().union(*(_ids(each[-1].dead) for each in chosen))
    unknown = tuple(each for each in dict.fromkeys(ids or ()) if each not in known)
    if chosen:
        await _republish(settings, chosen)
    return Redelivered(tuple(dict.fromkeys(each[-1].dead.delivery_id for each in chosen)), unknown)


def _ids(dead: DeadAlert) -> frozenset[str]:
    return frozenset((dead.delivery_id, *(alert.alert_id for alert in dead.alerts)))


async def _republish(settings: Settings, chosen: Collection[list[_Buried]]) -> None:
    await knock(settings.kafka_bootstrap_servers)
    async with AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        acks="all",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    ) as producer:
        topics = settings.topics
        await producer.client.set_topics([topics.alerts])
        partitions = producer.client.cluster.partitions_for_topic(topics.alerts)
        if not partitions:
            raise UnknownTopicOrPartitionError(f"{topics.alerts} does not exist yet")
        for letters in chosen:
            dead = letters[-1].dead
            again = Redelivery(f"redelivery {uuid_utils.uuid7()}", dead)
            key = dead.scope.encode()
            await producer.send_and_wait(
                topics.alerts,
                encode_alert(dead.alerts[0]),
                key,
                partition_of(key, len(partitions)),
                headers=[(REDELIVERY_HEADER, dead_letter.encode(again))],
            )
            for key, _ in letters:  # not when it fails again meanwhile: that has a key of its own
                await producer.send_and_wait(topics.alerts_dead, None, key, 0)
