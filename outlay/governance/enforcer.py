"""Enforcer: checks the budget of an external agent before a call, and counts the call after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import uuid_utils

from outlay.budget import Amounts
from outlay.governance import counting
from outlay.governance.amounts import aware, count, usd_nano, usd_of
from outlay.governance.budget import ExternalAgentBudget
from outlay.governance.config import ExternalAgentBudgetConfig
from outlay.governance.results import BudgetCheckResult, result_of
from outlay.governance.rules import find
from outlay.governance.scope import DEFAULT_SCOPE, BudgetScope, check_place
from outlay.governance.status import BudgetStatus, most, status_of
from outlay.governance.store import BudgetStore, ChecksConfig
from outlay.governance.usage import BudgetUsageRecord
from outlay.money import Money


class ExternalAgentBudgetEnforcer:
    """Checks and counts on budgets that are given to it, by the one rule of `outlay.budget`.

    The budget itself holds the counts of the current day, week and month; they start at zero when
    the enforcer's clock has come to another one, in the time zone of its configuration. The counts
    of a budget that no enforcer has seen yet are taken as those of the present ones. One budget
    may be counted on by several enforcers of the same configuration, in any thread or event loop:
    no call is lost.

    Args:
        config: periods, thresholds and further limits; `ExternalAgentBudgetConfig()` by default.
        store: where usage is recorded and budgets are looked up; without one neither is done, and
            the counts are on the budgets alone.
        clock: the time, with a zone.

    Raises:
        ValueError: the store does not keep what the configuration asks for: that of the stream no
            weeks, no zones but UTC, and no rollover.
    """

    def __init__(
        self,
        config: ExternalAgentBudgetConfig | None = None,
        store: BudgetStore | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if config is not None and not isinstance(config, ExternalAgentBudgetConfig):
            raise ValueError(f"config must be an ExternalAgentBudgetConfig, not {config!r}")
        self.config = ExternalAgentBudgetConfig() if config is None else config
        if isinstance(store, ChecksConfig):
            store.check_config(self.config)
        self.store = store
        self._clock = clock
        self._calendar = counting.Calendar(self.config)

    async def check_budget(
        self,
        budget: ExternalAgentBudget,
        estimated_cost: Money,
        estimated_tokens: int = 0,
        *,
        estimated_input_tokens: int = 0,
        estimated_output_tokens: int = 0,
    ) -> BudgetCheckResult:
        """What the budget says to a call of this cost; a call that lands on a limit is allowed.

        The limits are looked at in this order: the month's cost, the day's, the month's
        executions, the day's, then tokens; those of the configuration come last.

        Args:
            budget: the budget.
            estimated_cost: what the call may cost, in USD.
            estimated_tokens: what it may use, input and output together.
            estimated_input_tokens: what is known of it to be input,
            estimated_output_tokens: and output. `estimated_tokens` counts where it is more than
                both together, and then in the limits of both together only.

        Raises:
            ValueError: an estimate that is negative or not finite, or thresholds of the budget
                that are out of order with the configuration's.
        """
        _check_budget_type(budget)
        inputs = count("estimated_input_tokens", estimated_input_tokens)
        outputs = count("estimated_output_tokens", estimated_output_tokens)
        tokens = max(count("estimated_tokens", estimated_tokens), inputs + outputs)
        asked = Amounts(usd_nano("estimated_cost", estimated_cost), 1, inputs, outputs)
        used = counting.used_at(budget, self._calendar, self._now())
        findings = find(budget, self.config, used, asked, tokens)
        return result_of(findings, as_decimal=budget.speaks_decimals)

    async def record_usage(
        self,
        budget: ExternalAgentBudget,
        actual_cost: Money,
        execution_success: bool,
        metadata: Mapping[str, Any] | None = None,
        invocation_id: str | None = None,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        provider: str | None = None,
        model: str | None = None,
    ) -> ExternalAgentBudget:
        """Count a call, whether it has succeeded or not, on the budget; then record it.

        The budget is counted on first: an error of the store comes through as it is, and the count
        stays. To give the call again after it would count it twice.

        Args:
            budget: the budget; it is changed.
            actual_cost: what the call has cost, in USD.
            execution_success: whether it has succeeded.
            metadata: kept with the record in the store.
            invocation_id: names the call; a new UUID by default.
            input_tokens: the tokens read.
            output_tokens: the tokens written.
            provider: whose model it was.
            model: which.

        Returns:
            The same budget.

        Raises:
            ValueError: an amount that is negative or not finite, an empty id; nothing is counted.
        """
        _check_budget_type(budget)
        cost_nano = usd_nano("actual_cost", actual_cost)
        now = self._now()
        record = BudgetUsageRecord(
            invocation_id=str(uuid_utils.uuid7()) if invocation_id is None else invocation_id,
            agent_id=budget.external_agent_id,
            scope=budget.scope or DEFAULT_SCOPE,
            cost=usd_of(cost_nano, as_decimal=budget.speaks_decimals),
            success=execution_success,
            timestamp=now,
            metadata={} if metadata is None else metadata,  # type: ignore[arg-type] # it copies
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            provider=provider,
            model=model,
        )
        more = Amounts(cost_nano, 1, record.input_tokens, record.output_tokens)
        counting.add(budget, self._calendar, now, more)
        if self.store is not None:
            await self.store.record_usage(record)
        return budget

    async def get_budget_status(self, agent_id: str, scope: BudgetScope) -> BudgetStatus:
        """How a stored budget stands in the configured period; without one, an empty month.

        What is used is what the store has recorded in the period or what the budget counts,
        whichever is more. A limit is the least of the configuration's and the budget's for such a
        period. (A budget has limits for days and months; weekly ones are the configuration's.)

        Raises:
            ValueError: an empty id, or what is no scope.
        """
        check_place(agent_id, scope)
        now = self._now()
        budget = None if self.store is None else await self.store.get_budget(agent_id, scope)
        if self.store is None or budget is None:
            return BudgetStatus(scope, "monthly", *self.config.boundaries_of("monthly", now))
        bounds = self.config.get_period_boundaries(now)
        recorded = await self.store.get_period_usage(agent_id, scope, *bounds)
        counted = counting.used_at(budget, self._calendar, now)[self.config.period]
        return status_of(scope, bounds, budget, self.config, most(counted, recorded))

    async def reset_period(self, agent_id: str, scope: BudgetScope) -> None:
        """Begin the configured period anew now, of the store's usage and of the stored budget.

        With `rollover_unused` what the old one leaves unused of a limit is added to it, up to
        `max_rollover_percentage` of the limit, until the next period begins; what had been added to
        the old one is not carried further. The same happens by itself when a period ends. No
        record is erased.

        Raises:
            ValueError: the enforcer has no store, or the store cannot do it; an empty id, or what
                is no scope.
        """
        check_place(agent_id, scope)
        if self.store is None:
            raise ValueError("reset_period needs a store: this enforcer was made without one")
        config, now = self.config, self._now()
        budget = await self.store.get_budget(agent_id, scope)
        recorded = await self.store.get_period_usage(
            agent_id, scope, *config.get_period_boundaries(now)
        )
        if budget is None:
            await self.store.reset_period_usage(agent_id, scope)
            return
        counted = counting.used_at(budget, self._calendar, now)
        await self.store.reset_period_usage(agent_id, scope)  # first: it may refuse
        used = most(counted[config.period], recorded)
        counting.begin_anew(budget, self._calendar, now, counted, used)
        await self.store.update_budget(agent_id, scope, budget)

    def _now(self) -> datetime:
        return aware("the enforcer's clock", self._clock()).astimezone(UTC)


def _check_budget_type(budget: object) -> None:
    if not isinstance(budget, ExternalAgentBudget):
        raise ValueError(f"budget must be an ExternalAgentBudget, not {budget!r}")
