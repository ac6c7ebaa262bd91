"""Status: how a budget stands in its current period."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from outlay.budget import Amounts, Budget, Rules, amount_of, evaluate
from outlay.governance.amounts import Usd, total_nano, usd_of
from outlay.governance.budget import ExternalAgentBudget
from outlay.governance.config import ExternalAgentBudgetConfig
from outlay.governance.periods import Period
from outlay.governance.rules import budget_of, period_budget_of, share_used
from outlay.governance.scope import BudgetScope
from outlay.governance.usage import PeriodUsage
from outlay.money import to_nano


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """What a period has used, its limits and what remains; a limit of None is no limit.

    `period_start` is the first instant of the period, `period_end` the first after it. Costs are
    in USD; what remains is negative when overspent. `usage_percentage` is a fraction: that of the
    cost's limit, without one the highest of the others, 1.0 for a limit of zero.
    `warning_triggered`: some limit is used to the warning threshold or above; `limit_exceeded`:
    some limit is used up.
    """

    scope: BudgetScope
    period: Period
    period_start: datetime
    period_end: datetime
    tokens_used: int = 0
    tokens_limit: int | None = None
    tokens_remaining: int | None = None
    cost_used: Usd = 0.0
    cost_limit: Usd | None = None
    cost_remaining: Usd | None = None
    invocations: int = 0
    invocations_limit: int | None = None
    invocations_remaining: int | None = None
    warning_triggered: bool = False
    limit_exceeded: bool = False
    usage_percentage: float = 0.0


def status_of(
    scope: BudgetScope,
    bounds: tuple[datetime, datetime],
    budget: ExternalAgentBudget,
    config: ExternalAgentBudgetConfig,
    used: Amounts,
) -> BudgetStatus:
    """How a budget stands in the configured period, which has used this."""
    limits = _limits(budget, config)
    rules = Rules(limits)
    shares = {
        limit.kind: share_used(amount_of(used, limit.kind), limit.limit) for limit in rules.limits
    }
    state = evaluate(rules, used, used).state
    tokens = used.input_tokens + used.output_tokens
    cost_limit = None if limits.monthly_budget_usd is None else to_nano(limits.monthly_budget_usd)
    as_decimal = budget.speaks_decimals
    return BudgetStatus(
        scope,
        config.period,
        *bounds,
        tokens_used=tokens,
        tokens_limit=limits.monthly_token_limit,
        tokens_remaining=_left(limits.monthly_token_limit, tokens),
        cost_used=usd_of(used.cost_nano, as_decimal=as_decimal),
        cost_limit=None if cost_limit is None else usd_of(cost_limit, as_decimal=as_decimal),
        cost_remaining=None
        if cost_limit is None
        else usd_of(cost_limit - used.cost_nano, as_decimal=as_decimal),
        invocations=used.executions,
        invocations_limit=limits.monthly_execution_limit,
        invocations_remaining=_left(limits.monthly_execution_limit, used.executions),
        warning_triggered=state != "ok",
        limit_exceeded=state == "exceeded",
        usage_percentage=shares.get("cost", max(shares.values(), default=0.0)),
    )


def most(counted: Amounts, recorded: PeriodUsage) -> Amounts:
    """What a period has used: of what a budget counts and a store has recorded, the more.

    A budget may have been made with some spent, and a store been told of calls that no enforcer
    counted. Tokens of which nobody knows the kind count as read.
    """
    outputs = max(counted.output_tokens, recorded.output_tokens)
    tokens = max(counted.input_tokens + counted.output_tokens, recorded.tokens)
    return Amounts(
        max(counted.cost_nano, total_nano("cost", recorded.cost)),
        max(counted.executions, recorded.invocations),
        max(tokens - outputs, counted.input_tokens, recorded.input_tokens),
        outputs,
    )


def _limits(budget: ExternalAgentBudget, config: ExternalAgentBudgetConfig) -> Budget:
    """The least of the limits for the configured period, as those of a month."""
    own, further = budget_of(budget, config), period_budget_of(budget, config)
    fields: dict[str, Any] = {}
    for name in ("budget_usd", "execution_limit", "token_limit"):
        limits = [
            getattr(own, f"{config.period}_{name}", None),
            getattr(further, f"monthly_{name}", None),
        ]
        fields[f"monthly_{name}"] = min((each for each in limits if each is not None), default=None)
    return Budget(
        **fields,
        warning_threshold=own.warning_threshold,
        degradation_threshold=own.degradation_threshold,
    )


def _left(limit: int | None, used: int) -> int | None:
    return None if limit is None else limit - used
