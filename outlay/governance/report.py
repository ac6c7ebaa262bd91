"""Report: an agent's budget by month and day, and its state, in the shape of the REST answer. Pure.

Each field means what it means there, see `GET /external-agents/{id}/governance-status`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from outlay.budget import Amounts, Budget, Rules, amount_of, evaluate
from outlay.governance.amounts import Usd, usd_of
from outlay.money import to_nano
from outlay.scope import Scope
from outlay.standing import KnownBudget
from outlay.window import day_ordinal

_SHARE_DECIMALS = 6


def governance_report(scope: Scope, known: KnownBudget | None, at: datetime) -> dict[str, Any]:
    """The dictionary of the answer, amounts in USD as numbers.

    The stream publishes no totals of an agent without a budget: what it has spent is None then,
    as it is not known here.
    """
    if known is None:
        figures = _figures(Budget(), None, None)
    else:
        figures = _figures(known.decision.budget, *known.decision.used(day_ordinal(at)))
    return {
        "external_agent_id": scope.agent_id,
        "organization_id": scope.organization_id,
        "budget": figures,
        "rate_limit": None,  # these two belong to other systems
        "policy": None,
        "timestamp": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }


def _figures(budget: Budget, day: Amounts | None, month: Amounts | None) -> dict[str, Any]:
    evaluation = evaluate(Rules(budget), day or Amounts(), month or Amounts())
    return {
        "monthly_budget_usd": _usd(budget.monthly_budget_usd),
        "monthly_spent_usd": None if month is None else usd_of(month.cost_nano),
        "remaining_monthly_usd": _usd_left(budget.monthly_budget_usd, month),
        "daily_budget_usd": _usd(budget.daily_budget_usd),
        "daily_spent_usd": None if day is None else usd_of(day.cost_nano),
        "remaining_daily_usd": _usd_left(budget.daily_budget_usd, day),
        "monthly_execution_limit": budget.monthly_execution_limit,
        "monthly_execution_count": None if month is None else month.executions,
        "remaining_executions": (
            None
            if month is None or budget.monthly_execution_limit is None
            else budget.monthly_execution_limit - month.executions
        ),
        "usage_percentage": _used_share(budget, day, month),
        "warning_triggered": evaluation.state != "ok",
        "degraded_mode": evaluation.degraded,
    }


def _used_share(budget: Budget, day: Amounts | None, month: Amounts | None) -> float:
    """The highest used share of any limit, to six decimals; a limit of zero is all used."""
    if day is None or month is None:
        return 0.0
    tightest = evaluate(Rules(budget), day, month).tightest
    if tightest is None:
        return 0.0
    if tightest.limit == 0:
        return 1.0
    used = amount_of(day if tightest.window == "day" else month, tightest.kind)
    return float(round(Fraction(max(used, 0), tightest.limit), _SHARE_DECIMALS))


def _usd(limit: Decimal | None) -> Usd | None:
    return None if limit is None else usd_of(to_nano(limit))


def _usd_left(limit: Decimal | None, used: Amounts | None) -> Usd | None:
    return None if limit is None or used is None else usd_of(to_nano(limit) - used.cost_nano)
