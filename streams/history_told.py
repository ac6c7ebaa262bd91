"""Rows of topics whose messages hold one thing each: what they share, whatever is told."""

from __future__ import annotations

from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Generic, TypeVar

import msgspec

from streams.history_rows import OCCURRED_AT_MAX, OCCURRED_AT_MIN, Columns, Message

WORD = "LowCardinality(String)"
TIME = "DateTime64(3, 'UTC')"

Int32 = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
"""What a message must hold so that ClickHouse can hold it, too."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

T = TypeVar("T")


class ToldBatch(Generic[T]):
    """What messages told, and where each stood; `rejected` counts messages that tell nothing.

    A kind of it says where its rows go, how a message is read, and what its columns are.
    """

    table: ClassVar[str]
    late = 0
    decoder: ClassVar[msgspec.json.Decoder]  # type: ignore[type-arg] # of T, which it cannot name

    def __init__(self) -> None:
        self._told: list[T] = []
        self._places: list[tuple[int, int]] = []
        self.rejected = 0

    def __len__(self) -> int:
        return len(self._told)

    def add(self, message: Message) -> None:
        """Take up what a message tells. Never raises on what the message holds."""
        try:
            told = self.read(message.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.rejected += 1
            return
        self._told.append(told)
        self._places.append((message.partition, message.offset))

    def read(self, value: bytes) -> T:
        """What a message's value tells; raises what msgspec does."""
        told: T = self.decoder.decode(value)
        return told

    @abstractmethod
    def told_columns(self, told: list[T]) -> Columns:
        """The columns of what was told."""

    def columns(self, ingested_at_ms: int) -> Columns:
        """The columns to insert: name, type and values. Times are integers, in milliseconds."""
        return [
            *self.told_columns(self._told),
            ("kafka_partition", "Int32", [partition for partition, _ in self._places]),
            ("kafka_offset", "Int64", [offset for _, offset in self._places]),
            ("ingested_at", TIME, [ingested_at_ms] * len(self)),
        ]


def ms_of(at: datetime) -> int:
    """Milliseconds since 1970; at the nearer end where ClickHouse has no such time."""
    return (min(max(at, OCCURRED_AT_MIN), OCCURRED_AT_MAX) - _EPOCH) // _MILLISECOND
