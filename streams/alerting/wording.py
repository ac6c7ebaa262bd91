"""Wording: alerts in words, for people who read them in a chat or a mail. Pure."""

from __future__ import annotations

from decimal import Decimal

from outlay.alert import Alert
from streams.alerting.text import shown
from streams.alerting.webhook_body import number

SCOPE_LENGTH_MAX = 300
"""How much of a scope's key is shown, in characters."""

_EVENTS = {
    "budget.threshold": "Budget alert",
    "budget.warning": "Budget warning",
    "budget.degraded": "Budget nearly used up",
    "budget.exceeded": "Budget exceeded",
    "budget.recovered": "Budget recovered",
    "budget.forecast": "Budget forecast",
}
_UNITS = {
    "executions": "executions",
    "tokens": "tokens",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
}


def headline(alert: Alert) -> str:
    """One line: what happened to which scope."""
    mark = "[TEST] " if alert.test else ""
    share = "" if alert.threshold is None else f" at {percent(alert.threshold)}"
    return f"{mark}{_EVENTS[alert.event]}{share}: {shown(alert.scope, SCOPE_LENGTH_MAX)}"


def details(alert: Alert) -> str:
    """One sentence: how much of what was used in which window."""
    kind = "daily" if alert.window_kind == "day" else "monthly"
    limit = "no limit any more" if alert.limit is None else f"of {_amount(alert, alert.limit)}"
    used = f"{_amount(alert, alert.used)} used, {limit}, {kind} window {alert.window}"
    if alert.forecast is None:
        return f"{used}."
    return f"{used}; {_amount(alert, alert.forecast.projected)} are projected for its end."


def percent(share: Decimal) -> str:
    """A share in percent.

    >>> percent(Decimal("0.9"))
    '90 %'
    """
    return f"{number(share * 100)} %"


def _amount(alert: Alert, value: str) -> str:
    if alert.limit_kind == "cost":
        return f"${Decimal(value):,.2f}"
    return f"{Decimal(value):,.0f} {_UNITS[alert.limit_kind]}"
