"""Alerts that were raised, and attempts to deliver them, as the API tells of them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec


class AlertForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a window will have used at its end if it goes on as it did since its start."""

    projected: Decimal
    elapsed_s: int
    window_s: int


class RaisedAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert, once: a crossing of one threshold of one limit in one window, or a forecast of it.

    `used` and `limit` are USD for `cost`, else counts. `step` are the thresholds that were crossed
    at once. `threshold` is None for a forecast, `limit` where it was taken away.
    """

    alert_id: str
    event: str
    scope: str
    organization_id: str
    window: str
    window_kind: str
    limit_kind: str
    threshold: Decimal | None = None
    used: Decimal
    limit: Decimal | None = None
    used_share: Decimal | None = None
    step: tuple[Decimal, ...] = ()
    episode: int
    repeat: int
    version: int
    enforcement_mode: str
    daily_spent_usd: Decimal
    daily_budget_usd: Decimal | None = None
    monthly_spent_usd: Decimal
    monthly_budget_usd: Decimal | None = None
    forecast: AlertForecast | None = None
    detected_at: datetime
    test: bool = False


class AlertDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to deliver an alert, or several that were merged, through one channel.

    `code` is the HTTP status or the SMTP reply, None where there was no answer. After `retrying`
    there is another attempt, at `next_attempt_at`; `failed` was the last.
    """

    delivery_id: str
    alert_ids: tuple[str, ...]
    scope: str
    organization_id: str
    event: str
    channel: str
    target: str
    attempt: int
    status: str
    code: int | None = None
    reason: str
    attempted_at: datetime
    duration_ms: int
    next_attempt_at: datetime | None = None
    test: bool = False
