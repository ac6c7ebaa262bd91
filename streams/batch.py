"""Batch: what one fetch brought from one partition of a source topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class SourceRecord(Protocol):
    """One message, as the Kafka client hands it over."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch; -1 when it has none."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Batch:
    """The messages of one partition with offsets in [start, end).

    Offsets that no message has are markers of transactions, or were compacted away, so a batch
    may be empty and still cover something. `lag` is how many offsets there were beyond it when it
    was fetched. The other names are those that Faust reads of a message; to it, a batch is one.
    """

    __slots__ = ("end", "lag", "partition", "records", "start", "timestamp", "topic")

    headers = ()
    key = None
    checksum = None
    serialized_key_size = serialized_value_size = 0
    timestamp_type = 0

    def __init__(
        self,
        topic: str,
        partition: int,
        records: Sequence[SourceRecord],
        start: int,
        end: int,
        lag: int = 0,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.records = records
        self.start = start
        self.end = end
        self.lag = lag
        self.timestamp = records[-1].timestamp if records else 0

    def rest(self, records: Sequence[SourceRecord], taken: int) -> Batch:
        """What is left when so many of its records, of those that are unseen, were taken."""
        start = records[taken].offset
        return Batch(self.topic, self.partition, records[taken:], start, self.end, self.lag)

    @property
    def offset(self) -> int:
        """The last offset covered; Faust takes it for the message's own."""
        return self.end - 1

    @property
    def value(self) -> Batch:
        return self


_MS_PER_DAY = 86_400_000
_EPOCH_DAY = 719_163  # date(1970, 1, 1).toordinal()

DAY_MAX = 3_652_059
"""The last day of the calendar, as an ordinal; a timestamp beyond it is nonsense."""


def day_of(timestamp_ms: int) -> int:
    """The ordinal of the UTC day that a message's timestamp falls in."""
    return _EPOCH_DAY + timestamp_ms // _MS_PER_DAY


def day_start_ms(day: int) -> int:
    """The first millisecond of a day."""
    return (day - _EPOCH_DAY) * _MS_PER_DAY


def is_due(now_ms: int, last_ms: int, interval_ms: int) -> bool:
    """Whether an interval has passed; also when the clock was set back."""
    return not 0 <= now_ms - last_ms < interval_ms


class GapError(Exception):
    """Messages between what was applied and what arrived were never seen: they are lost."""


def unseen(batch: Batch, position: int) -> Sequence[SourceRecord]:
    """The messages of a batch at or after `position`, the next offset to apply.

    Raises:
        GapError: the batch begins after `position`.
    """
    if batch.start > position:
        raise GapError(
            f"{batch.topic}-{batch.partition}: expected offset {position}, "
            f"got a batch that begins at {batch.start}"
        )
    if batch.start == position:
        return batch.records
    return [record for record in batch.records if record.offset >= position]
