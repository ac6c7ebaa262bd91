"""The budgets of the demo: so sized that agents, users and teams pass through all states."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from outlay.budget import Budget
from outlay.demo.workload import Workload
from outlay.money import to_decimal
from outlay.scope import Scope
from outlay.trace import Roster

AGENT_BUDGETS_MAX = 24
REST_BUDGETS_MAX = 6
"""How many of the agents' budgets are set through the REST API; the others through the library."""

USER_BUDGETS_MAX = 8

# Shares of what each scope would spend unblocked. Below 1 its budget runs out before the end.
_ORGANIZATION_SHARE = Decimal("1.00")
_TEAM_SHARES = tuple(map(Decimal, ("0.60", "0.80", "1.05", "3.00")))
_USER_SHARE = Decimal("0.50")
_AGENT_SHARES = tuple(map(Decimal, ("0.40", "0.60", "1.20")))

PROBE_AGENT_ID = "probe"
_PROBE_BUDGET = Budget(monthly_budget_usd=Decimal(1_000_000))


class Plan(NamedTuple):
    """The budgets to set: through the library by scope, and through REST by agent id.

    `alerted` is the scope of the one whose alerts a webhook receives: it crosses all thresholds.
    """

    budgets: dict[Scope, Budget]
    patches: dict[str, dict[str, Any]]
    alerted: Scope

    def scopes(self, organization_id: str) -> list[Scope]:
        """All scopes that get a budget, widest first."""
        patched = [Scope(organization_id, agent_id=agent_id) for agent_id in self.patches]
        return [*self.budgets, *patched]


def plan_budgets(workload: Workload, organization_id: str) -> Plan:
    """Budgets for the organization, its teams, some users and agents, and the probe.

    Users' budgets are soft: they degrade and do not block. All others are hard.
    """
    expected = workload.expected_nano(organization_id)
    roster = workload.roster
    organization = Scope(organization_id)
    budgets = {
        organization: Budget(monthly_budget_usd=_share(expected, organization, _ORGANIZATION_SHARE))
    }
    for number, team in enumerate(_teams(roster)):
        scope = Scope(organization_id, team_id=team)
        share = _TEAM_SHARES[number % len(_TEAM_SHARES)]
        budgets[scope] = Budget(monthly_budget_usd=_share(expected, scope, share))
    alerted = organization
    for user in _users(roster):
        scope = alerted = Scope(organization_id, user_id=user)
        limit = _share(expected, scope, _USER_SHARE)
        budgets[scope] = Budget(daily_budget_usd=limit, enforcement_mode="soft")
    patches: dict[str, dict[str, Any]] = {}
    for number, agent in enumerate(_agents(roster)):
        scope = Scope(organization_id, agent_id=agent)
        limit = _share(expected, scope, _AGENT_SHARES[number % len(_AGENT_SHARES)])
        if number < REST_BUDGETS_MAX:
            patches[agent] = {"daily_budget_usd": str(limit), "enforcement_mode": "hard"}
        else:
            budgets[scope] = Budget(daily_budget_usd=limit)
    budgets[Scope(organization_id, agent_id=PROBE_AGENT_ID)] = _PROBE_BUDGET
    return Plan(budgets, patches, alerted)


def _share(expected: Mapping[str, int], scope: Scope, share: Decimal) -> Decimal:
    """A limit of whole cents, at least one."""
    limit = (to_decimal(expected.get(scope.key, 0)) * share).quantize(Decimal("0.01"))
    return max(limit, Decimal("0.01"))


def _teams(roster: Roster) -> list[str]:
    return [roster.agent(number).team_id for number in range(roster.teams)]


def _users(roster: Roster) -> list[str]:
    """The last ones: their teams' budgets last the longest."""
    first = max(roster.users - USER_BUDGETS_MAX, 0)
    return [roster.agent(number).user_id for number in range(first, roster.users)]


def _agents(roster: Roster) -> list[str]:
    """The first ones: they belong to all teams, and to users without a budget."""
    count = min(roster.agents, AGENT_BUDGETS_MAX)
    return [roster.agent(number).agent_id for number in range(count)]
