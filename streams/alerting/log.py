"""Log: what the application needs of Kafka: the seam below it, which tests have in memory, too."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from schemas.messages import AlertDelivery
from streams.alerting.dead_letter import DeadAlert
from streams.alerting.incoming import Incoming
from streams.alerting.records import Records


class Lost(Exception):
    """A partition may be someone else's: what was to be written is not, or nobody knows.

    Whoever still has it loads it anew.
    """


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
        """Take a partition over: its state, read to its end; its alerts go on from the commit.

        What others, who had it before, write from then on is refused, where the broker can.
        """

    async def read(
        self, partitions: Collection[int], timeout_s: float
    ) -> dict[int, list[Incoming]]:
        """The next alerts of some partitions; none when `timeout_s` is over."""

    async def write(
        self,
        partition: int,
        records: Records,
        *,
        told: AlertDelivery | None = None,
        dead: DeadAlert | None = None,
    ) -> None:
        """Write a dead letter, what became of an attempt, and then state records.

        Whole or not at all, where the broker can; the state records always. Returns when all is
        acknowledged.

        Raises:
            Lost: nothing more is written for this partition until it is loaded again.
        """

    async def commit(self, partition: int, offset: int) -> bool:
        """Commit the next offset to read; False: the group has moved on."""

    async def lags(self) -> dict[int, int]:
        """How many messages of each partition are not read yet, as far as is known."""

    async def close(self) -> None:
        """Leave the group, within a bound."""
