"""Status: a budget and what is used of it, as the answers of three resources. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from outlay.budget import Amounts, Budget, Evaluation, Rules, amount_of, evaluate
from outlay.money import to_nano, to_usd
from outlay.scope import Scope
from outlay.window import Window
from schemas import http

_SIX_DECIMALS = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Status:
    """A scope's budget (one without limits where it has none) and the amounts of day and month."""

    scope: Scope
    budget: Budget
    day: Amounts
    month: Amounts
    at: datetime

    @property
    def evaluation(self) -> Evaluation:
        """What the one rule says of it."""
        return evaluate(Rules(self.budget), self.day, self.month)

    @property
    def used_share(self) -> Decimal:
        """The highest used share of any limit, to six decimals; a limit of zero is all used."""
        tightest = self.evaluation.tightest
        if tightest is None:
            return Decimal(0)
        if tightest.limit == 0:
            return Decimal(1)
        used = amount_of(self.day if tightest.window == "day" else self.month, tightest.kind)
        return (Decimal(max(used, 0)) / tightest.limit).quantize(_SIX_DECIMALS)

    @property
    def period(self) -> Literal["monthly", "daily"]:
        """The month, unless all limits are daily ones."""
        limits = Rules(self.budget).limits
        only_days = limits and all(limit.window == "day" for limit in limits)
        return "daily" if only_days else "monthly"


def budget_status(status: Status) -> http.BudgetStatusBody:
    """The answer of `GET …/budget`."""
    period, budget = status.period, status.budget
    daily = period == "daily"
    window = Window.day(status.at) if daily else Window.month(status.at)
    used = status.day if daily else status.month
    executions = budget.daily_execution_limit if daily else budget.monthly_execution_limit
    tokens = budget.daily_token_limit if daily else budget.monthly_token_limit
    cost_limit = budget.daily_budget_usd if daily else budget.monthly_budget_usd
    state = status.evaluation.state
    tokens_used = amount_of(used, "tokens")
    return http.BudgetStatusBody(
        external_agent_id=status.scope.agent_id or "",
        organization_id=status.scope.organization_id,
        period=period,
        period_start=window.start,
        period_end=window.end,
        cost_used=_usd(used.cost_nano),
        cost_limit=cost_limit,
        cost_remaining=_usd_left(cost_limit, used.cost_nano),
        invocations=used.executions,
        invocations_limit=executions,
        invocations_remaining=_left(executions, used.executions),
        tokens_used=tokens_used,
        tokens_limit=tokens,
        tokens_remaining=_left(tokens, tokens_used),
        usage_percentage=status.used_share,
        warning_triggered=state != "ok",
        limit_exceeded=state == "exceeded",
    )


def governance_status(status: Status) -> http.GovernanceStatus:
    """The answer of `GET …/governance-status`."""
    budget, evaluation = status.budget, status.evaluation
    month, day = status.month.cost_nano, status.day.cost_nano
    return http.GovernanceStatus(
        external_agent_id=status.scope.agent_id or "",
        organization_id=status.scope.organization_id,
        budget=http.GovernanceBudget(
            monthly_budget_usd=budget.monthly_budget_usd,
            monthly_spent_usd=_usd(month),
            remaining_monthly_usd=_usd_left(budget.monthly_budget_usd, month),
            daily_budget_usd=budget.daily_budget_usd,
            daily_spent_usd=_usd(day),
            remaining_daily_usd=_usd_left(budget.daily_budget_usd, day),
            monthly_execution_limit=budget.monthly_execution_limit,
            monthly_execution_count=status.month.executions,
            remaining_executions=_left(budget.monthly_execution_limit, status.month.executions),
            usage_percentage=status.used_share,
            warning_triggered=evaluation.state != "ok",
            degraded_mode=evaluation.degraded,
        ),
        timestamp=status.at,
    )


def config_updated(status: Status) -> http.BudgetConfigUpdated:
    """The answer of `PATCH …/budget/config`."""
    return http.BudgetConfigUpdated(
        message="Budget configuration updated",
        external_agent_id=status.scope.agent_id or "",
        budget_limit_monthly=status.budget.monthly_budget_usd,
        budget_limit_daily=status.budget.daily_budget_usd,
        current_usage=http.CurrentUsage(
            cost_used=_usd(status.month.cost_nano), invocations=status.month.executions
        ),
    )


def _usd(nano: int) -> Decimal:
    return Decimal(to_usd(nano))


def _usd_left(limit: Decimal | None, used_nano: int) -> Decimal | None:
    return None if limit is None else _usd(to_nano(limit) - used_nano)


def _left(limit: int | None, used: int) -> int | None:
    return None if limit is None else limit - used
