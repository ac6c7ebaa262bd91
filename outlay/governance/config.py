"""Configuration: periods, prices and thresholds of external agents' budgets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import get_args

from outlay.budget import EnforcementMode, threshold
from outlay.governance.amounts import (
    Usd,
    as_usd,
    aware,
    boolean,
    count,
    exact,
    nearest_nano,
    one_of,
    usd_of,
)
from outlay.governance.periods import Period, period_boundaries, zone_of
from outlay.governance.thresholds import ALERT_THRESHOLDS, ascending
from outlay.money import COST_NANO_MAX

_RATES = ("input_token_rate", "output_token_rate", "base_invocation_cost")


@dataclass(frozen=True, kw_only=True)
class ExternalAgentBudgetConfig:
    """How an enforcer counts, warns and prices; what is given by a budget itself wins.

    Attributes:
        max_tokens_per_period: limits that hold for each budget on top of its own, None for none:
            input and output tokens,
        max_cost_per_period: USD,
        max_invocations_per_period: and invocations of each period.
        period: "daily", "weekly" (from Monday) or "monthly".
        period_start: when some period begins, a datetime with a zone. Its time of day, and for
            weeks its weekday, for months its day (in shorter months the last), anchor all others.
        timezone: the IANA name of the zone whose days, weeks and months count.
        warning_threshold: the used fraction of a limit, in (0, 1], at and above which is warned,
        degradation_threshold: and calls should be made cheaper.
        alert_thresholds: the used fractions that trigger alerts, ascending.
        input_token_rate: USD for an input token,
        output_token_rate: for an output token,
        base_invocation_cost: and for an invocation.
        enforcement_mode: "hard" blocks, "soft" only degrades; for the limits given here. A budget
            has a mode of its own.
        rollover_unused: whether what a period leaves unused of a limit is added to the next one's,
        max_rollover_percentage: up to this fraction of the limit, from 0 to 1.

    Raises:
        ValueError: a value that is not finite, negative or out of range, thresholds out of order,
            an unknown mode, period or time zone, a `period_start` without a zone.
    """

    max_tokens_per_period: int | None = None
    max_cost_per_period: Usd | None = None
    max_invocations_per_period: int | None = None
    period: Period = "monthly"
    period_start: datetime | None = None
    timezone: str = "UTC"
    warning_threshold: Usd = 0.75
    degradation_threshold: Usd = 0.90
    alert_thresholds: list[float] = field(default_factory=lambda: list(ALERT_THRESHOLDS))
    input_token_rate: Usd = 0.00001
    output_token_rate: Usd = 0.00003
    base_invocation_cost: Usd = 0.001
    enforcement_mode: EnforcementMode = "hard"
    rollover_unused: bool = False
    max_rollover_percentage: Usd = 0.25

    def __post_init__(self) -> None:
        for name in ("max_tokens_per_period", "max_invocations_per_period"):
            if getattr(self, name) is not None:
                count(name, getattr(self, name))
        if self.max_cost_per_period is not None:
            usd = as_usd("max_cost_per_period", self.max_cost_per_period)
            object.__setattr__(self, "max_cost_per_period", usd)
        one_of("period", self.period, get_args(Period))
        one_of("enforcement_mode", self.enforcement_mode, get_args(EnforcementMode))
        zone_of(self.timezone)
        if self.period_start is not None:
            aware("period_start", self.period_start)
        low = threshold("warning_threshold", self.warning_threshold)
        if low > threshold("degradation_threshold", self.degradation_threshold):
            raise ValueError("warning_threshold must not be above degradation_threshold")
        shares = ascending("alert_thresholds", self.alert_thresholds)
        object.__setattr__(self, "alert_thresholds", shares)
        for name in _RATES:
            exact(name, getattr(self, name))
        boolean("rollover_unused", self.rollover_unused)
        if exact("max_rollover_percentage", self.max_rollover_percentage) > 1:
            raise ValueError("max_rollover_percentage must be at most 1")

    @property
    def zone(self) -> tzinfo:
        """The time zone that `timezone` names."""
        return zone_of(self.timezone)

    def calculate_cost(
        self, input_tokens: int = 0, output_tokens: int = 0, invocations: int = 1
    ) -> Usd:
        """The cost in USD at the configured rates: multiplied exactly, rounded once.

            >>> ExternalAgentBudgetConfig().calculate_cost(input_tokens=1000, output_tokens=500)
            0.026

        Raises:
            ValueError: a count that is negative or no whole number, a cost of a billion or more.
        """
        nano = nearest_nano(
            count("input_tokens", input_tokens) * self._rate("input_token_rate")
            + count("output_tokens", output_tokens) * self._rate("output_token_rate")
            + count("invocations", invocations) * self._rate("base_invocation_cost")
        )
        if nano > COST_NANO_MAX:
            raise ValueError("the cost must be below 1,000,000,000")
        as_decimal = any(isinstance(getattr(self, name), Decimal) for name in _RATES)
        return usd_of(nano, as_decimal=as_decimal)

    def _rate(self, name: str) -> Fraction:
        return Fraction(exact(name, getattr(self, name)))

    def is_warning_threshold_reached(self, usage: Usd) -> bool:
        """Whether a used fraction (0.5 is half) is at or above the warning threshold.

        Raises:
            ValueError: it is negative or not finite.
        """
        return exact("usage", usage) >= exact("warning_threshold", self.warning_threshold)

    def is_degradation_threshold_reached(self, usage: Usd) -> bool:
        """Whether a used fraction is at or above the degradation threshold.

        Raises:
            ValueError: it is negative or not finite.
        """
        return exact("usage", usage) >= exact("degradation_threshold", self.degradation_threshold)

    def get_triggered_alerts(self, usage: Usd) -> list[float]:
        """The alert thresholds that a used fraction is at or above.

            >>> ExternalAgentBudgetConfig().get_triggered_alerts(0.85)
            [0.5, 0.75]

        Raises:
            ValueError: it is negative or not finite.
        """
        used = exact("usage", usage)
        return [share for share in self.alert_thresholds if used >= exact("threshold", share)]

    def get_period_boundaries(self, now: datetime | None = None) -> tuple[datetime, datetime]:
        """The start of the period that a time falls in (the present one, without `now`) and the
        first instant after it, both in the configured time zone.

        Raises:
            ValueError: `now` has no zone.
        """
        return self.boundaries_of(self.period, datetime.now(UTC) if now is None else now)

    def boundaries_of(self, period: Period, now: datetime) -> tuple[datetime, datetime]:
        """The same of a day, a week or a month; `period_start` anchors only `period`.

        Raises:
            ValueError: `now` has no zone.
        """
        anchor = self.period_start if period == self.period else None
        return period_boundaries(period, now, self.zone, anchor)
