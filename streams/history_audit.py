"""Rows of the audit: what an audit message becomes in ClickHouse. Pure: no I/O and no clock."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from streams.history_rows import Columns
from streams.history_told import TIME, WORD, Int32, Int64, Time, ToldBatch, ms_of

TABLE = "audit_rows"

_NONE = msgspec.Raw(b"null")


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """An audit record as the history keeps it.

    Its budgets and alert configurations stay the JSON that they are, and its action any word: a
    newer version's may have fields that this one does not know, and are to be kept.
    """

    request_id: str
    scope: str
    organization_id: str
    action: str
    accepted: bool
    reason: str
    version: Int64
    before: msgspec.Raw
    after: msgspec.Raw
    requested_by: str
    requested_at: Time
    partition: Int32
    offset: Int64
    alerts_before: msgspec.Raw = _NONE
    alerts_after: msgspec.Raw = _NONE


class AuditBatch(ToldBatch[_Told]):
    """Audit records that wait to be inserted together."""

    table: ClassVar[str] = TABLE
    decoder = msgspec.json.Decoder(_Told)

    def told_columns(self, told: list[_Told]) -> Columns:
        """The columns of the records."""
        return [
            ("organization_id", WORD, [record.organization_id for record in told]),
            ("requested_at", TIME, [ms_of(record.requested_at) for record in told]),
            ("request_partition", "Int32", [record.partition for record in told]),
            ("request_offset", "Int64", [record.offset for record in told]),
            ("request_id", "String", [record.request_id for record in told]),
            ("requested_by", "String", [record.requested_by for record in told]),
            ("scope", "String", [record.scope for record in told]),
            ("action", WORD, [record.action for record in told]),
            ("accepted", "Bool", [record.accepted for record in told]),
            ("reason", "String", [record.reason for record in told]),
            ("version", "Int64", [record.version for record in told]),
            ("budget_before", "String", [_json(record.before) for record in told]),
            ("budget_after", "String", [_json(record.after) for record in told]),
            ("alerts_before", "String", [_json(record.alerts_before) for record in told]),
            ("alerts_after", "String", [_json(record.alerts_after) for record in told]),
        ]


def _json(raw: msgspec.Raw) -> str:
    """The JSON of it, empty where there is none."""
    text = bytes(raw).decode("utf-8", "replace")
    return "" if text == "null" else text
