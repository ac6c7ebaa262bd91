"""Audit: who changed which budget when, from what to what. Pure.

The owner of a scope decides each request to change its budget once, in the order of their log, so
what it decides at an offset is the same in every replay. Its record is published before, or in
one transaction with, the changelog that says that the request was decided: a replay decides again
and publishes the same once more, or finds it decided, and published then. Whoever reads the topic
as it stands (uncommitted, as all topics here) finds every record, and takes those of one request
offset for one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from outlay.alert_config import AlertConfig
from outlay.budget_request import Held
from outlay.decision import BudgetRequest
from outlay.scope import Scope
from schemas.messages import AuditRecord
from streams.flush import Message

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

REQUESTED_AT_MAX = datetime(2299, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
"""The latest time that ClickHouse can hold; a message without a sensible time stands at an edge."""

_REQUESTED_AT_MS_MAX = (REQUESTED_AT_MAX - _EPOCH) // _MILLISECOND

_encode = msgspec.json.Encoder().encode
decode_audit = msgspec.json.Decoder(AuditRecord).decode


def audit_record(
    request: BudgetRequest,
    *,
    accepted: bool,
    version: int,
    reason: str,
    before: Held,
    after: Held,
    partition: int,
    offset: int,
    timestamp_ms: int,
) -> AuditRecord:
    """The record of a request that was decided; the place and the time are its message's."""
    return AuditRecord(
        request_id=request.request_id,
        scope=request.scope,
        organization_id=Scope.parse(request.scope).organization_id,
        action=request.action,
        accepted=accepted,
        reason=reason,
        version=version,
        before=before.budget,
        after=after.budget,
        requested_by=request.requested_by,
        requested_at=_time(timestamp_ms),
        partition=partition,
        offset=offset,
        alerts_before=_shown(before.alerts),
        alerts_after=_shown(after.alerts),
    )


def audit_message(record: AuditRecord) -> Message:
    """The message that carries a record, keyed by the scope as the request was."""
    return record.scope.encode(), _encode(record)


def _shown(alerts: AlertConfig | None) -> AlertConfig | None:
    """As it may be shown: more people read the audit than may send as the organization."""
    return None if alerts is None else alerts.masked


def _time(timestamp_ms: int) -> datetime:
    return _EPOCH + min(max(timestamp_ms, 0), _REQUESTED_AT_MS_MAX) * _MILLISECOND
