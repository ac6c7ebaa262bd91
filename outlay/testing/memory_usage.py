"""The usage topic in memory: what has arrived, and what of it is to be counted."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from outlay.framing import decode_message
from outlay.judging import Usage, decode_usage
from outlay.testing.rejected import Rejected
from outlay.usage import UsageRecord

RECORDS_MAX = 100_000
"""How many of the records that arrived are remembered: the last ones."""

REJECTED_MAX = 10_000
"""How many of the rejected are remembered: the last ones."""

HELD_MESSAGES_MAX = 100_000
"""How many messages may wait to be counted; beyond, the topic takes no more."""


class Arrived(NamedTuple):
    """One message at an offset of a partition, with what of it counts."""

    partition: int
    offset: int
    timestamp_ms: int
    usages: list[Usage]


class MemoryUsage:
    """Partitions of growing offsets. What arrives while `holds` is set waits for `release`.

    Whoever uses it has the broker's lock.
    """

    def __init__(self, partitions: int, *, holds: bool) -> None:
        self.partitions = partitions
        self.holds = holds
        self.records: deque[UsageRecord] = deque(maxlen=RECORDS_MAX)
        self.rejected: deque[Rejected] = deque(maxlen=REJECTED_MAX)
        self._ends = [0] * partitions
        self._held: deque[Arrived] = deque()
        self._due: deque[Arrived] = deque()

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be counted that it takes no more."""
        return len(self._held) + len(self._due) >= HELD_MESSAGES_MAX

    def append(self, partition: int, value: bytes, timestamp_ms: int) -> int:
        """Take a message in, and judge its records; its offset."""
        offset = self._ends[partition]
        self._ends[partition] += 1
        usages, rejections = decode_usage(value, timestamp_ms)
        given = decode_message(value)
        for rejection in rejections:
            what = (
                given if len(given) > 1 and rejection.index is None else given[rejection.index or 0]
            )
            self.rejected.append(Rejected(rejection.reason, what, "stream"))
        self.records.extend(usage.record for usage in usages)
        (self._held if self.holds else self._due).append(
            Arrived(partition, offset, timestamp_ms, usages)
        )
        return offset

    def release(self) -> None:
        """What was held may be counted now."""
        self._due.extend(self._held)
        self._held.clear()

    def take_due(self) -> list[Arrived]:
        """What is to be counted, in the order in which it arrived."""
        due = list(self._due)
        self._due.clear()
        return due
