"""Records, messages and rows that the tests of the history are made of."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from outlay.alert import Alert, alert_id, encode_alert
from outlay.budget import Budget
from outlay.usage import UsageRecord, encode_usage
from schemas.messages import AlertDelivery, AuditRecord
from streams.audit import audit_message
from streams.history_audit import AuditBatch
from streams.history_rows import Message, RowBatch, Rows

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def usage(**fields: Any) -> UsageRecord:
    """A record of NOW by agent a1 of acme for a dollar, unless told otherwise."""
    given = {"organization_id": "acme", "agent_id": "a1", "cost_usd": "1", "occurred_at": NOW}
    return UsageRecord.new(**given | fields)


def message(*records: UsageRecord, offset: int = 0, partition: int = 0) -> Message:
    """A usage message of NOW."""
    timestamp_ms = int(NOW.timestamp() * 1000)
    return Message(partition, offset, timestamp_ms, encode_usage(list(records)))


def batch_of(*messages: Message) -> RowBatch:
    """The rows of messages."""
    batch = RowBatch()
    for each in messages:
        batch.add(each)
    return batch


def columns_of(*messages: Message) -> list[tuple[str, str, Any]]:
    """The columns of messages, ready to insert."""
    return batch_of(*messages).columns(ingested_at_ms=0)


def audit_record(**fields: Any) -> AuditRecord:
    """The record of a budget of five dollars made by ann at NOW, unless told otherwise."""
    organization_id = fields.get("organization_id", "acme")
    given = {
        "request_id": f"r{fields.get('offset', 0)}",
        "scope": f"organization:{organization_id}",
        "organization_id": organization_id,
        "action": "patch",
        "accepted": True,
        "reason": "",
        "version": 1,
        "before": None,
        "after": Budget(monthly_budget_usd=Decimal(5)),
        "requested_by": "ann",
        "requested_at": NOW,
        "partition": 0,
        "offset": 0,
    }
    return AuditRecord(**given | fields)


def audit_told(record: AuditRecord, offset: int = 0, partition: int = 0) -> Message:
    """The message of the audit topic that carries a record; the place is its own there."""
    return Message(partition, offset, 0, audit_message(record)[1])


def audit_batch(*messages: Message) -> AuditBatch:
    """The rows of messages of the audit topic."""
    batch = AuditBatch()
    for each in messages:
        batch.add(each)
    return batch


def alert(**fields: Any) -> Alert:
    """An alert of NOW: half of acme's ten dollars of November are used, unless told otherwise."""
    organization_id = fields.get("organization_id", "acme")
    given = {
        "alert_id": alert_id("test", organization_id, fields.get("window", "2026-11")),
        "event": "budget.threshold",
        "scope": f"organization:{organization_id}",
        "organization_id": organization_id,
        "window": "2026-11",
        "window_kind": "month",
        "limit_kind": "cost",
        "threshold": Decimal("0.5"),
        "used": "5.00",
        "limit": "10.00",
        "used_share": "0.5",
        "step": (Decimal("0.5"),),
        "version": 1,
        "enforcement_mode": "hard",
        "daily_spent_usd": "5.00",
        "daily_budget_usd": None,
        "monthly_spent_usd": "5.00",
        "monthly_budget_usd": "10.00",
        "detected_at": NOW,
    }
    return Alert(**given | fields)


def alert_told(told: Alert, offset: int = 0, partition: int = 0) -> Message:
    """The message of the alerts topic that carries an alert."""
    return Message(partition, offset, 0, encode_alert(told))


def delivery(**fields: Any) -> AlertDelivery:
    """The attempt of NOW that gave an alert of acme to a webhook, unless told otherwise."""
    organization_id = fields.get("organization_id", "acme")
    given = {
        "delivery_id": "alt_1",
        "alert_ids": (fields.get("delivery_id", "alt_1"),),
        "scope": f"organization:{organization_id}",
        "organization_id": organization_id,
        "event": "budget.threshold",
        "channel": "webhook",
        "target": "https://hooks.example",
        "attempt": 1,
        "status": "delivered",
        "code": 204,
        "reason": "",
        "attempted_at": NOW,
        "duration_ms": 12,
    }
    return AlertDelivery(**given | fields)


def delivery_told(told: AlertDelivery, offset: int = 0, partition: int = 0) -> Message:
    """The message of the deliveries topic that carries an attempt."""
    return Message(partition, offset, 0, msgspec.json.encode(told))


B = TypeVar("B", bound=Rows)


def filled(batch: B, *messages: Message) -> B:
    """A batch with messages taken up."""
    for each in messages:
        batch.add(each)
    return batch
