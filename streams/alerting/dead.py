"""Dead: what could not be delivered, read and sent again.

`dead_letters` and `redeliver` are what the API and the command line call.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

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
    topic = settings.topics.alerts_dead
    found = await read_state(settings.kafka_bootstrap_servers, topic, 0)
    letters = []
    for value in found.values():
        try:
            letters.append(decode_dead(value))
        except (msgspec.DecodeError, UnicodeDecodeError):  # somebody else's: it stays there
            continue
    return sorted(letters, key=lambda dead: dead.failed_at)


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
    letters = await dead_letters(settings)
    chosen = [dead for dead in letters if ids is None or _ids(dead) & set(ids)]
    known = frozenset().union(*map(_ids, chosen))
    unknown = tuple(each for each in dict.fromkeys(ids or ()) if each not in known)
    if chosen:
        await _republish(settings, chosen)
    return Redelivered(tuple(dict.fromkeys(dead.delivery_id for dead in chosen)), unknown)


def _ids(dead: DeadAlert) -> frozenset[str]:
    return frozenset((dead.delivery_id, *(alert.alert_id for alert in dead.alerts)))


async def _republish(settings: Settings, chosen: Collection[DeadAlert]) -> None:
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
        for dead in chosen:
            again = Redelivery(f"redelivery {uuid_utils.uuid7()}", dead)
            key = dead.scope.encode()
            await producer.send_and_wait(
                topics.alerts,
                encode_alert(dead.alerts[0]),
                key,
                partition_of(key, len(partitions)),
                headers=[(REDELIVERY_HEADER, dead_letter.encode(again))],
            )
            await producer.send_and_wait(topics.alerts_dead, None, dead.key, 0)
