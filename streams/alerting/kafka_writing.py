"""Writing to Kafka: a fenced writer for each partition held, where there are transactions.

Where the broker has none, one producer writes for all partitions, and a process that was paused and
does not know that it lost a partition is not refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka.errors import KafkaConnectionError, KafkaError

from outlay.connecting import knock
from outlay.embedded.asking import supports_transactions
from outlay.embedded.errors import BrokerUnreachable
from schemas.settings import Settings
from streams.alerting.fencing import FencedWriter, Note
from streams.alerting.kafka_producer import AlertProducer
from streams.alerting.log import Lost
from streams.alerting.records import Records
from streams.writer import TransactionalWriter

CLAIM_TIMEOUT_S = 60.0
"""How long one try at taking a partition over may take, in seconds."""

log = structlog.get_logger("outlay.alerts")


class NoTransactionsError(KafkaError):
    """The settings insist on transactions, and the broker has none."""


class AlertWriters:
    """Writes the state of partitions and what is told beside it."""

    def __init__(self, settings: Settings) -> None:
        self.is_fenced = False
        self._settings = settings
        self._servers = settings.kafka_bootstrap_servers
        self._state_topic = settings.topics.alert_state
        self._plain = AlertProducer(self._servers)
        self._fenced: dict[int, FencedWriter] = {}

    async def find_out(self) -> None:
        """Ask the broker whether it has transactions, as the settings say.

        Raises:
            KafkaError: it does not answer, or has none where they are insisted on.
        """
        wanted = self._settings.transactions
        if wanted == "off":
            self.is_fenced = False
        else:
            try:
                has = await asyncio.to_thread(supports_transactions, self._servers)
            except BrokerUnreachable as error:
                raise KafkaConnectionError(str(error)) from error
            if wanted == "on" and not has:
                raise NoTransactionsError("OUTLAY_TRANSACTIONS=on: the broker has no transactions")
            self.is_fenced = has
        if not self.is_fenced:
            log.warning(
                "no transactions: nothing is lost by a crash, but a process that is paused past its"
                " session and wakes up may write over what another has written"
            )

    async def claim(self, partition: int) -> None:
        """Have the broker refuse what others write for a partition from now on, where it can.

        Raises:
            OSError, KafkaError: it cannot be asked now.
        """
        if not self.is_fenced:
            return
        await self._release(partition)
        await knock(self._servers)
        settings = self._settings
        writer = FencedWriter(
            TransactionalWriter(
                f"{settings.app_id}-alerts-{partition}",
                f"{settings.app_id}-alerts",
                settings.write_timeout_s,
                {"bootstrap_servers": self._servers},
            ),
            self._state_topic,
            partition,
        )
        try:
            async with asyncio.timeout(CLAIM_TIMEOUT_S):
                await writer.start()
        except BaseException as error:
            await writer.stop()
            if isinstance(error, TimeoutError):
                raise KafkaConnectionError("the partition could not be taken over") from None
            raise
        self._fenced[partition] = writer

    async def write(self, partition: int, notes: Sequence[Note], records: Records) -> None:
        """Write notes and then state records; in one transaction where there are any.

        Raises:
            Lost: the partition may be someone else's.
            KafkaError: waiting does not help.
        """
        if self.is_fenced:
            writer = self._fenced.get(partition)
            if writer is None:
                raise Lost("it was given up")
            await writer.write(notes, records)
            return
        for note in notes:
            await self._plain.send(note.topic, note.key, note.value, note.partition)
        if len(records) == 1:  # others may share its batch
            ((key, value),) = records.items()
            await self._plain.send(self._state_topic, key, value, partition)
        elif records:
            await self._plain.send_whole(self._state_topic, records, partition)

    async def release(self) -> None:
        """Let go of all partitions, within a bound."""
        await asyncio.gather(*(self._release(partition) for partition in list(self._fenced)))

    async def close(self) -> None:
        """Stop, within a bound."""
        await self.release()
        await self._plain.close()

    async def _release(self, partition: int) -> None:
        writer = self._fenced.pop(partition, None)
        if writer is not None:
            await writer.stop()
