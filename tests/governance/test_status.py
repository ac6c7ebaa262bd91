"""How a stored budget stands in its period, and periods that begin anew."""

import asyncio
from bisect import bisect
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from outlay.governance import (
    BudgetScope,
    BudgetStatus,
    BudgetUsageRecord,
    ExternalAgentBudget,
    ExternalAgentBudgetConfig,
    ExternalAgentBudgetEnforcer,
    InMemoryBudgetStore,
)
from tests.governance.clocks import NOW, Clock

SCOPE = BudgetScope("acme")
NOVEMBER = (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


class Setup:
    """An enforcer with a store that holds one budget."""

    def __init__(self, config=None, budget=None, now=NOW):
        self.clock = Clock(now)
        self.store = InMemoryBudgetStore(clock=self.clock)
        self.enforcer = ExternalAgentBudgetEnforcer(config, self.store, clock=self.clock)
        self.budget = budget
        if budget is not None:
            budget.scope = SCOPE
            asyncio.run(self.store.update_budget("a", SCOPE, budget))

    def record(self, cost, **fields):
        asyncio.run(self.enforcer.record_usage(self.budget, cost, True, **fields))

    def room(self):
        """The most that a call may cost, in whole USD."""
        return bisect(range(1_000), False, key=lambda cost: not self.check(cost).allowed) - 1

    def check(self, cost=0.0):
        return asyncio.run(self.enforcer.check_budget(self.budget, cost))

    def status(self):
        return asyncio.run(self.enforcer.get_budget_status("a", SCOPE))

    def reset(self):
        asyncio.run(self.enforcer.reset_period("a", SCOPE))


def budget_of(monthly=100.0, **fields):
    return ExternalAgentBudget("a", monthly, **fields)


def test_without_a_budget_it_is_an_empty_month():
    """Also where nothing is stored at all."""
    empty = BudgetStatus(SCOPE, "monthly", *NOVEMBER)
    assert Setup(ExternalAgentBudgetConfig(period="daily")).status() == empty
    without = ExternalAgentBudgetEnforcer(clock=Clock())
    assert asyncio.run(without.get_budget_status("a", SCOPE)) == empty


@pytest.mark.parametrize("place", [("", SCOPE), ("a", "org:acme")])
def test_a_place_that_cannot_be_is_refused(place):
    """With a store and without."""
    for enforcer in (Setup().enforcer, ExternalAgentBudgetEnforcer()):
        for ask in (enforcer.get_budget_status, enforcer.reset_period):
            with pytest.raises(ValueError, match="must"):
                asyncio.run(ask(*place))


def test_all_its_figures():
    """Of the month, by default."""
    setup = Setup(
        ExternalAgentBudgetConfig(max_tokens_per_period=100),
        budget_of(10, monthly_execution_limit=4, daily_budget_usd=1),
    )
    setup.record(0.1, input_tokens=20, output_tokens=5)
    setup.record(0.2, input_tokens=10)
    assert setup.status() == BudgetStatus(
        SCOPE,
        "monthly",
        *NOVEMBER,
        tokens_used=35,
        tokens_limit=100,
        tokens_remaining=65,
        cost_used=0.3,
        cost_limit=10.0,
        cost_remaining=9.7,
        invocations=2,
        invocations_limit=4,
        invocations_remaining=2,
        warning_triggered=False,
        limit_exceeded=False,
        usage_percentage=0.03,
    )
    setup.record(0)
    assert (setup.status().warning_triggered, setup.status().limit_exceeded) == (True, False)
    setup.record(0)
    assert (setup.status().warning_triggered, setup.status().limit_exceeded) == (True, True)


def test_limits_are_the_least_of_the_configurations_and_the_budgets():
    """For a period of that length."""
    config = ExternalAgentBudgetConfig(max_cost_per_period=50, max_invocations_per_period=7)
    status = Setup(config, budget_of(100, monthly_execution_limit=5)).status()
    assert (status.cost_limit, status.invocations_limit, status.tokens_limit) == (50, 5, None)
    config = ExternalAgentBudgetConfig(period="daily", max_cost_per_period=50)
    status = Setup(config, budget_of(100, daily_execution_limit=5)).status()
    assert (status.cost_limit, status.invocations_limit) == (50, 5)
    assert status.period_end - status.period_start == NOVEMBER[1] - datetime(
        2026, 11, 30, tzinfo=UTC
    )
    config = ExternalAgentBudgetConfig(period="weekly", max_cost_per_period=50)
    status = Setup(config, budget_of(10)).status()
    assert (status.cost_limit, status.invocations_limit) == (50, None)


def test_its_share_is_that_of_the_cost():
    """Without a limit of the cost the highest of the others."""
    budget = budget_of(None, monthly_execution_limit=4, monthly_execution_count=1)
    setup = Setup(None, budget)
    assert setup.status().usage_percentage == 0.25
    budget.monthly_token_limit, budget.monthly_input_tokens = 10, 5
    assert setup.status().usage_percentage == 0.5
    budget.monthly_budget_usd = 100
    assert setup.status().usage_percentage == 0
    budget.monthly_execution_limit = budget.monthly_token_limit = budget.monthly_budget_usd = None
    assert setup.status().usage_percentage == 0


def test_what_is_used_is_whichever_has_seen_more():
    """A budget may begin with some spent, and a store be told what no enforcer counted."""
    setup = Setup(None, budget_of(monthly_spent_usd=75))
    setup.record(5)
    assert setup.status().cost_used == 80
    for number in range(3):
        told = BudgetUsageRecord(str(number), "a", SCOPE, 7, cost=50, timestamp=NOW)
        asyncio.run(setup.store.record_usage(told))
    status = setup.status()
    assert (status.cost_used, status.cost_remaining) == (155, -55)
    assert (status.invocations, status.tokens_used) == (4, 21)


def test_a_new_period_begins_by_itself():
    """The status is that of the period of the enforcer's clock."""
    setup = Setup(ExternalAgentBudgetConfig(period="weekly"), budget_of(), NOW)
    setup.record(3)
    assert setup.status().cost_used == 3
    setup.clock.move(days=2)
    status = setup.status()
    assert (status.period, status.cost_used) == ("weekly", 0)
    assert status.period_start == datetime(2026, 11, 23, tzinfo=UTC)


def test_a_reset_begins_the_period_anew():
    """The month with its weeks and days, of the budget and of the store's usage; records stay."""
    setup = Setup(None, budget_of(10, daily_budget_usd=10))
    setup.record(10)
    assert setup.room() == 0
    setup.reset()
    assert setup.room() == 10
    assert setup.status().cost_used == 0
    assert setup.budget.monthly_execution_count == setup.budget.daily_execution_count == 0
    setup.record(4)
    assert setup.status().cost_used == 4
    assert [each.cost for each in setup.store.records("a", SCOPE)] == [10, 4]


def test_a_reset_of_a_day_leaves_the_month():
    """A longer period goes on."""
    setup = Setup(ExternalAgentBudgetConfig(period="daily"), budget_of(30, daily_budget_usd=10))
    setup.record(10)
    setup.reset()
    assert (setup.budget.daily_spent_usd, setup.budget.monthly_spent_usd) == (0, 10)
    assert setup.status().cost_used == 0


def test_a_reset_of_another_scope_concerns_it_alone():
    """And needs no budget; an enforcer without a store cannot."""
    setup = Setup(None, budget_of())
    setup.record(3)
    asyncio.run(setup.enforcer.reset_period("a", BudgetScope("other")))
    assert setup.status().cost_used == 3
    with pytest.raises(ValueError, match="needs a store"):
        asyncio.run(ExternalAgentBudgetEnforcer().reset_period("a", SCOPE))


class Refusing(InMemoryBudgetStore):
    """A store that never takes back what was counted."""

    async def reset_period_usage(self, agent_id, scope):
        raise ValueError("not here")


def test_a_store_that_refuses_a_reset_leaves_the_budget_as_it_was():
    """Not half of it is reset."""
    setup = Setup(None, budget_of())
    setup.record(3)
    setup.enforcer.store = refusing = Refusing()
    asyncio.run(refusing.update_budget("a", SCOPE, setup.budget))
    with pytest.raises(ValueError, match="not here"):
        setup.reset()
    assert (setup.budget.monthly_spent_usd, setup.budget.last_period) == (3, None)


class Overtaken(InMemoryBudgetStore):
    """While it resets, another call is counted."""

    async def reset_period_usage(self, agent_id, scope):
        await super().reset_period_usage(agent_id, scope)
        await self.meanwhile()


def test_a_call_that_is_counted_while_a_period_is_reset_counts_in_the_new_one():
    """No call is ever lost."""
    setup = Setup(None, budget_of())
    setup.record(3)
    setup.enforcer.store = store = Overtaken(clock=setup.clock)
    asyncio.run(store.update_budget("a", SCOPE, setup.budget))
    store.meanwhile = lambda: setup.enforcer.record_usage(setup.budget, 2, True)
    setup.reset()
    assert (setup.budget.monthly_spent_usd, setup.budget.monthly_execution_count) == (2, 1)
    assert setup.status().cost_used == 2


# -- rollover

ROLLOVER = {"rollover_unused": True, "max_rollover_percentage": 0.25}


@pytest.mark.parametrize(("spent", "room"), [(0, 125), (60, 125), (75, 125), (80, 120), (100, 100)])
def test_what_is_unused_is_added_to_the_next_period(spent, room):
    """Up to its share of the limit; by a reset, and by the clock."""
    for begin in (Setup.reset, lambda setup: setup.clock.move(days=15)):
        setup = Setup(ExternalAgentBudgetConfig(**ROLLOVER), budget_of(100))
        setup.record(spent)
        begin(setup)
        assert setup.room() == room
        status = setup.status()
        assert (status.cost_used, status.cost_limit, status.cost_remaining) == (0, room, room)
        assert setup.check().remaining_budget_usd == room
        assert setup.budget.monthly_budget_usd == 100


def test_without_rollover_nothing_is_added():
    """That is the default."""
    setup = Setup(None, budget_of(100))
    setup.reset()
    assert setup.room() == 100


def test_what_was_rolled_over_never_builds_up():
    """Period after period unused leaves no more than one; used up, it leaves nothing."""
    setup = Setup(ExternalAgentBudgetConfig(**ROLLOVER), budget_of(100))
    for _ in range(4):
        setup.reset()
        assert setup.room() == 125
    setup.record(110)  # all of the limit, and a part of what was added
    setup.reset()
    assert setup.room() == 100


def test_periods_in_which_nothing_was_asked_leave_their_share():
    """Whatever the one before them has used."""
    setup = Setup(ExternalAgentBudgetConfig(**ROLLOVER), budget_of(100))
    setup.record(100)
    setup.clock.move(days=15)
    assert setup.room() == 100
    setup.record(100)
    setup.clock.move(days=65)
    assert setup.room() == 125


def test_every_limit_of_the_period_rolls_over_and_no_other():
    """Executions and tokens are rounded down; the day's limits are not the month's."""
    setup = Setup(
        ExternalAgentBudgetConfig(max_cost_per_period=200, **ROLLOVER),
        budget_of(
            100,
            daily_budget_usd=1000,
            monthly_execution_limit=7,
            daily_execution_limit=9,
            monthly_token_limit=10,
            monthly_input_token_limit=10,
            monthly_output_token_limit=10,
        ),
    )
    setup.record(195, input_tokens=8, output_tokens=1)
    setup.reset()
    ask = setup.enforcer.check_budget

    def allows(**estimates):
        return asyncio.run(ask(setup.budget, **({"estimated_cost": 0} | estimates))).allowed

    assert setup.room() == 100
    assert setup.check().remaining_executions == 8  # of 7, and a quarter of it
    assert allows(estimated_tokens=11)
    assert not allows(estimated_tokens=12)
    setup.budget.monthly_token_limit = setup.budget.monthly_budget_usd = None
    assert setup.room() == 205
    assert allows(estimated_input_tokens=12, estimated_output_tokens=12)
    assert not allows(estimated_input_tokens=13)
    assert not allows(estimated_output_tokens=13)
    setup.budget.monthly_execution_limit = None
    assert setup.check().remaining_executions == 9


def test_weeks_and_days_roll_over_as_well():
    """The limits of the configured period, and only they."""
    week = ExternalAgentBudgetConfig(period="weekly", max_cost_per_period=100, **ROLLOVER)
    setup = Setup(week, budget_of(1000))
    setup.record(90)
    setup.clock.move(days=3)
    assert setup.room() == 110
    day = ExternalAgentBudgetConfig(period="daily", **ROLLOVER)
    setup = Setup(day, budget_of(1000, daily_budget_usd=100))
    setup.record(90)
    setup.clock.move(days=1)
    assert setup.room() == 110


def test_what_another_configurations_period_left_is_not_added():
    """A day's rest is no month's."""
    setup = Setup(
        ExternalAgentBudgetConfig(period="daily", **ROLLOVER), budget_of(100, daily_budget_usd=200)
    )
    setup.record(10)
    setup.clock.move(days=1)
    assert setup.check().remaining_budget_usd == 90
    monthly = ExternalAgentBudgetConfig(**ROLLOVER)
    setup.enforcer = ExternalAgentBudgetEnforcer(monthly, clock=setup.clock)
    assert setup.check().remaining_budget_usd == 90


def test_rollover_is_exact_and_within_what_a_limit_can_be():
    """In nano-dollars, rounded down."""
    setup = Setup(ExternalAgentBudgetConfig(**ROLLOVER), budget_of(Decimal("0.000000009")))
    setup.reset()
    assert setup.check().remaining_budget_usd == Decimal("0.000000011")
    setup = Setup(ExternalAgentBudgetConfig(**ROLLOVER), budget_of(999_999_999))
    setup.reset()
    assert setup.check().remaining_budget_usd == Decimal("999999999.999999999")


def test_what_a_store_was_told_is_not_rolled_over():
    """It is used, though no enforcer counted it."""
    setup = Setup(ExternalAgentBudgetConfig(**ROLLOVER), budget_of(100))
    told = BudgetUsageRecord("i", "a", SCOPE, cost=90, timestamp=NOW)
    asyncio.run(setup.store.record_usage(told))
    setup.reset()
    assert setup.room() == 110
