"""Records, messages and rows that the tests of the history are made of."""

from datetime import UTC, datetime
from typing import Any

from outlay.usage import UsageRecord, encode_usage
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
