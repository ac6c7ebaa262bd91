"""The history's lanes: which topics go into ClickHouse, and as what rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from outlay.topics import TopicNames
from schemas.settings import Settings
from streams.history_alerts import AlertBatch, DeliveryBatch
from streams.history_audit import AuditBatch
from streams.history_metrics import Lane
from streams.history_rows import RowBatch, Rows
from streams.history_source import Source


class HistoryLane(NamedTuple):
    """A topic on its way into the history; `name` is what its metrics are called after.

    Each is read in a consumer group of its own, so that none waits for another's rebalance.
    """

    name: Lane
    topic: Callable[[TopicNames], str]
    group: str
    new_batch: Callable[[], Rows]

    def source(self, settings: Settings) -> Source:
        """Where it reads."""
        group_id = f"{settings.app_id}-{self.group}"
        return Source(settings, self.topic(settings.topics), group_id)


LANES: tuple[HistoryLane, ...] = (
    HistoryLane("history", lambda names: names.usage, "history", RowBatch),
    HistoryLane("audit", lambda names: names.audit, "history-audit", AuditBatch),
    HistoryLane("alerts", lambda names: names.alerts, "history-alerts", AlertBatch),
    HistoryLane(
        "deliveries", lambda names: names.alert_deliveries, "history-deliveries", DeliveryBatch
    ),
)
