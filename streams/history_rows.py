"""Rows of the history: what a usage message becomes in ClickHouse. Pure: no I/O and no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Protocol

from msgspec.structs import astuple

from outlay.framing import FrameColumns
from outlay.judging import decode_usage
from outlay.usage import NO_METADATA, UsageRecord
from outlay.window import Window, floor_names
from streams.plain import decode_plain, plain_columns

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
_TYPES = {
    # As text: the engine reads a UUID from it in less time than Python does.
    "id": "String",
    "occurred_at": "DateTime64(6, 'UTC')",
    "organization_id": _WORD,
    "team_id": _WORD,
    "user_id": "String",
    "agent_id": "String",
    "provider": _WORD,
    "model": _WORD,
    "input_tokens": "Int64",
    "output_tokens": "Int64",
    "executions": "Int64",
    "cost_nano": "Int64",
    "success": "Bool",
    "source": "String",
    "sequence": "Int64",
    "kind": _WORD,
    "metadata": "String",
    "late": "Bool",
    "kafka_partition": "Int32",
    "kafka_offset": "Int64",
    "kafka_index": "Int32",
    "kafka_timestamp": "DateTime64(3, 'UTC')",
}
"""The types of the columns that are known when a message is taken up."""


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
    __slots__ = ("_columns", "_costs", "_records", "rejected")

    table: ClassVar[str] = TABLE

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in _TYPES}
        self._records: list[UsageRecord] = []
        self._costs: list[int] = []
        self.rejected = 0

    def __len__(self) -> int:
        return len(self._columns["kafka_offset"])

    @property
    def late(self) -> int:
        """How many records' days were forgotten when they arrived."""
        return sum(self._columns["late"])

    def add(self, message: Message) -> None:
        """Take up what counts of a message. Never raises on what the message holds."""
        partition, offset, timestamp_ms, value = message
        floor = _floor_of(timestamp_ms)
        frame = plain_columns(value, timestamp_ms) if value else None
        if frame is None:
            records, costs_nano = self._judge(value, timestamp_ms)
            self._records += records
            self._costs += costs_nano
            lates = [record.occurred_at < floor for record in records]
        else:
            self._settle()
            self._extend(_columns_of_frame(frame))
            floor_us = (floor - _EPOCH) // _MICROSECOND
            lates = [at_us < floor_us for at_us in frame.occurred_us]
        columns, count = self._columns, len(lates)
        columns["late"] += lates
        columns["kafka_partition"] += [partition] * count
        columns["kafka_offset"] += [offset] * count
        columns["kafka_index"] += range(count)
        columns["kafka_timestamp"] += [min(max(timestamp_ms, 0), _TIMESTAMP_MS_MAX)] * count

    def _judge(
        self, value: bytes | None, timestamp_ms: int
    ) -> tuple[Sequence[UsageRecord], Sequence[int]]:
        plain = decode_plain((value,), timestamp_ms)
        if plain is not None:
            return plain.records, plain.costs_nano
        usages, rejections = decode_usage(value, timestamp_ms)
        self.rejected += len(rejections)
        return [usage.record for usage in usages], [usage.cost_nano for usage in usages]

    def _settle(self) -> None:
        """Make columns of the records so far: of many at once, not message by message."""
        if self._records:
            self._extend(_columns_of(self._records, self._costs))
            self._records, self._costs = [], []

    def _extend(self, added: Mapping[str, Sequence[Any]]) -> None:
        for name, values in added.items():
            self._columns[name] += values

    def columns(self, ingested_at_ms: int) -> Columns:
        """The columns to insert: name, type and values. Times are integers, in the type's unit."""
        self._settle()
        columns = [(name, _TYPES[name], values) for name, values in self._columns.items()]
        return [*columns, ("ingested_at", "DateTime64(3, 'UTC')", [ingested_at_ms] * len(self))]


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


def _columns_of(
    records: Sequence[UsageRecord], costs_nano: Sequence[int]
) -> dict[str, Sequence[Any]]:
    return {
        "id": [record.id for record in records],
        "occurred_at": _in_span([(r.occurred_at - _EPOCH) // _MICROSECOND for r in records]),
        "organization_id": [record.organization_id for record in records],
        "team_id": [record.team_id or "" for record in records],
        "user_id": [record.user_id or "" for record in records],
        "agent_id": [record.agent_id for record in records],
        "provider": [record.provider or "" for record in records],
        "model": [record.model or "" for record in records],
        "input_tokens": [record.input_tokens for record in records],
        "output_tokens": [record.output_tokens for record in records],
        "executions": [record.executions for record in records],
        "cost_nano": costs_nano,
        "success": [record.success for record in records],
        "source": [record.source for record in records],
        "sequence": [record.sequence for record in records],
        "kind": [record.kind for record in records],
        "metadata": [_metadata(record) for record in records],
    }


def _columns_of_frame(frame: FrameColumns) -> dict[str, Sequence[Any]]:
    """The same of what a frame holds, without making records of it."""
    organizations, teams, users, agents = zip(*frame.spenders, strict=True)
    providers, models, successes, kinds, sources = zip(*map(astuple, frame.calls), strict=True)
    return {
        "id": frame.ids,
        "occurred_at": frame.occurred_us,
        "organization_id": organizations,
        "team_id": [team or "" for team in teams],
        "user_id": [user or "" for user in users],
        "agent_id": agents,
        "provider": [provider or "" for provider in providers],
        "model": [model or "" for model in models],
        "input_tokens": frame.input_tokens,
        "output_tokens": frame.output_tokens,
        "executions": frame.executions,
        "cost_nano": frame.costs_nano,
        "success": successes,
        "source": sources,
        "sequence": frame.sequences,
        "kind": kinds,
        "metadata": ["{}"] * len(frame.ids),
    }


def _in_span(times_us: list[int]) -> list[int]:
    """Times since 1970; at the nearer end where ClickHouse has no such time."""
    if times_us and (min(times_us) < _OCCURRED_US_MIN or max(times_us) > _OCCURRED_US_MAX):
        return [min(max(at_us, _OCCURRED_US_MIN), _OCCURRED_US_MAX) for at_us in times_us]
    return times_us


def _metadata(record: UsageRecord) -> str:
    raw = record.metadata
    return "{}" if raw is NO_METADATA else bytes(raw).decode("utf-8", "replace")
