"""Ports: whom a training reports to and asks, as little of them as it needs."""

from __future__ import annotations

from typing import Protocol, Unpack

from outlay.emitter import UsageFields
from outlay.money import Money


class Emitter(Protocol):
    """Who takes a training's usage, without waiting: an `outlay.UsageEmitter`."""

    def emit(self, **fields: Unpack[UsageFields]) -> bool:
        """Take a record of these fields (see `UsageRecord.new`); whether it was taken."""
        ...


class Answer(Protocol):
    """What a gateway says to a step."""

    @property
    def allowed(self) -> bool:
        """Whether it may be taken."""
        ...

    @property
    def reason(self) -> str:
        """Why not."""
        ...


class Gateway(Protocol):
    """Who is asked before a step, without waiting: an `outlay.BudgetGateway`."""

    def check(
        self,
        *,
        organization_id: str,
        agent_id: str | None = None,
        team_id: str | None = None,
        user_id: str | None = None,
        estimated_cost_usd: Money | None = None,
        estimated_input_tokens: int = 0,
        estimated_output_tokens: int = 0,
        executions: int = 1,
    ) -> Answer:
        """What the budgets of all scopes that the step counts in say to it."""
        ...
