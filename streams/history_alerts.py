"""Rows of alerts, and of attempts to deliver them. Pure: no I/O and no clock."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from streams.history_rows import Columns
from streams.history_told import TIME, WORD, Id, Int32, Int64, Time, ToldBatch, ms_of

ALERTS_TABLE = "alert_rows"
DELIVERIES_TABLE = "alert_delivery_rows"

ALERT_IDS_MAX = 10_000
"""Of how many alerts that were merged the history keeps the ids."""

_Int16 = Annotated[int, msgspec.Meta(ge=0, le=2**15 - 1)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class ToldForecast(msgspec.Struct, frozen=True):
    """What a forecast rests on."""

    projected: str
    elapsed_s: Int64
    window_s: Int64


class ToldAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as the history keeps and tells it.

    Its words may be any: a newer version's may be such that this one does not know.
    """

    alert_id: Id
    event: _Name
    scope: str
    organization_id: str
    window: _Name
    window_kind: _Name
    limit_kind: _Name
    threshold: str | None
    used: str
    limit: str | None
    used_share: str | None
    step: tuple[str, ...] = ()
    episode: Int64 = 0
    repeat: Int64 = 0
    version: Int64
    enforcement_mode: _Name
    daily_spent_usd: str
    daily_budget_usd: str | None
    monthly_spent_usd: str
    monthly_budget_usd: str | None
    forecast: ToldForecast | None = None
    detected_at: Time
    test: bool = False


class _Kept(msgspec.Struct, frozen=True):
    alert: ToldAlert
    text: str


class AlertBatch(ToldBatch[_Kept]):
    """Alerts that wait to be inserted together; each is kept as the JSON that was published."""

    table: ClassVar[str] = ALERTS_TABLE
    decoder = msgspec.json.Decoder(ToldAlert)

    def read(self, value: bytes) -> _Kept:
        """An alert, and its text."""
        return _Kept(self.decoder.decode(value), value.decode())

    def told_columns(self, told: list[_Kept]) -> Columns:
        """What alerts are asked for by, and each as a whole."""
        alerts = [kept.alert for kept in told]
        return [
            ("organization_id", WORD, [alert.organization_id for alert in alerts]),
            ("window", WORD, [alert.window for alert in alerts]),
            ("alert_id", "String", [alert.alert_id for alert in alerts]),
            ("detected_at", TIME, [ms_of(alert.detected_at) for alert in alerts]),
            ("event", WORD, [alert.event for alert in alerts]),
            ("scope", "String", [alert.scope for alert in alerts]),
            ("limit_kind", WORD, [alert.limit_kind for alert in alerts]),
            ("threshold", "String", [alert.threshold or "" for alert in alerts]),
            ("test", "Bool", [alert.test for alert in alerts]),
            ("alert", "String", [kept.text for kept in told]),
        ]


class _Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt as the history keeps it; words that a newer version has are kept, too."""

    delivery_id: Id
    alert_ids: Annotated[tuple[str, ...], msgspec.Meta(max_length=ALERT_IDS_MAX)]
    scope: str
    organization_id: str
    event: _Name
    channel: _Name
    target: str
    attempt: Int32
    status: _Name
    code: _Int16 | None
    reason: str
    attempted_at: Time
    duration_ms: Int64
    next_attempt_at: Time | None = None
    test: bool = False


class DeliveryBatch(ToldBatch[_Delivery]):
    """Attempts to deliver that wait to be inserted together."""

    table: ClassVar[str] = DELIVERIES_TABLE
    decoder = msgspec.json.Decoder(_Delivery)

    def told_columns(self, told: list[_Delivery]) -> Columns:
        """The columns of the attempts; of a time that is not there, 1970."""
        nexts = [each.next_attempt_at for each in told]
        return [
            ("organization_id", WORD, [each.organization_id for each in told]),
            ("attempted_at", TIME, [ms_of(each.attempted_at) for each in told]),
            ("delivery_id", "String", [each.delivery_id for each in told]),
            ("channel", WORD, [each.channel for each in told]),
            ("attempt", "Int32", [each.attempt for each in told]),
            ("alert_ids", "Array(String)", [list(each.alert_ids) for each in told]),
            ("scope", "String", [each.scope for each in told]),
            ("event", WORD, [each.event for each in told]),
            ("target", "String", [each.target for each in told]),
            ("status", WORD, [each.status for each in told]),
            ("code", "Int16", [each.code or 0 for each in told]),
            ("reason", "String", [each.reason for each in told]),
            ("duration_ms", "Int64", [each.duration_ms for each in told]),
            ("next_attempt_at", TIME, [0 if at is None else ms_of(at) for at in nexts]),
            ("test", "Bool", [each.test for each in told]),
        ]
