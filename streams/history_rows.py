"""Rows of the history: what a usage message becomes in ClickHouse. Pure: no I/O and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from outlay.judging import Usage, decode_usage
from outlay.window import Window, day_ordinal, floor_names

TABLE = "usage_rows"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NEVER = datetime.min.replace(tzinfo=UTC)
_FLOORS_CACHE_MAX = 64  # days of messages whose floors are kept ready

OCCURRED_AT_MIN = datetime(1900, 1, 1, tzinfo=UTC)
OCCURRED_AT_MAX = datetime(2299, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
"""What `DateTime64` spans; a record dated outside stands at the nearer end."""

_TIMESTAMP_MS_MAX = int((OCCURRED_AT_MAX - _EPOCH) / timedelta(milliseconds=1))

_COLUMNS: tuple[tuple[str, str], ...] = (
    ("id", "UUID"),
    ("occurred_at", "DateTime64(6, 'UTC')"),
    ("organization_id", "LowCardinality(String)"),
    ("team_id", "LowCardinality(String)"),
    ("user_id", "String"),
    ("agent_id", "String"),
    ("provider", "LowCardinality(String)"),
    ("model", "LowCardinality(String)"),
    ("input_tokens", "Int64"),
    ("output_tokens", "Int64"),
    ("executions", "Int64"),
    ("cost_nano", "Int64"),
    ("success", "Bool"),
    ("source", "String"),
    ("sequence", "Int64"),
    ("kind", "LowCardinality(String)"),
    ("metadata", "String"),
    ("late", "Bool"),
    ("kafka_partition", "Int32"),
    ("kafka_offset", "Int64"),
    ("kafka_index", "Int32"),
    ("kafka_timestamp", "DateTime64(3, 'UTC')"),
    ("ingested_at", "DateTime64(3, 'UTC')"),
)


class Message(NamedTuple):
    """A usage message and its coordinates; the timestamp is Kafka's, in milliseconds."""

    partition: int
    offset: int
    timestamp_ms: int
    value: bytes | None


class RowBatch:
    """Rows that wait to be inserted together.

    `late` counts those whose day's total was forgotten when they arrived, `rejected` the records
    (or whole messages) that do not count; their dead letters are the totals' business.
    """

    __slots__ = ("late", "rejected", "rows")

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.late = 0
        self.rejected = 0

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, message: Message) -> None:
        """Take up what counts of a message. Never raises on what the message holds."""
        usages, rejections = decode_usage(message.value, message.timestamp_ms)
        self.rejected += len(rejections)
        floor = _floor_of(message.timestamp_ms)
        for index, usage in enumerate(usages):
            late = usage.record.occurred_at < floor
            self.late += late
            self.rows.append(_row(usage, message, index, late))

    def columns(self, ingested_at_ms: int) -> list[tuple[str, str, Sequence[Any]]]:
        """The columns to insert: name, type and values."""
        values: Iterable[Sequence[Any]] = zip(*self.rows, strict=True)
        ingested = [ingested_at_ms] * len(self.rows)
        return [
            (name, kind, column)
            for (name, kind), column in zip(_COLUMNS, [*values, ingested], strict=True)
        ]


def add_until_full(batch: RowBatch, messages: Sequence[Message], rows_max: int) -> int:
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
    return _floor_of_day(day_ordinal(_EPOCH + timedelta(milliseconds=timestamp_ms)))


@lru_cache(maxsize=_FLOORS_CACHE_MAX)
def _floor_of_day(day: int) -> datetime:
    return Window(floor_names(day)[0]).start


def _row(usage: Usage, message: Message, index: int, late: bool) -> tuple[Any, ...]:
    record = usage.record
    at = record.occurred_at
    if not OCCURRED_AT_MIN <= at <= OCCURRED_AT_MAX:
        at = OCCURRED_AT_MIN if at < OCCURRED_AT_MIN else OCCURRED_AT_MAX
    return (
        record.id,
        (at - _EPOCH) // _MICROSECOND,
        record.organization_id,
        record.team_id or "",
        record.user_id or "",
        record.agent_id,
        record.provider or "",
        record.model or "",
        record.input_tokens,
        record.output_tokens,
        record.executions,
        usage.cost_nano,
        record.success,
        record.source,
        record.sequence,
        record.kind,
        bytes(record.metadata).decode("utf-8", "replace"),
        late,
        message.partition,
        message.offset,
        index,
        min(max(message.timestamp_ms, 0), _TIMESTAMP_MS_MAX),
    )
