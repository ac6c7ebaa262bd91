"""Trying: an alert that says only that alerts arrive.

It is published to the alerts topic like any other, so that it takes their way, and is marked. It
waits for no cooldown and begins none.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from outlay.alert import Alert, alert_id, encode_alert
from outlay.budget import Budget
from outlay.scope import Scope
from outlay.topics import partition_of
from outlay.window import Window


def build_test_alert(
    scope: Scope, *, request_id: str, now: datetime, budget: Budget | None = None, version: int = 0
) -> Alert:
    """A test alert of a scope: `budget.threshold`, half of the month's limit, `test` true.

    Args:
        scope: whose alert configuration is tried.
        request_id: makes its id: the same request is told once.
        now: an aware datetime.
        budget: that of the scope; its monthly limit is shown, 100 USD without one.
        version: that of the budget.
    """
    daily, monthly = (
        (None, None) if budget is None else (budget.daily_budget_usd, budget.monthly_budget_usd)
    )
    limit = Decimal(100) if monthly is None else monthly
    used = limit / 2
    return Alert(
        alert_id=alert_id("test", scope.key, request_id),
        event="budget.threshold",
        scope=scope.key,
        organization_id=scope.organization_id,
        window=Window.month(now).name,
        window_kind="month",
        limit_kind="cost",
        threshold=Decimal("0.5"),
        used=f"{used:f}",
        limit=f"{limit:f}",
        used_share="0.500000",
        step=(Decimal("0.5"),),
        version=version,
        enforcement_mode="hard" if budget is None else budget.enforcement_mode,
        daily_spent_usd="0",
        daily_budget_usd=None if daily is None else f"{daily:f}",
        monthly_spent_usd=f"{used:f}",
        monthly_budget_usd=f"{limit:f}",
        detected_at=now,
        test=True,
    )


def alert_message(alert: Alert, partitions: int) -> tuple[bytes, bytes, int]:
    """Key, value and partition of an alert on a topic of so many partitions."""
    key = alert.scope.encode()
    return key, encode_alert(alert), partition_of(key, partitions)
