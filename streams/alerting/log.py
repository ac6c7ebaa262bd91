"""Log: what the application needs of Kafka: the seam below it, which tests have in memory, too."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from schemas.messages import AlertDelivery
from streams.alerting.dead_letter import DeadAlert
from streams.alerting.incoming import Incoming
from streams.alerting.records import Records


class Owner(Protocol):
    """Told which partitions of the alerts are this process's."""

    def assigned(self, partitions: Collection[int]) -> None:
        """These are, from now on."""

    async def revoked(self) -> None:
        """None is any more. Others may have them when this returns."""


class AlertLog(Protocol):
    """The alerts topic, read in a group, and the topics that the application writes.

    What writes goes on trying while the broker is away, and raises KafkaError where waiting does
    not help.
    """

    async def open(self, owner: Owner) -> None:
        """Join the group; raises OSError or KafkaError while the broker or a topic is away."""

    async def load(self, partition: int) -> dict[bytes, bytes]:
        """The state of a partition, read to its end; its alerts go on from where was committed."""

    async def read(
        self, partitions: Collection[int], timeout_s: float
    ) -> dict[int, list[Incoming]]:
        """The next alerts of some partitions; none when `timeout_s` is over."""

    async def write(self, partition: int, records: Records) -> None:
        """Write state records, whole or not at all; returns when they are acknowledged."""

    async def commit(self, partition: int, offset: int) -> bool:
        """Commit the next offset to read; False: the group has moved on."""

    async def tell(self, delivery: AlertDelivery) -> None:
        """Publish what became of an attempt."""

    async def bury(self, dead: DeadAlert) -> None:
        """Publish a dead letter."""

    def lags(self) -> dict[int, int]:
        """How many messages of each partition are not read yet, as far as is known."""

    async def close(self) -> None:
        """Leave the group, within a bound."""
