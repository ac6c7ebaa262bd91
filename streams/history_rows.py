"""Rows of the history: what a usage message becomes in ClickHouse. Pure: no I/O and no clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Protocol

from outlay.judging import decode_usage
from outlay.plain import decode_plain
from outlay.usage import NO_METADATA, UsageRecord
from outlay.window import Window, floor_names

TABLE = "usage_rows"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_MS = 86_400_000
_NEVER = datetime.min.replace(tzinfo=UTC)
_FLOORS_CACHE_MAX = 64  # days of messages whose floors are kept ready

OCCURRED_AT_MIN = datetime(1900, 1, 1, tzinfo=UTC)
OCCURRED_AT_MAX = datetime(2299, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
"""What `DateTime64` spans; a record dated outside stands at the nearer end."""

_TIMESTAMP_MS_MAX = int((OCCURRED_AT_MAX - _EPOCH) / timedelta(milliseconds=1))

_OCCURRED_US_MIN = (OCCURRED_AT_MIN - _EPOCH) // _MICROSECOND
_OCCURRED_US_MAX = (OCCURRED_AT_MAX - _EPOCH) // _MICROSECOND

_WORD = "LowCardinality(String)"


class Message(NamedTuple):
    """A message and its coordinates; the timestamp is Kafka's, in milliseconds."""

    partition: int
    offset: int
    timestamp_ms: int
    value: bytes | None


Columns = list[tuple[str, str, Sequence[Any]]]
"""What is inserted: name, type and values of each column."""


class Rows(Protocol):
    """Messages of one topic that wait to be inserted together: of usage, or of the audit."""

    table: ClassVar[str]
    """Where they go."""
    rejected: int
    """How many records, or whole messages, do not count."""

    def __len__(self) -> int: ...
    @property
    def late(self) -> int:
        """How many rows are of records that came too late for their totals."""

    def add(self, message: Message) -> None:
        """Take up what counts of a message. Never raises on what the message holds."""

    def columns(self, ingested_at_ms: int) -> Columns:
        """The columns to insert."""


class RowBatch:
    """Records that wait to be inserted together, and where in Kafka each stood.

    `rejected` counts the records (or whole messages) that do not count; their dead letters are the
    totals' business.
    """

    # Columns from the start: the garbage collector visits each row of a list of tuples, again and
    # again while it grows.
    __slots__ = (
        "_costs", "_indexes", "_lates", "_offsets", "_partitions", "_records", "_timestamps",
        "rejected",
    )  # fmt: skip

    table: ClassVar[str] = TABLE

    def __init__(self) -> None:
        self._records: list[UsageRecord] = []
        self._costs: list[int] = []
        self._lates: list[bool] = []
        self._partitions: list[int] = []
        self._offsets: list[int] = []
        self._indexes: list[int] = []
        self._timestamps: list[int] = []
        self.rejected = 0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def late(self) -> int:
        """How many records' days were forgotten when they arrived."""
        return sum(self._lates)

    def add(self, message: Message) -> None:
        """Take up what counts of a message. Never raises on what the message holds."""
        partition, offset, timestamp_ms, value = message
        records, costs_nano = self._judge(value, timestamp_ms)
        count = len(records)
        floor = _floor_of(timestamp_ms)
        self._records += records
        self._costs += costs_nano
        self._lates += [record.occurred_at < floor for record in records]
        self._partitions += [partition] * count
        self._offsets += [offset] * count
        self._indexes += range(count)
        self._timestamps += [min(max(timestamp_ms, 0), _TIMESTAMP_MS_MAX)] * count

    def _judge(
        self, value: bytes | None, timestamp_ms: int
    ) -> tuple[Sequence[UsageRecord], Sequence[int]]:
        plain = decode_plain((value,), timestamp_ms)
        if plain is not None:
            return plain.records, plain.costs_nano
        usages, rejections = decode_usage(value, timestamp_ms)
        self.rejected += len(rejections)
        return [usage.record for usage in usages], [usage.cost_nano for usage in usages]

    def columns(self, ingested_at_ms: int) -> Columns:
        """The columns to insert: name, type and values. Times are integers, in the type's unit."""
        records = self._records
        return [
            # As text: the engine reads a UUID from it in less time than Python does.
            ("id", "String", [record.id for record in records]),
            ("occurred_at", "DateTime64(6, 'UTC')", _microseconds(records)),
            ("organization_id", _WORD, [record.organization_id for record in records]),
            ("team_id", _WORD, [record.team_id or "" for record in records]),
            ("user_id", "String", [record.user_id or "" for record in records]),
            ("agent_id", "String", [record.agent_id for record in records]),
            ("provider", _WORD, [record.provider or "" for record in records]),
            ("model", _WORD, [record.model or "" for record in records]),
            ("input_tokens", "Int64", [record.input_tokens for record in records]),
            ("output_tokens", "Int64", [record.output_tokens for record in records]),
            ("executions", "Int64", [record.executions for record in records]),
            ("cost_nano", "Int64", self._costs),
            ("success", "Bool", [record.success for record in records]),
            ("source", "String", [record.source for record in records]),
            ("sequence", "Int64", [record.sequence for record in records]),
            ("kind", _WORD, [record.kind for record in records]),
            ("metadata", "String", [_metadata(record) for record in records]),
            ("late", "Bool", self._lates),
            ("kafka_partition", "Int32", self._partitions),
            ("kafka_offset", "Int64", self._offsets),
            ("kafka_index", "Int32", self._indexes),
            ("kafka_timestamp", "DateTime64(3, 'UTC')", self._timestamps),
            ("ingested_at", "DateTime64(3, 'UTC')", [ingested_at_ms] * len(records)),
        ]


def add_until_full(batch: Rows, messages: Sequence[Message], rows_max: int) -> int:
    """Take up messages until the batch holds `rows_max` rows; how many messages were taken."""
    for taken, message in enumerate(messages):
        if len(batch) >= rows_max:
            return taken
        batch.add(message)
    return len(messages)


def _floor_of(timestamp_ms: int) -> datetime:
    """The start of the oldest day whose totals are kept when a message of that time arrives."""
    if not 0 <= timestamp_ms <= _TIMESTAMP_MS_MAX:  # none, or nonsense: nothing to be late by
        return _NEVER
    return _floor_of_day(timestamp_ms // _DAY_MS)


@lru_cache(maxsize=_FLOORS_CACHE_MAX)
def _floor_of_day(days: int) -> datetime:
    """The same for a day, in days since 1970."""
    return Window(floor_names(days + _EPOCH.toordinal())[0]).start


def _microseconds(records: Sequence[UsageRecord]) -> list[int]:
    """When records occurred, since 1970; at the nearer end where ClickHouse has no such time."""
    times = [(record.occurred_at - _EPOCH) // _MICROSECOND for record in records]
    if times and (min(times) < _OCCURRED_US_MIN or max(times) > _OCCURRED_US_MAX):
        return [min(max(at, _OCCURRED_US_MIN), _OCCURRED_US_MAX) for at in times]
    return times


def _metadata(record: UsageRecord) -> str:
    raw = record.metadata
    return "{}" if raw is NO_METADATA else bytes(raw).decode("utf-8", "replace")
