"""External agents: their budgets by the agent's id, `client.agents`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from outlay.client.addresses import agent_segment
from outlay.client.amounts import encode, fields_of, usd
from outlay.client.calls import Ask, reading
from outlay.client.checks import BLOCKED, CHECK_PATIENCE_S, CheckAnswer
from outlay.client.operations import R, Resource, operation
from outlay.client.writes import idempotency
from outlay.money import Money

_PATH = "/api/v1/external-agents/{external_agent_id}"


class AgentBudget(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's budget in its period: the month, or the day where only daily limits are set.

    Amounts are USD; what remains may be negative. `usage_percentage` is the highest used share of
    any limit, as a fraction.
    """

    external_agent_id: str
    organization_id: str
    period: str
    period_start: datetime
    period_end: datetime
    cost_used: Decimal
    cost_limit: Decimal | None = None
    cost_remaining: Decimal | None = None
    invocations: int
    invocations_limit: int | None = None
    invocations_remaining: int | None = None
    tokens_used: int
    tokens_limit: int | None = None
    tokens_remaining: int | None = None
    usage_percentage: Decimal
    warning_triggered: bool
    limit_exceeded: bool


class CurrentUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What the month has used so far."""

    cost_used: Decimal
    invocations: int


class ConfiguredBudget(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's budget after a change."""

    message: str = ""
    external_agent_id: str
    budget_limit_monthly: Decimal | None = None
    budget_limit_daily: Decimal | None = None
    current_usage: CurrentUsage


class GovernanceBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A budget with its month and its day; limits that are not set are None."""

    monthly_budget_usd: Decimal | None = None
    monthly_spent_usd: Decimal
    remaining_monthly_usd: Decimal | None = None
    daily_budget_usd: Decimal | None = None
    daily_spent_usd: Decimal
    remaining_daily_usd: Decimal | None = None
    monthly_execution_limit: int | None = None
    monthly_execution_count: int
    remaining_executions: int | None = None
    usage_percentage: Decimal
    warning_triggered: bool
    degraded_mode: bool


class GovernanceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What governs an agent."""

    external_agent_id: str
    organization_id: str
    budget: GovernanceBudget
    timestamp: datetime


class Agents(Resource[R]):
    """Budgets of agents; without `organization_id`, of the key's organization."""

    @operation("GET", f"{_PATH}/budget")
    def budget(self, agent_id: str, *, organization_id: str | None = None) -> Ask[AgentBudget]:
        """An agent's budget and what is used of it. Without a budget: its usage, and no limits."""
        return Ask(read=reading(AgentBudget), **_about(agent_id, organization_id))

    @operation("GET", f"{_PATH}/governance-status")
    def governance_status(
        self, agent_id: str, *, organization_id: str | None = None
    ) -> Ask[GovernanceStatus]:
        """An agent's budget by month and day, and its state."""
        return Ask(read=reading(GovernanceStatus), **_about(agent_id, organization_id))

    @operation("PATCH", f"{_PATH}/budget/config")
    def configure(
        self,
        agent_id: str,
        changes: Mapping[str, Any],
        *,
        organization_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Ask[ConfiguredBudget]:
        """Change fields of an agent's budget, or make one; a limit of None is taken away.

        `budgets.patch` does the same, and can expect a version.
        """
        return Ask(
            read=reading(ConfiguredBudget),
            headers=idempotency(idempotency_key),
            content=encode(fields_of(changes)),
            **_about(agent_id, organization_id),
        )

    @operation("POST", f"{_PATH}/check")
    def check(
        self,
        agent_id: str,
        *,
        organization_id: str | None = None,
        team_id: str | None = None,
        user_id: str | None = None,
        estimated_cost_usd: Money | None = None,
        estimated_input_tokens: int = 0,
        estimated_output_tokens: int = 0,
        executions: int = 1,
    ) -> Ask[CheckAnswer]:
        """What the budgets say to a call of an agent, also where that is no.

        A budget that blocks while the decisions feed is silent raises `Unavailable`.
        """
        body = {
            "team_id": team_id,
            "user_id": user_id,
            "estimated_cost_usd": usd(estimated_cost_usd),
            "estimated_input_tokens": estimated_input_tokens,
            "estimated_output_tokens": estimated_output_tokens,
            "executions": executions,
        }
        return Ask(
            read=_read_check,
            content=encode(body),
            read_kinds=BLOCKED,
            patience_s=CHECK_PATIENCE_S,
            **_about(agent_id, organization_id),
        )


_read_check = reading(CheckAnswer)


def _about(agent_id: str, organization_id: str | None) -> dict[str, Any]:
    return {
        "path": {"external_agent_id": agent_segment(agent_id)},
        "query": {"organization_id": organization_id},
    }
