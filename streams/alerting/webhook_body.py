"""Webhook body: what a webhook is told. Pure: the same alerts make the same bytes.

The first nine fields are those that users of such systems know. Numbers are JSON numbers, written
from decimals and never from floats.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from outlay.alert import Alert
from outlay.scope import Scope
from streams.alerting.cooldown import Message

BODY_BYTES_MAX = 20_000
"""The largest body, in bytes, as Standard Webhooks advises; merged alerts beyond are left out."""

FORECAST_BASIS = "used * window_s / elapsed_s, inside this window alone"

DIGITS_MAX = 60
"""How many digits an amount has at most before the point, and behind it."""

_encode = msgspec.json.Encoder(decimal_format="number").encode


def webhook_body(delivery_id: str, alerts: Message) -> bytes:
    """The JSON object of a message, below `BODY_BYTES_MAX`.

    `merged` are the other alerts that it tells, `merged_omitted` how many more did not fit.
    """
    merged = [_merged(alert) for alert in alerts[1:]]
    fields = webhook_fields(delivery_id, alerts[0])
    for kept in range(len(merged), -1, -1):
        told = {"merged": merged[:kept], "merged_omitted": len(merged) - kept}
        body = _encode(fields | told)
        if len(body) < BODY_BYTES_MAX:
            return body
    raise ValueError("an alert is too large for a webhook")  # not with ids within their bounds


def webhook_fields(delivery_id: str, alert: Alert) -> dict[str, Any]:
    """What is told of the highest alert."""
    scope = Scope.parse(alert.scope)
    return {
        "event": alert.event,
        "external_agent_id": scope.agent_id,
        "organization_id": alert.organization_id,
        "threshold": number(alert.threshold),
        "current_usage_percentage": number(alert.used_share),
        "monthly_spent_usd": number(alert.monthly_spent_usd),
        "monthly_budget_usd": number(alert.monthly_budget_usd),
        "remaining_budget_usd": remaining(alert.monthly_budget_usd, alert.monthly_spent_usd),
        "timestamp": when(alert.detected_at),
        "id": delivery_id,
        "alert_id": alert.alert_id,
        "test": alert.test,
        "scope": alert.scope,
        "team_id": scope.team_id,
        "user_id": scope.user_id,
        "window": alert.window,
        "window_kind": alert.window_kind,
        "limit_kind": alert.limit_kind,
        "used": number(alert.used),
        "limit": number(alert.limit),
        "step": [number(share) for share in alert.step],
        "repeat": alert.repeat,
        "version": alert.version,
        "enforcement_mode": alert.enforcement_mode,
        "daily_spent_usd": number(alert.daily_spent_usd),
        "daily_budget_usd": number(alert.daily_budget_usd),
        "forecast": _forecast(alert),
    }


def _merged(alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id,
        "event": alert.event,
        "threshold": number(alert.threshold),
        "current_usage_percentage": number(alert.used_share),
        "window": alert.window,
        "limit_kind": alert.limit_kind,
        "used": number(alert.used),
        "limit": number(alert.limit),
        "timestamp": when(alert.detected_at),
        "forecast": _forecast(alert),
    }


def _forecast(alert: Alert) -> dict[str, Any] | None:
    if alert.forecast is None:
        return None
    return {
        "projected": number(alert.forecast.projected),
        "elapsed_s": alert.forecast.elapsed_s,
        "window_s": alert.forecast.window_s,
        "basis": FORECAST_BASIS,
    }


def number(value: Decimal | str | None) -> Decimal | None:
    """A decimal without exponent and without zeros at its end; None stays None.

    Raises:
        ValueError, ArithmeticError: it is no amount.

    >>> number("780.00"), number(Decimal("0E-9"))
    (Decimal('780'), Decimal('0'))
    """
    if value is None:
        return None
    given = Decimal(value)
    if not given.is_finite() or abs(given.adjusted()) > DIGITS_MAX:
        raise ValueError(f"not an amount: {value}")
    return Decimal(f"{given.normalize():f}")


def remaining(budget: str | None, spent: str) -> Decimal | None:
    """What is left of a budget, 0 when more was spent; None without one."""
    return None if budget is None else number(max(Decimal(budget) - Decimal(spent), Decimal(0)))


def when(at: datetime) -> str:
    """A time in UTC, as ISO 8601 with Z."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
