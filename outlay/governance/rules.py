"""Rules: budgets of external agents, said in the terms of `outlay.budget`, whose rule decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from outlay.budget import (
    LIMIT_FIELDS,
    LIMIT_MAX,
    STATES,
    Amounts,
    Budget,
    Evaluation,
    Limit,
    Rules,
    State,
    amount_of,
    describe,
    evaluate,
)
from outlay.governance.amounts import exact
from outlay.governance.budget import ExternalAgentBudget
from outlay.governance.config import ExternalAgentBudgetConfig
from outlay.governance.periods import Period
from outlay.governance.rollover import carried
from outlay.money import COST_NANO_MAX, NANO_PER_USD, to_cents, to_decimal, to_nano

_SPLIT_LIMITS = {name: None for name in LIMIT_FIELDS if "_input_" in name or "_output_" in name}


class Finding(NamedTuple):
    """What one set of limits says, and what it said that about.

    `month` names the period that the limits of its "month" are of.
    """

    evaluation: Evaluation
    rules: Rules
    used: tuple[Amounts, Amounts]
    asked: Amounts
    month: Period

    def period_of(self, limit: Limit) -> Period:
        """The period of one of the limits."""
        return "daily" if limit.window == "day" else self.month

    def used_of(self, limit: Limit) -> int:
        """What is used of one of the limits, in its unit."""
        return amount_of(self.used[limit.window == "month"], limit.kind)

    def cost_limit(self, period: Period) -> Limit | None:
        """The limit in USD of a period."""
        for limit in self.rules.limits:
            if limit.kind == "cost" and self.period_of(limit) == period:
                return limit
        return None


def budget_of(budget: ExternalAgentBudget, config: ExternalAgentBudgetConfig) -> Budget:
    """The limits of the day and the month, with what is rolled over, as an `outlay.Budget`.

    Raises:
        ValueError: a threshold of the budget is out of order with one of the configuration.
    """
    limits: dict[str, Any] = {name: getattr(budget, name) for name in LIMIT_FIELDS}
    return Budget(
        **_rolled_over(limits, budget, config),
        warning_threshold=_either(budget.warning_threshold, config.warning_threshold),
        degradation_threshold=_either(budget.degradation_threshold, config.degradation_threshold),
        enforcement_mode=budget.enforcement_mode,
        on_stale=budget.on_stale,
    )


def period_budget_of(
    budget: ExternalAgentBudget, config: ExternalAgentBudgetConfig
) -> Budget | None:
    """The limits of the configuration's own period, as those of a month; None without any."""
    limits: dict[str, Any] = {
        f"{config.period}_budget_usd": config.max_cost_per_period,
        f"{config.period}_execution_limit": config.max_invocations_per_period,
        f"{config.period}_token_limit": config.max_tokens_per_period,
    }
    if all(limit is None for limit in limits.values()):
        return None
    prefix = f"{config.period}_"
    return Budget(
        **{
            f"monthly_{name.removeprefix(prefix)}": limit
            for name, limit in _rolled_over(limits, budget, config).items()
        },
        warning_threshold=exact("warning_threshold", config.warning_threshold),
        degradation_threshold=exact("degradation_threshold", config.degradation_threshold),
        enforcement_mode=config.enforcement_mode,
    )


def _either(own: object, configured: object) -> Any:
    return exact("threshold", configured if own is None else own)


def _rolled_over(
    limits: dict[str, Any], budget: ExternalAgentBudget, config: ExternalAgentBudgetConfig
) -> dict[str, Any]:
    """The limits, those of the configured period with what the last one left."""
    last = budget.last_period
    if not config.rollover_unused or last is None or last.period != config.period:
        return limits
    share_max = exact("max_rollover_percentage", config.max_rollover_percentage)
    raised = dict(limits)
    for name, limit in limits.items():
        if limit is None or not name.startswith(config.period):
            continue
        if name.endswith("_usd"):
            nano = to_nano(limit)
            nano += carried(nano, last.used.cost_nano, share_max)
            raised[name] = to_decimal(min(nano, COST_NANO_MAX))  # what a limit can be at most
        else:
            raised[name] = min(
                limit + carried(limit, _count(name, last.used), share_max), LIMIT_MAX
            )
    return raised


def _count(name: str, used: Amounts) -> int:
    if "execution" in name:
        return used.executions
    counts = 0 if "_output_" in name else used.input_tokens
    return counts + (0 if "_input_" in name else used.output_tokens)


def find(
    budget: ExternalAgentBudget,
    config: ExternalAgentBudgetConfig,
    used: Mapping[Period, Amounts],
    asked: Amounts,
    tokens: int,
) -> list[Finding]:
    """What the limits of the budget, and then those of the configuration, say to a call.

    `tokens` are all that the call asks for: those that are known for input or output, and more.
    """
    own = budget_of(budget, config)
    of_both = Amounts(asked.cost_nano, asked.executions, tokens, 0)
    days = (used["daily"], used["monthly"])
    findings = []
    if tokens != asked.input_tokens + asked.output_tokens:
        # Nobody knows of what kind the others are: they count in the limits of both together.
        findings.append(_finding(own.changed(_SPLIT_LIMITS), days, of_both, "monthly"))
    findings.append(_finding(own, days, asked, "monthly"))
    further = period_budget_of(budget, config)
    if further is not None:
        period = (used[config.period], used[config.period])
        findings.append(_finding(further, period, of_both, config.period))
    return findings


def _finding(
    budget: Budget, used: tuple[Amounts, Amounts], asked: Amounts, month: Period
) -> Finding:
    rules = Rules(budget)
    return Finding(evaluate(rules, *used, asked), rules, used, asked, month)


def strictest_state(findings: list[Finding]) -> State:
    """The state of the limit that is used the most, before the call."""
    return max((finding.evaluation.state for finding in findings), key=STATES.index)


def share_used(used: int, limit: int) -> float:
    """The used share of a limit as a fraction; a limit of zero is used up."""
    return used / limit if limit else 1.0


def exceeded_sentence(finding: Finding) -> str:
    """Which limit a call would pass, with the amounts; empty where it passes none."""
    limit = finding.evaluation.blocked_by
    if limit is None:
        return ""
    sentence = describe(limit, *finding.used, finding.asked)
    return sentence if limit.window == "day" else sentence.replace("monthly", finding.month, 1)


def warning_sentence(finding: Finding) -> str:
    """How far the limit that is used the most is used."""
    limit = finding.evaluation.tightest
    assert limit is not None  # what has no limits never warns
    used, period = finding.used_of(limit), finding.period_of(limit)
    percent = to_cents(100 * NANO_PER_USD * used // limit.limit) if limit.limit else "100.00"
    if limit.kind == "cost":
        amounts = f"${to_cents(used)} of the {period} budget of ${to_cents(limit.limit)}"
    else:
        kind = limit.kind.replace("_", " ")
        amounts = f"{used} {kind} of the {period} limit of {limit.limit}"
    return f"{finding.evaluation.state}: {amounts} used ({percent}%)"
