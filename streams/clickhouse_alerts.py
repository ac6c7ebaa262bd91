"""Queries of alerts, and of the attempts to deliver them: the newest first, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

import msgspec

from streams.clickhouse_log import LogQuery, Place, check_time, ms_from, time_at
from streams.history_alerts import ToldAlert

_decode_alert = msgspec.json.Decoder(ToldAlert).decode


class AlertRow(NamedTuple):
    """An alert as it was published, and where it stands."""

    alert: ToldAlert
    place: Place


@dataclass(frozen=True, slots=True)
class AlertLog(LogQuery):
    """Alerts, the newest first, that were detected from `start` up to and without `end`.

    `behind` is the place of the last one of the page before. Times have a zone.

    Raises:
        ValueError: a time that ClickHouse cannot hold.
    """

    limit: int
    organization_id: str | None = None
    scope: str | None = None
    event: str | None = None
    window: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    behind: Place | None = None

    selected: ClassVar[str] = "alert, toUnixTimestamp64Milli(detected_at), alert_id"
    view: ClassVar[str] = "alerts"
    order: ClassVar[str] = "detected_at DESC, alert_id DESC"
    conditions: ClassVar[dict[str, str]] = {
        "organization_id": "organization_id = {organization_id:String}",
        "scope": "scope = {scope:String}",
        "event": "event = {event:String}",
        "window": "window = {window:String}",
        "start": "detected_at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')",
        "end": "detected_at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')",
        "at": "(detected_at, alert_id) <"
        " (fromUnixTimestamp64Milli({at:Int64}, 'UTC'), {name:String})",
    }

    def __post_init__(self) -> None:
        for at in (self.start, self.end):
            if at is not None:
                check_time(at)

    def given(self) -> dict[str, Any]:
        """All parameters; None where it was not asked for."""
        at_ms, name = self.behind or (None, None)
        return {
            "limit": self.limit,
            "organization_id": self.organization_id,
            "scope": self.scope,
            "event": self.event,
            "window": self.window,
            "start": None if self.start is None else ms_from(self.start),
            "end": None if self.end is None else ms_from(self.end),
            "at": at_ms,
            "name": name,
        }

    def row(self, values: Sequence[Any]) -> AlertRow:
        """One alert."""
        text, at_ms, alert_id = values
        return AlertRow(_decode_alert(text), Place(at_ms, alert_id))


class DeliveryRow(NamedTuple):
    """An attempt; without an answer its `code` is None, and without a next one its time."""

    organization_id: str
    delivery_id: str
    alert_ids: tuple[str, ...]
    scope: str
    event: str
    channel: str
    target: str
    attempt: int
    status: str
    code: int | None
    reason: str
    duration_ms: int
    next_attempt_at: datetime | None
    test: bool
    place: Place

    @property
    def attempted_at(self) -> datetime:
        """When it was made."""
        return time_at(self.place.at_ms)


@dataclass(frozen=True, slots=True)
class DeliveryLog(LogQuery):
    """Attempts, the newest first, that were made from `start` up to and without `end`.

    With `alert_id` those that carried this alert, alone or merged with others. `behind` is the
    place of the last one of the page before. Times have a zone.

    Raises:
        ValueError: a time that ClickHouse cannot hold.
    """

    limit: int
    organization_id: str | None = None
    scope: str | None = None
    status: str | None = None
    channel: str | None = None
    alert_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    behind: Place | None = None

    # A text that sorts as the three do, and is different wherever one of them is.
    _NAME: ClassVar[str] = (
        "concat(delivery_id, '\\n', channel, '\\n', leftPad(toString(attempt), 10, '0'))"
    )
    selected: ClassVar[str] = f"""organization_id, delivery_id, alert_ids, scope, event, channel,
    target, attempt, status, code, reason, duration_ms,
    toUnixTimestamp64Milli(next_attempt_at), test,
    toUnixTimestamp64Milli(attempted_at), {_NAME}"""
    view: ClassVar[str] = "alert_deliveries"
    order: ClassVar[str] = f"attempted_at DESC, {_NAME} DESC"
    conditions: ClassVar[dict[str, str]] = {
        "organization_id": "organization_id = {organization_id:String}",
        "scope": "scope = {scope:String}",
        "status": "status = {status:String}",
        "channel": "channel = {channel:String}",
        "alert_id": "has(alert_ids, {alert_id:String})",
        "start": "attempted_at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')",
        "end": "attempted_at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')",
        "at": "attempted_at <= fromUnixTimestamp64Milli({at:Int64}, 'UTC')",
        "name": f"(attempted_at, {_NAME}) <"
        " (fromUnixTimestamp64Milli({at:Int64}, 'UTC'), {name:String})",
    }

    def __post_init__(self) -> None:
        for at in (self.start, self.end):
            if at is not None:
                check_time(at)

    def given(self) -> dict[str, Any]:
        """All parameters; None where it was not asked for."""
        at_ms, name = self.behind or (None, None)
        return {
            "limit": self.limit,
            "organization_id": self.organization_id,
            "scope": self.scope,
            "status": self.status,
            "channel": self.channel,
            "alert_id": self.alert_id,
            "start": None if self.start is None else ms_from(self.start),
            "end": None if self.end is None else ms_from(self.end),
            "at": at_ms,
            "name": name,
        }

    def row(self, values: Sequence[Any]) -> DeliveryRow:
        """One attempt."""
        told = list(values)
        next_ms = told[12]
        told[2], told[9] = tuple(told[2]), told[9] or None
        told[12] = time_at(next_ms) if next_ms else None
        return DeliveryRow._make([*told[:14], Place(told[14], told[15])])
