"""Usage: what one invocation has used, and what all of a period have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from outlay.governance.amounts import Usd, as_usd, aware, count, identifier
from outlay.governance.scope import BudgetScope, check_place


@dataclass(frozen=True, slots=True)
class BudgetUsageRecord:
    """What one invocation of an agent has used.

    Attributes:
        invocation_id: names the invocation.
        agent_id: the agent.
        scope: where it counts.
        tokens_used: input and output tokens together; their sum, when it is left at 0.
        cost: in USD.
        success: whether the invocation did what it was for; its cost counts either way.
        timestamp: when it was; now, when not given.
        metadata: anything; a copy of the outermost level is kept.
        input_tokens: the tokens read, where that is known.
        output_tokens: the tokens written, where that is known.
        provider: whose model it was.
        model: which.

    Raises:
        ValueError: an empty id, an amount that is negative or not finite, `tokens_used` below the
            input and output tokens, a timestamp without a zone.
    """

    invocation_id: str
    agent_id: str
    scope: BudgetScope
    tokens_used: int = 0
    cost: Usd = 0.0
    success: bool = True
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))
    metadata: dict[str, Any] = field(default_factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0
    provider: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        identifier("invocation_id", self.invocation_id)
        check_place(self.agent_id, self.scope)
        for name in ("tokens_used", "input_tokens", "output_tokens"):
            count(name, getattr(self, name))
        known = self.input_tokens + self.output_tokens
        if self.tokens_used and self.tokens_used < known:
            raise ValueError("tokens_used cannot be less than the input and output tokens")
        if not isinstance(self.success, bool):
            raise ValueError(f"success must be True or False, not {self.success!r}")
        aware("timestamp", self.timestamp)
        if not isinstance(self.metadata, Mapping):
            raise ValueError(f"metadata must be a mapping, not {self.metadata!r}")
        for name in ("provider", "model"):
            if getattr(self, name) is not None:
                identifier(name, getattr(self, name))
        # Frozen for its users, made canonical before they see it.
        object.__setattr__(self, "tokens_used", self.tokens_used or known)
        object.__setattr__(self, "cost", as_usd("cost", self.cost))
        object.__setattr__(self, "metadata", dict(self.metadata))


@dataclass(frozen=True, slots=True)
class PeriodUsage:
    """What the invocations of an agent in one scope have used between two times.

    `cost` is in USD, exact, a `Decimal` where one of the costs is; `tokens` is input and output
    together, also of invocations that did not say which; `failures` of the invocations did not
    succeed, None where that is not counted.
    """

    cost: Usd = 0.0
    tokens: int = 0
    invocations: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    failures: int | None = 0
