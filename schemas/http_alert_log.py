"""HTTP bodies of alerts that were raised, and of what became of their deliveries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

_ALERT_EXAMPLE: dict[str, Any] = {
    "alert_id": "alt_f9cdb824e4fc34c8fcc50751063eb5ee",
    "event": "budget.warning",
    "scope": "organization:acme",
    "organization_id": "acme",
    "window": "2026-11",
    "window_kind": "month",
    "limit_kind": "cost",
    "threshold": "0.75",
    "used": "780.00",
    "limit": "1000.00",
    "used_share": "0.78",
    "step": ["0.5", "0.75"],
    "episode": 0,
    "repeat": 0,
    "version": 3,
    "enforcement_mode": "hard",
    "daily_spent_usd": "41.50",
    "daily_budget_usd": None,
    "monthly_spent_usd": "780.00",
    "monthly_budget_usd": "1000.00",
    "forecast": None,
    "detected_at": "2026-11-21T12:00:00.250Z",
    "test": False,
}

_DELIVERY_EXAMPLE: dict[str, Any] = {
    "delivery_id": "alt_f9cdb824e4fc34c8fcc50751063eb5ee",
    "alert_ids": ["alt_f9cdb824e4fc34c8fcc50751063eb5ee"],
    "scope": "organization:acme",
    "organization_id": "acme",
    "event": "budget.warning",
    "channel": "webhook",
    "target": "https://hooks.example.com/…",
    "attempt": 1,
    "status": "retrying",
    "code": 503,
    "reason": "the endpoint answered 503",
    "attempted_at": "2026-11-21T12:00:01Z",
    "duration_ms": 120,
    "next_attempt_at": "2026-11-21T12:00:06Z",
    "test": False,
}


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


class AlertForecast(_Body):
    """What a window will have used at its end if it goes on as it did since its start."""

    projected: str
    elapsed_s: int
    window_s: int


class AlertEntry(_Body):
    """An alert, once: a crossing of one threshold of one limit in one window, or a forecast of one.

    `used` and `limit` are USD for `cost`, else counts. `step` are the thresholds that were crossed
    at once. `threshold` is null for a forecast, `limit` where it was taken away.
    """

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_ALERT_EXAMPLE]})

    alert_id: str
    event: str
    scope: str
    organization_id: str
    window: str
    window_kind: str
    limit_kind: str
    threshold: str | None
    used: str
    limit: str | None
    used_share: str | None
    step: list[str]
    episode: int
    repeat: int
    version: int
    enforcement_mode: str
    daily_spent_usd: str
    daily_budget_usd: str | None
    monthly_spent_usd: str
    monthly_budget_usd: str | None
    forecast: AlertForecast | None
    detected_at: datetime
    test: bool


class AlertPage(_Body):
    """Alerts, the newest first; `next_cursor` asks for older ones, null when there are none."""

    items: list[AlertEntry]
    next_cursor: str | None


class DeliveryEntry(_Body):
    """An attempt to deliver an alert, or several that were merged, through one channel.

    `delivery_id` is the webhook's id, the same over all attempts. `code` is the HTTP status or the
    SMTP reply, null where there was no answer. After `retrying` there is another attempt, at
    `next_attempt_at`; `failed` was the last.
    """

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_DELIVERY_EXAMPLE]})

    delivery_id: str
    alert_ids: list[str]
    scope: str
    organization_id: str
    event: str
    channel: str
    target: str
    attempt: int
    status: str
    code: int | None
    reason: str
    attempted_at: datetime
    duration_ms: int
    next_attempt_at: datetime | None
    test: bool


class DeliveryPage(_Body):
    """Attempts, the newest first; `next_cursor` asks for older ones, null when there are none."""

    items: list[DeliveryEntry]
    next_cursor: str | None
