"""Budget request: what a request to change a budget leads to. Pure, and the one rule for it."""

from __future__ import annotations

from typing import NamedTuple

from outlay.alert_config import AlertConfig, requested_alerts
from outlay.budget import Budget
from outlay.decision import BudgetRequest


class Held(NamedTuple):
    """What a scope has: a budget, and an alert configuration of its own; None: it has none."""

    budget: Budget | None = None
    alerts: AlertConfig | None = None


def requested(held: Held, version: int, request: BudgetRequest) -> Held:
    """What a scope has after a request.

    Args:
        held: what it has now.
        version: that of the scope's last budget, also when it was taken away since.
        request: what is asked for.

    Raises:
        ValueError: it cannot have that; the text says why, and nothing that is secret.
    """
    current = 0 if held.budget is None else version
    if request.expected_version not in (None, current):
        raise ValueError(f"the budget has version {current}, not {request.expected_version}")
    if request.action in ("put_alerts", "delete_alerts"):
        return held._replace(alerts=_requested_alerts(held, request))
    if request.action == "delete":
        if held.budget is None:
            raise ValueError("there is no budget to delete")
        return Held()
    kept = held.budget if request.action == "patch" else None
    return held._replace(budget=(kept or Budget()).changed(request.changes))


def _requested_alerts(held: Held, request: BudgetRequest) -> AlertConfig | None:
    if held.budget is None:
        raise ValueError("there is no budget: make one first, it needs no limits")
    if request.action == "put_alerts":
        return requested_alerts(request.changes)
    if held.alerts is None:
        raise ValueError("there is no alert configuration to delete")
    return None
