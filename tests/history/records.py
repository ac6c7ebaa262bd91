"""Records, messages and rows that the tests of the history are made of."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from outlay.budget import Budget
from outlay.usage import UsageRecord, encode_usage
from schemas.messages import AuditRecord
from streams.audit import audit_message
from streams.history_audit import AuditBatch
from streams.history_rows import Message, RowBatch

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
