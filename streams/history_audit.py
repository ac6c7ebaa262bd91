"""Rows of the audit: what an audit message becomes in ClickHouse. Pure: no I/O and no clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar

import msgspec

from streams.history_rows import OCCURRED_AT_MAX, OCCURRED_AT_MIN, Columns, Message

TABLE = "audit_rows"

_WORD = "LowCardinality(String)"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

_Int32 = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_Int64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """An audit record as the history keeps it.

    Its budgets stay the JSON that they are, and its action any word: a newer version's may have
    fields that this one does not know, and are to be kept.
    """

    request_id: str
    scope: str
    organization_id: str
    action: str
    accepted: bool
    reason: str
    version: _Int64
    before: msgspec.Raw
    after: msgspec.Raw
    requested_by: str
    requested_at: _Time
    partition: _Int32
    offset: _Int64


_decode = msgspec.json.Decoder(_Told).decode


class AuditBatch:
    """Audit records that wait to be inserted together; `rejected` counts messages that are none."""

    table: ClassVar[str] = TABLE
    late = 0

    def __init__(self) -> None:
        self._records: list[_Told] = []
        self._places: list[tuple[int, int]] = []
        self.rejected = 0

    def __len__(self) -> int:
        return len(self._records)

    def add(self, message: Message) -> None:
        """Take up a record. Never raises on what the message holds."""
        try:
            record = _decode(message.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.rejected += 1
            return
        self._records.append(record)
        self._places.append((message.partition, message.offset))

    def columns(self, ingested_at_ms: int) -> Columns:
        """The columns to insert: name, type and values. Times are integers, in milliseconds."""
        records = self._records
        return [
            ("organization_id", _WORD, [record.organization_id for record in records]),
            ("requested_at", "DateTime64(3, 'UTC')", [_ms(r.requested_at) for r in records]),
            ("request_partition", "Int32", [record.partition for record in records]),
            ("request_offset", "Int64", [record.offset for record in records]),
            ("request_id", "String", [record.request_id for record in records]),
            ("requested_by", "String", [record.requested_by for record in records]),
            ("scope", "String", [record.scope for record in records]),
            ("action", _WORD, [record.action for record in records]),
            ("accepted", "Bool", [record.accepted for record in records]),
            ("reason", "String", [record.reason for record in records]),
            ("version", "Int64", [record.version for record in records]),
            ("budget_before", "String", [_budget(record.before) for record in records]),
            ("budget_after", "String", [_budget(record.after) for record in records]),
            ("kafka_partition", "Int32", [partition for partition, _ in self._places]),
            ("kafka_offset", "Int64", [offset for _, offset in self._places]),
            ("ingested_at", "DateTime64(3, 'UTC')", [ingested_at_ms] * len(records)),
        ]


def _ms(at: datetime) -> int:
    """Milliseconds since 1970; at the nearer end where ClickHouse has no such time."""
    return (min(max(at, OCCURRED_AT_MIN), OCCURRED_AT_MAX) - _EPOCH) // _MILLISECOND


def _budget(raw: msgspec.Raw) -> str:
    """The budget's JSON, empty where there is none."""
    text = bytes(raw).decode("utf-8", "replace")
    return "" if text == "null" else text
