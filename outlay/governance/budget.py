"""Budget: what an external agent may spend, and what it has spent of it so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, get_args

from outlay.budget import Amounts, EnforcementMode, OnStale, threshold
from outlay.governance.amounts import (
    Usd,
    aware,
    count,
    identifier,
    one_of,
    total_nano,
    usd_nano,
    usd_of,
)
from outlay.governance.periods import Period
from outlay.governance.rollover import LastPeriod
from outlay.governance.scope import BudgetScope

DEFAULT_EXECUTIONS_PER_MONTH = 10_000
"""The execution limit of a budget that is made here without one; None takes it away."""

DEFAULT_COST_PER_EXECUTION = 0.05
"""What an execution of a budget's agent costs in USD, unless it is said."""


@dataclass(slots=True)
class ExternalAgentBudget:
    """Limits of one external agent, with what the current day, week and month have used of them.

    Amounts are in USD and may be given as `Decimal`, int, float or decimal string. All amounts of
    one budget are of one kind: floats, unless a `Decimal` was given, or a sum has got so long that
    no float means it; then all are `Decimal`s. A limit of None is no limit, and zero blocks
    whatever would add to it. A threshold of None is that of the enforcer's configuration.

    The fields may be assigned; a value that a budget cannot have is refused then, too. Whether the
    thresholds are in order, by themselves and with the configuration's, is seen when it is checked.

    Attributes:
        metadata: anything; nothing here looks at it.
        on_stale: what a check answers while the numbers of a stream are not there or out of date.
        scope: where the usage counts; `DEFAULT_SCOPE` when None.
        counted_at: a time in the day, week and month that the counts are of. None: the enforcer
            that sees the budget first takes them as those of its present day, week and month.
        weekly_spent_usd, weekly_execution_count, weekly_input_tokens, weekly_output_tokens: what
            counts against the limits of a configuration with weekly periods.
        last_period: what the period before has used, for a configuration that adds what was left
            of a limit to the next; None when there was none.

    Raises:
        ValueError: a value that is not finite, negative, not a whole number where it is a count, an
            empty id, thresholds out of range or out of order, an unknown mode, a time without a
            zone.
        AttributeError: a field that there is not.
    """

    external_agent_id: str
    monthly_budget_usd: Usd | None
    monthly_spent_usd: Usd = 0.0
    daily_budget_usd: Usd | None = None
    daily_spent_usd: Usd = 0.0
    monthly_execution_limit: int | None = DEFAULT_EXECUTIONS_PER_MONTH
    monthly_execution_count: int = 0
    daily_execution_limit: int | None = None
    daily_execution_count: int = 0
    cost_per_execution: Usd = DEFAULT_COST_PER_EXECUTION
    warning_threshold: Usd | None = None
    degradation_threshold: Usd | None = None
    enforcement_mode: EnforcementMode = "hard"
    metadata: dict[str, Any] = field(default_factory=dict)
    daily_token_limit: int | None = None
    monthly_token_limit: int | None = None
    daily_input_token_limit: int | None = None
    monthly_input_token_limit: int | None = None
    daily_output_token_limit: int | None = None
    monthly_output_token_limit: int | None = None
    daily_input_tokens: int = 0
    daily_output_tokens: int = 0
    monthly_input_tokens: int = 0
    monthly_output_tokens: int = 0
    on_stale: OnStale = "allow"
    scope: BudgetScope | None = None
    weekly_spent_usd: Usd = 0.0
    weekly_execution_count: int = 0
    weekly_input_tokens: int = 0
    weekly_output_tokens: int = 0
    counted_at: datetime | None = None
    last_period: LastPeriod | None = None

    def __post_init__(self) -> None:
        low, high = self.warning_threshold, self.degradation_threshold
        if low is None or high is None:
            return
        if threshold("warning_threshold", low) > threshold("degradation_threshold", high):
            raise ValueError("warning_threshold must not be above degradation_threshold")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _USD:
            self._set_usd(name, value)
            return
        check = _CHECKS.get(name)
        if check is not None and not (value is None and name in _OPTIONAL):
            check(name, value)
        object.__setattr__(self, name, value)

    def _set_usd(self, name: str, value: object) -> None:
        if value is None and name in _OPTIONAL:
            object.__setattr__(self, name, None)
            return
        nano = total_nano(name, value) if name.endswith("_spent_usd") else usd_nano(name, value)
        others = {other: getattr(self, other, None) for other in _USD if other != name}
        exact = isinstance(value, Decimal) or any(isinstance(v, Decimal) for v in others.values())
        kept = usd_of(nano, as_decimal=exact)
        object.__setattr__(self, name, kept)
        if isinstance(kept, Decimal):
            for other, amount in others.items():
                if isinstance(amount, float):
                    exactly = usd_of(total_nano(other, amount), as_decimal=True)
                    object.__setattr__(self, other, exactly)

    @property
    def speaks_decimals(self) -> bool:
        """Whether the amounts are `Decimal`s: one was given, or needed."""
        return isinstance(self.monthly_spent_usd, Decimal)

    def used(self, period: Period) -> Amounts:
        """What is counted of the current day, week or month ("daily", "weekly", "monthly")."""
        return Amounts(
            total_nano("spent", getattr(self, f"{period}_spent_usd")),
            getattr(self, f"{period}_execution_count"),
            getattr(self, f"{period}_input_tokens"),
            getattr(self, f"{period}_output_tokens"),
        )

    def set_used(self, period: Period, used: Amounts) -> None:
        """Have the current day, week or month count this.

        Raises:
            ValueError: an amount that is negative, or more than a sum can be.
        """
        spent = usd_of(used.cost_nano, as_decimal=self.speaks_decimals)
        setattr(self, f"{period}_spent_usd", spent)
        setattr(self, f"{period}_execution_count", used.executions)
        setattr(self, f"{period}_input_tokens", used.input_tokens)
        setattr(self, f"{period}_output_tokens", used.output_tokens)


def repr_of(number: Usd) -> str:
    """The text that a number counts by."""
    return str(number) if isinstance(number, Decimal) else repr(number)


def _mode(name: str, value: object) -> str:
    return one_of(name, value, get_args(EnforcementMode))


def _stale(name: str, value: object) -> str:
    return one_of(name, value, get_args(OnStale))


def _of_type(kind: type) -> Callable[[str, object], object]:
    def check(name: str, value: object) -> object:
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be a {kind.__name__}, not {value!r}")
        return value

    return check


_FIELDS = tuple(ExternalAgentBudget.__dataclass_fields__)
_USD = (*(name for name in _FIELDS if name.endswith("_usd")), "cost_per_execution")
_COUNTS = tuple(name for name in _FIELDS if name.endswith(("_limit", "_count", "_tokens")))
COUNTED_FIELDS = (
    *(name for name in _FIELDS if name.endswith(("_spent_usd", "_count", "_tokens"))),
    "last_period",
)
"""What is used of a budget, which enforcers count."""
_OPTIONAL = {name for name in _FIELDS if name.endswith(("_limit", "_budget_usd", "_threshold"))} | {
    "scope",
    "counted_at",
    "last_period",
}
_CHECKS: dict[str, Callable[[str, object], object]] = {
    **dict.fromkeys(_COUNTS, count),
    "external_agent_id": identifier,
    "warning_threshold": threshold,
    "degradation_threshold": threshold,
    "enforcement_mode": _mode,
    "on_stale": _stale,
    "metadata": _of_type(dict),
    "scope": _of_type(BudgetScope),
    "counted_at": aware,
    "last_period": _of_type(LastPeriod),
}
