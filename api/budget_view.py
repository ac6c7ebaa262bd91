"""A budget as it is answered: its decision, for the windows of now. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from api.status import Status
from outlay.budget import LIMIT_FIELDS, LIMIT_KINDS, Amounts, Budget, Limit, Rules, amount_of
from outlay.decision import Decision
from outlay.money import to_nano, to_usd
from outlay.scope import Scope
from outlay.window import Window, WindowKind, day_ordinal
from schemas import http_budgets as bodies
from schemas.http_alerts import AlertSource


def budget_body(
    decision: Decision, at: datetime, stale: bool, alerts: AlertSource | None = None
) -> bodies.BudgetBody:
    """The answer about a budget."""
    members = _members(_status(decision, at), decision.version, stale)
    return bodies.BudgetBody(**members, alerts=alerts)


def budget_written(
    decision: Decision, at: datetime, stale: bool, alerts: AlertSource | None = None
) -> bodies.BudgetWritten:
    """The answer to a write: with the limits that are below what is used already."""
    status = _status(decision, at)
    used = {"day": status.day, "month": status.month}
    limits = Rules(status.budget).limits
    warnings = [
        _warning(limit, amount)
        for limit in limits
        if (amount := amount_of(used[limit.window], limit.kind)) > limit.limit
    ]
    members = _members(status, decision.version, stale)
    return bodies.BudgetWritten(**members, alerts=alerts, warnings=warnings)


def _status(decision: Decision, at: datetime) -> Status:
    used = decision.used(day_ordinal(at))
    return Status(Scope.parse(decision.scope), decision.budget, *used, at)


def _members(status: Status, version: int, stale: bool) -> dict[str, Any]:
    scope, limits = status.scope, Rules(status.budget).limits
    return {
        "scope": scope.key,
        "kind": scope.kind,
        "organization_id": scope.organization_id,
        "team_id": scope.team_id,
        "user_id": scope.user_id,
        "agent_id": scope.agent_id,
        "version": version,
        "state": status.evaluation.state,
        "usage_percentage": format(status.used_share, "f"),
        "budget": _fields(status.budget),
        "windows": bodies.BudgetWindows(
            day=_window(Window.day(status.at), status.day, limits),
            month=_window(Window.month(status.at), status.month, limits),
        ),
        "stale": stale,
    }


def _fields(budget: Budget) -> bodies.BudgetFields:
    limits = {name: getattr(budget, name) for name in LIMIT_FIELDS}
    usd = {
        name: to_usd(to_nano(limit))
        for name, limit in limits.items()
        if name.endswith("_usd") and limit is not None
    }
    return bodies.BudgetFields(
        **(limits | usd),
        warning_threshold=format(budget.warning_threshold, "f"),
        degradation_threshold=format(budget.degradation_threshold, "f"),
        enforcement_mode=budget.enforcement_mode,
        on_stale=budget.on_stale,
    )


def _window(window: Window, used: Amounts, limits: tuple[Limit, ...]) -> bodies.BudgetWindow:
    amounts: dict[str, Any] = {kind: amount_of(used, kind) for kind in LIMIT_KINDS}
    left: dict[str, Any] = dict.fromkeys(LIMIT_KINDS)
    for limit in limits:
        if limit.window == window.kind:
            left[limit.kind] = limit.limit - amounts[limit.kind]
    return bodies.BudgetWindow(
        start=window.start,
        end=window.end,
        used=bodies.Used(**_in_usd(amounts)),
        remaining=bodies.Remaining(**_in_usd(left)),
    )


def _in_usd(amounts: dict[str, Any]) -> dict[str, Any]:
    """The same, with the cost in USD."""
    nano = amounts.pop("cost")
    return {"cost_usd": None if nano is None else to_usd(nano), **amounts}


_WORDS: dict[WindowKind, str] = {"day": "daily", "month": "monthly"}


def _warning(limit: Limit, used: int) -> bodies.BudgetWarning:
    if limit.kind == "cost":
        name, numbers = "budget_usd", (to_usd(limit.limit), to_usd(used))
    else:
        name = f"{limit.kind.removesuffix('s')}_limit"
        numbers = (str(limit.limit), str(used))
    field = f"{_WORDS[limit.window]}_{name}"
    message = f"{field} is {numbers[0]}, and the {limit.window} has used {numbers[1]} already"
    return bodies.BudgetWarning(field=field, limit=numbers[0], used=numbers[1], message=message)
