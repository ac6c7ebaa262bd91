"""API bodies: what is posted to the API, and what it comes to when it was accepted."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from bench.api_load import write_lines
from bench.usage import ORGANIZATION, Sample, Sums, Usage, add_sums, team_of, user_of
from outlay import Budget
from outlay.scope import Scope, scope_keys

LIMIT_USD = Decimal(1_000_000)


class UsageBodies:
    """Requests of `pack` records each: one alone, or an array; the same ones again and again.

    The records have no ids, which the API makes, so that each counts.
    """

    def __init__(self, path: Path, usage: Usage, *, count: int, pack: int) -> None:
        self.pack = pack
        self._snapshots: list[Sums] = [{}]
        bodies = []
        for _ in range(count):
            records = [_without_ids(sample) for sample in usage.take(pack)]
            bodies.append(records[0] if pack == 1 else b"[%b]" % b",".join(records))
            self._snapshots.append(usage.sums)
        self.lines = write_lines(path, bodies)

    def add_to(self, sums: Sums, requests: int) -> None:
        """Add to sums what so many requests come to, the first of them with the first body."""
        rounds, more = divmod(requests, len(self._snapshots) - 1)
        whole = self._snapshots[-1]
        add_sums(sums, {key: [rounds * each for each in held] for key, held in whole.items()})
        add_sums(sums, self._snapshots[more])


def _without_ids(sample: Sample) -> bytes:
    fields = msgspec.json.decode(sample.json)
    for name in ("id", "source", "sequence"):
        del fields[name]
    return msgspec.json.encode(fields)


class CheckBodies:
    """A check of each of some agents; the last agent is to be blocked."""

    def __init__(self, path: Path, agents: int) -> None:
        self.agents = agents
        self.bodies: Sequence[bytes] = [
            msgspec.json.encode(
                {
                    "organization_id": ORGANIZATION,
                    "team_id": team_of(agent),
                    "user_id": user_of(agent),
                    "agent_id": agent_id(agent),
                    "estimated_cost_usd": "0.004",
                    "estimated_input_tokens": 1_200,
                    "estimated_output_tokens": 400,
                }
            )
            for agent in range(agents)
        ]
        self.lines = write_lines(path, self.bodies)

    @property
    def budgets(self) -> dict[str, Budget]:
        """A hard budget for each of the five scopes of the agents; the last agent's allows none."""
        budgets = {
            key: Budget(monthly_budget_usd=LIMIT_USD, daily_execution_limit=10**9)
            for agent in range(self.agents)
            for key in scope_keys(ORGANIZATION, team_of(agent), user_of(agent), agent_id(agent))
        }
        blocked = Scope(ORGANIZATION, agent_id=agent_id(self.agents - 1))
        budgets[blocked.key] = Budget(monthly_budget_usd=Decimal(0))
        return budgets

    def allowed(self, requests: int) -> int:
        """How many of so many checks are to be allowed, the first of them of the first agent."""
        return requests - requests // self.agents


def agent_id(agent: int) -> str:
    """What the agent with a number is called."""
    return f"agent-{agent:07d}"
