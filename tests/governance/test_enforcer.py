"""The enforcer: what a budget says before a call, and what is counted after it."""

import asyncio
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.governance import (
    BudgetScope,
    BudgetStoreFull,
    ExternalAgentBudget,
    ExternalAgentBudgetConfig,
    ExternalAgentBudgetEnforcer,
    InMemoryBudgetStore,
)
from outlay.governance.scope import DEFAULT_SCOPE
from tests.governance.clocks import NOW, Clock


def make(config=None, store=None, clock=None):
    return ExternalAgentBudgetEnforcer(config, store, clock=clock or Clock())


def budget_of(monthly=100.0, **fields):
    return ExternalAgentBudget("agent", monthly, **fields)


def check(budget, cost=0.0, tokens=0, enforcer=None, **estimates):
    return asyncio.run((enforcer or make()).check_budget(budget, cost, tokens, **estimates))


def record(budget, cost, enforcer=None, success=True, **fields):
    return asyncio.run((enforcer or make()).record_usage(budget, cost, success, **fields))


# -- checks


def test_the_numbers_are_those_before_the_call():
    """What remains, and the share that is used, 0.5 for half."""
    result = check(budget_of(monthly_spent_usd=50.0), 10.0)
    assert (result.allowed, result.reason) == (True, "")
    assert result.remaining_budget_usd == 50.0
    assert f"{result.remaining_budget_usd:.2f}" == "50.00"
    assert result.usage_percentage == 0.5
    assert result.remaining_executions == 10_000
    assert not result.warning_triggered
    assert not result.degraded_mode
    assert result.warning_message is None


def test_a_call_that_lands_on_the_limit_is_allowed():
    """And one nano-dollar more is not."""
    assert check(budget_of(monthly_spent_usd=60.0), 40.0).allowed
    assert not check(budget_of(monthly_spent_usd=60.0), 40.000000001).allowed
    assert check(budget_of(0.3, monthly_spent_usd=0.1), 0.2).allowed  # 0.1 + 0.2 is 0.3


def test_ten_times_a_tenth_is_one():
    """And fits a limit of 1, which is full then."""
    budget, enforcer = budget_of(1), make()
    for _ in range(10):
        assert check(budget, 0.1, enforcer=enforcer).allowed
        record(budget, 0.1, enforcer)
    assert budget.monthly_spent_usd == budget.daily_spent_usd == 1.0
    assert isinstance(budget.monthly_spent_usd, float)
    result = check(budget, 0.000000001, enforcer=enforcer)
    assert (result.allowed, result.remaining_budget_usd, result.usage_percentage) == (False, 0, 1)
    assert check(budget, 0, enforcer=enforcer).allowed


@pytest.mark.parametrize(
    ("fields", "estimate", "reason"),
    [
        (
            {"monthly_spent_usd": 95.0},
            {"cost": 10},
            "monthly budget exceeded: $95.00 used + $10.00 asked > $100.00 limit",
        ),
        (
            {"daily_budget_usd": 20, "daily_spent_usd": 15.5},
            {"cost": 10},
            "daily budget exceeded: $15.50 used + $10.00 asked > $20.00 limit",
        ),
        (
            {"monthly_execution_limit": 5, "monthly_execution_count": 5},
            {},
            "monthly execution limit exceeded: 5 used + 1 asked > 5 limit",
        ),
        (
            {"daily_execution_limit": 0},
            {},
            "daily execution limit exceeded: 0 used + 1 asked > 0 limit",
        ),
        (
            {"monthly_token_limit": 10, "monthly_input_tokens": 4, "monthly_output_tokens": 4},
            {"tokens": 3},
            "monthly token limit exceeded: 8 used + 3 asked > 10 limit",
        ),
        (
            {"daily_token_limit": 10},
            {"estimated_input_tokens": 6, "estimated_output_tokens": 5},
            "daily token limit exceeded: 0 used + 11 asked > 10 limit",
        ),
        (
            {"monthly_input_token_limit": 10},
            {"estimated_input_tokens": 11},
            "monthly input token limit exceeded: 0 used + 11 asked > 10 limit",
        ),
        (
            {"daily_output_token_limit": 10},
            {"estimated_output_tokens": 11},
            "daily output token limit exceeded: 0 used + 11 asked > 10 limit",
        ),
    ],
)
def test_a_block_names_window_and_what(fields, estimate, reason):
    """With the amounts; and it does not warn as well."""
    result = check(budget_of(**fields), **estimate)
    assert (result.allowed, result.reason) == (False, reason)
    assert (result.warning_triggered, result.warning_message) == (False, None)


def test_the_order_of_the_checks():
    """Month's cost, day's cost, month's executions, day's executions, then tokens."""
    nothing = {
        "daily_budget_usd": 0,
        "monthly_execution_limit": 0,
        "daily_execution_limit": 0,
        "monthly_token_limit": 0,
        "daily_token_limit": 0,
        "monthly_input_token_limit": 0,
    }
    budget = budget_of(0, **nothing)
    words = []
    for name in ("monthly_budget_usd", *nothing):
        reason = check(budget, 1, 1, estimated_input_tokens=1).reason
        words.append(reason.partition(" exceeded")[0])
        setattr(budget, name, None)
    assert words == [
        "monthly budget",
        "daily budget",
        "monthly execution limit",
        "daily execution limit",
        "monthly token limit",
        "daily token limit",
        "monthly input token limit",
    ]
    assert check(budget, 1, 1, estimated_input_tokens=1).allowed


def test_a_daily_block_reports_the_day():
    """Else it is the month, also where the day is the tighter one."""
    budget = budget_of(monthly_spent_usd=10, daily_budget_usd=20, daily_spent_usd=19)
    result = check(budget, 2)
    assert (result.allowed, result.remaining_budget_usd, result.usage_percentage) == (
        False,
        1,
        0.95,
    )
    result = check(budget, 1)
    assert (result.allowed, result.remaining_budget_usd, result.usage_percentage) == (True, 90, 0.1)
    budget.daily_execution_limit = 0
    assert check(budget).remaining_budget_usd == 1
    budget.daily_budget_usd = None
    assert check(budget).remaining_budget_usd == 90


def test_without_a_budget_in_usd_there_is_nothing_left_to_say():
    """None, and not zero; of a day's budget alone it is that."""
    result = check(budget_of(None), 10**8)
    assert (result.allowed, result.remaining_budget_usd, result.usage_percentage) == (True, None, 0)
    result = check(budget_of(None, daily_budget_usd=4, daily_spent_usd=1), 1)
    assert (result.remaining_budget_usd, result.usage_percentage) == (3, 0.25)


def test_the_least_of_the_execution_limits_remains():
    """None without one."""
    budget = budget_of(monthly_execution_count=4, daily_execution_limit=9, daily_execution_count=2)
    assert check(budget).remaining_executions == 7
    budget.monthly_execution_limit = 5
    assert check(budget).remaining_executions == 1
    budget.monthly_execution_limit = budget.daily_execution_limit = None
    assert check(budget).remaining_executions is None


def test_zero_blocks_what_would_add_to_it():
    """And nothing else."""
    assert not check(budget_of(0), 0.01).allowed
    result = check(budget_of(0), 0)
    assert (result.allowed, result.usage_percentage, result.warning_triggered) == (True, 1.0, True)
    assert "100.00%" in result.warning_message


@pytest.mark.parametrize(
    ("spent", "warns", "degraded"),
    [(74.99, False, False), (75.0, True, False), (89.99, True, False), (90.0, True, True)],
)
def test_thresholds_hold_at_and_above(spent, warns, degraded):
    """Of the spend before the call."""
    result = check(budget_of(monthly_spent_usd=spent), 10)
    assert (result.allowed, result.warning_triggered, result.degraded_mode) == (
        True,
        warns,
        degraded,
    )
    assert bool(result.warning_message) == warns
    if warns:
        assert f"${spent:.2f}" in result.warning_message


def test_every_kind_of_limit_warns():
    """By the one that is used the most."""
    result = check(budget_of(daily_execution_limit=4, daily_execution_count=3))
    assert result.warning_message == "warning: 3 executions of the daily limit of 4 used (75.00%)"


def test_a_soft_budget_allows_and_degrades():
    """And says why."""
    result = check(budget_of(1, enforcement_mode="soft"), 2)
    assert (result.allowed, result.degraded_mode) == (True, True)
    assert result.reason == "monthly budget exceeded: $0.00 used + $2.00 asked > $1.00 limit"
    of_the_day = check(budget_of(9, daily_budget_usd=1, enforcement_mode="soft"), 2)
    assert "daily budget exceeded" in of_the_day.reason
    assert of_the_day.remaining_budget_usd == 9  # a day that blocks nothing is not reported
    spent = check(budget_of(1, monthly_spent_usd=3, enforcement_mode="soft"), 2)
    assert (spent.allowed, spent.degraded_mode, spent.warning_triggered) == (True, True, True)
    assert (spent.remaining_budget_usd, spent.usage_percentage) == (-2, 3.0)


def test_thresholds_are_the_budgets_or_the_configurations():
    """None takes the enforcer's."""
    enforcer = make(ExternalAgentBudgetConfig(warning_threshold=0.2, degradation_threshold=0.4))
    result = check(budget_of(monthly_spent_usd=40), enforcer=enforcer)
    assert (result.warning_triggered, result.degraded_mode) == (True, True)
    own = budget_of(monthly_spent_usd=40, warning_threshold=0.39, degradation_threshold=0.5)
    result = check(own, enforcer=enforcer)
    assert (result.warning_triggered, result.degraded_mode) == (True, False)
    with pytest.raises(ValueError, match="must not be above degradation_threshold"):
        check(budget_of(warning_threshold=0.5), enforcer=enforcer)


def test_tokens_of_unknown_kind_count_in_the_limits_of_both_together():
    """They are no less than what is known of them, and pass no limit of one kind."""
    budget = budget_of(daily_token_limit=10, daily_input_token_limit=5, daily_output_token_limit=5)
    assert check(budget, 0, 10).allowed
    assert not check(budget, 0, 11).allowed
    assert check(budget, 0, 10, estimated_input_tokens=5).allowed
    assert not check(budget, 0, 10, estimated_input_tokens=6).allowed
    assert not check(budget, 0, 1, estimated_output_tokens=6).allowed


def test_decimals_come_back_as_decimals():
    """From a budget that was given one."""
    result = check(budget_of(Decimal("10"), monthly_spent_usd=Decimal("0.1")), Decimal("1"))
    assert isinstance(result.remaining_budget_usd, Decimal)
    assert result.remaining_budget_usd == Decimal("9.9")


@pytest.mark.parametrize(
    "wrong",
    [
        {"cost": -1},
        {"cost": float("nan")},
        {"cost": float("inf")},
        {"cost": "some"},
        {"cost": None},
        {"cost": True},
        {"cost": 10**9},
        {"tokens": -1},
        {"tokens": 1.5},
        {"estimated_input_tokens": -1},
        {"estimated_output_tokens": "1"},
    ],
)
def test_an_estimate_that_cannot_be_is_refused(wrong):
    """Whatever the budget is."""
    with pytest.raises(ValueError, match=r"estimated_"):
        check(budget_of(None), **wrong)


def test_what_is_no_budget_no_config_and_no_time_is_refused():
    """Clearly."""
    with pytest.raises(ValueError, match="budget must be"):
        check({"monthly_budget_usd": 1})
    with pytest.raises(ValueError, match="budget must be"):
        record(None, 1)
    with pytest.raises(ValueError, match="config must be"):
        ExternalAgentBudgetEnforcer({"period": "daily"})
    with pytest.raises(ValueError, match="needs a zone"):
        check(budget_of(), enforcer=make(clock=Clock(NOW.replace(tzinfo=None))))


# -- limits of the configuration


def test_limits_of_the_configuration_hold_as_well():
    """After those of the budget, in the configuration's own period and mode."""
    config = ExternalAgentBudgetConfig(
        period="weekly",
        max_cost_per_period=10,
        max_invocations_per_period=2,
        max_tokens_per_period=100,
    )
    enforcer, budget = make(config), budget_of()
    assert check(budget, 10, 100, enforcer=enforcer).allowed
    result = check(budget, 11, enforcer=enforcer)
    assert (result.allowed, result.remaining_budget_usd) == (False, 10)
    assert result.reason == "weekly budget exceeded: $0.00 used + $11.00 asked > $10.00 limit"
    assert check(budget, 0, 101, enforcer=enforcer).reason == (
        "weekly token limit exceeded: 0 used + 101 asked > 100 limit"
    )
    record(budget, 8, enforcer)
    result = check(budget, 1, enforcer=enforcer)
    assert result.remaining_executions == 1
    assert result.warning_message == "warning: $8.00 of the weekly budget of $10.00 used (80.00%)"
    record(budget, 0, enforcer)
    assert "weekly execution limit exceeded" in check(budget, enforcer=enforcer).reason
    soft = make(ExternalAgentBudgetConfig(max_cost_per_period=10, enforcement_mode="soft"))
    result = check(budget_of(), 11, enforcer=soft)
    assert (result.allowed, result.degraded_mode) == (True, True)
    assert "monthly budget exceeded" in result.reason
    result = check(budget_of(12, monthly_spent_usd=10), 1, enforcer=soft)
    assert (
        result.warning_message == "exceeded: $10.00 of the monthly budget of $10.00 used (100.00%)"
    )


def test_a_block_tells_of_the_limit_that_blocks():
    """And not of a soft one that is passed as well."""
    enforcer = make(ExternalAgentBudgetConfig(period="weekly", max_cost_per_period=5))
    result = check(budget_of(1, enforcement_mode="soft"), 6, enforcer=enforcer)
    assert (result.allowed, result.remaining_budget_usd) == (False, 5)
    assert result.reason.startswith("weekly budget exceeded")


# -- counting


def test_a_call_counts_in_the_month_and_the_day():
    """One execution, its cost and tokens, also when it has failed; the budget comes back."""
    budget = budget_of()
    assert record(budget, 9.5, success=False, input_tokens=3, output_tokens=2) is budget
    record(budget, "0.25", input_tokens=1)
    for period in ("daily", "weekly", "monthly"):
        assert getattr(budget, f"{period}_spent_usd") == 9.75
        assert getattr(budget, f"{period}_execution_count") == 2
        assert getattr(budget, f"{period}_input_tokens") == 4
        assert getattr(budget, f"{period}_output_tokens") == 2


def test_the_record_has_what_was_said():
    """In the store, under the budget's agent and scope; else under a scope by default."""
    store = InMemoryBudgetStore()
    enforcer, scope = make(store=store), BudgetScope("acme", "t")
    metadata = {"duration_ms": 1500}
    record(
        budget_of(scope=scope),
        0.5,
        enforcer,
        success=False,
        metadata=metadata,
        invocation_id="call-1",
        input_tokens=3,
        output_tokens=2,
        provider="p",
        model="m",
    )
    metadata["later"] = True
    (found,) = store.records("agent", scope)
    assert (found.invocation_id, found.agent_id, found.scope) == ("call-1", "agent", scope)
    assert (found.cost, found.success, found.tokens_used) == (0.5, False, 5)
    assert (found.metadata, found.timestamp) == ({"duration_ms": 1500}, NOW)
    assert (found.input_tokens, found.output_tokens, found.provider, found.model) == (
        3,
        2,
        "p",
        "m",
    )
    record(budget_of(), 1, enforcer)
    record(budget_of(), 1, enforcer)
    one, other = store.records("agent", DEFAULT_SCOPE)
    assert one.invocation_id != other.invocation_id


@given(st.lists(st.integers(0, 10**12), max_size=20))
def test_any_sum_is_exact(costs):
    """Given as the floats and decimals that stand for these nano-dollars."""
    budget, enforcer = budget_of(), make()

    async def count():
        for nano in costs:
            await enforcer.record_usage(budget, Decimal(nano).scaleb(-9), True)

    asyncio.run(count())
    assert Decimal(str(budget.monthly_spent_usd)) == Decimal(sum(costs)).scaleb(-9)
    assert budget.daily_execution_count == len(costs)


@pytest.mark.parametrize("wrong", [-0.01, float("nan"), None, "much", True])
def test_a_cost_that_cannot_be_is_refused_and_not_counted(wrong):
    """Nor is the execution."""
    budget = budget_of()
    with pytest.raises(ValueError, match="cannot be negative" if wrong == -0.01 else "actual_cost"):
        record(budget, wrong)
    assert (budget.monthly_spent_usd, budget.monthly_execution_count) == (0, 0)


@pytest.mark.parametrize(
    "wrong",
    [{"input_tokens": -1}, {"output_tokens": 1.5}, {"invocation_id": ""}, {"metadata": "x"}],
)
def test_what_else_cannot_be_is_not_counted_either(wrong):
    """It is looked at before anything is counted."""
    budget = budget_of()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        record(budget, 1, **wrong)
    assert budget.monthly_execution_count == 0


def test_a_store_that_fails_does_not_lose_the_count():
    """Its error comes through as it is."""
    enforcer, budget = make(store=InMemoryBudgetStore(records_max=1)), budget_of()
    record(budget, 1, enforcer)
    with pytest.raises(BudgetStoreFull):
        record(budget, 2, enforcer)
    assert (budget.monthly_spent_usd, budget.monthly_execution_count) == (3.0, 2)


class SlowStore(InMemoryBudgetStore):
    """It lets others go first."""

    async def record_usage(self, record):
        await asyncio.sleep(0)
        await super().record_usage(record)


def test_calls_at_the_same_time_lose_no_count():
    """In one event loop, and in threads with a loop each and enforcers of their own."""
    store, budget, clock = SlowStore(), budget_of(), Clock()

    def work():
        enforcer = make(store=store, clock=clock)

        async def all_at_once():
            calls = [enforcer.record_usage(budget, "0.000000001", True) for _ in range(100)]
            await asyncio.gather(*calls)

        asyncio.run(all_at_once())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.monthly_execution_count == budget.daily_execution_count == 400
    assert budget.monthly_spent_usd == 0.0000004
    assert len(store.records("agent", DEFAULT_SCOPE)) == 400


FORKS = """
import asyncio, os, signal, sys
from outlay.governance import ExternalAgentBudget, ExternalAgentBudgetEnforcer, counting

enforcer, budget = ExternalAgentBudgetEnforcer(), ExternalAgentBudget("a", 1.0)
counting._lock.acquire()  # as another thread may hold it
pid = os.fork()
if pid == 0:
    signal.alarm(20)  # no child is left should it hang
    asyncio.run(enforcer.record_usage(budget, 0.5, True))
    os._exit(7 if budget.monthly_spent_usd == 0.5 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_counts():
    """Though the lock may have been held by a thread that it does not have."""
    subprocess.run([sys.executable, "-c", FORKS], check=True, timeout=60)


# -- new days, weeks and months


def test_yesterday_blocks_no_new_day():
    """The day's counts begin at zero, the month's go on; and so on the first."""
    clock = Clock(datetime(2026, 11, 29, 23, tzinfo=UTC))  # a Sunday
    enforcer, budget = make(clock=clock), budget_of(30, daily_budget_usd=10)
    record(budget, 10, enforcer)
    assert not check(budget, 1, enforcer=enforcer).allowed
    clock.move(hours=1)
    result = check(budget, 1, enforcer=enforcer)
    assert (result.allowed, result.remaining_budget_usd) == (True, 20)
    assert (budget.daily_spent_usd, budget.daily_execution_count) == (0, 0)
    assert (budget.weekly_spent_usd, budget.weekly_execution_count) == (0, 0)
    record(budget, 2, enforcer, input_tokens=1)
    assert (budget.daily_spent_usd, budget.weekly_spent_usd, budget.monthly_spent_usd) == (2, 2, 12)
    clock.move(days=1)  # December, in the same week
    record(budget, 3, enforcer)
    assert (budget.daily_spent_usd, budget.weekly_spent_usd, budget.monthly_spent_usd) == (3, 5, 3)
    assert budget.monthly_execution_count == 1
    assert budget.monthly_input_tokens == 0


def test_the_day_is_that_of_the_configurations_zone():
    """Tokyo's midnight is at 15:00 UTC."""
    clock = Clock(datetime(2026, 11, 21, 14, 59, tzinfo=UTC))
    enforcer, budget = make(ExternalAgentBudgetConfig(timezone="Asia/Tokyo"), clock=clock), None
    budget = budget_of(daily_budget_usd=10)
    record(budget, 10, enforcer)
    clock.move(seconds=59)
    assert not check(budget, 1, enforcer=enforcer).allowed
    clock.move(seconds=1)
    assert check(budget, 1, enforcer=enforcer).allowed


def test_a_month_begins_where_the_configuration_says():
    """Its anchor is that of its own period; days begin at midnight all the same."""
    config = ExternalAgentBudgetConfig(period_start=datetime(2026, 1, 15, 6, tzinfo=UTC))
    clock = Clock(datetime(2026, 12, 14, 12, tzinfo=UTC))
    enforcer, budget = make(config, clock=clock), budget_of()
    record(budget, 1, enforcer)
    clock.move(hours=12)
    record(budget, 1, enforcer)
    assert (budget.daily_spent_usd, budget.monthly_spent_usd) == (1, 2)
    clock.move(hours=6)
    record(budget, 1, enforcer)
    assert (budget.daily_spent_usd, budget.monthly_spent_usd) == (2, 1)


def test_counts_that_a_budget_is_made_with_are_those_of_when_it_is_first_seen():
    """Or of the time that it says, however long that is ago."""
    clock = Clock()
    enforcer, budget = make(clock=clock), budget_of(monthly_spent_usd=75, daily_spent_usd=5)
    assert check(budget, enforcer=enforcer).remaining_budget_usd == 25
    assert budget.counted_at == NOW
    clock.move(days=1)
    check(budget, enforcer=enforcer)
    assert (budget.daily_spent_usd, budget.monthly_spent_usd) == (0, 75)
    old = budget_of(monthly_spent_usd=75, counted_at=NOW - timedelta(days=60))
    assert check(old, enforcer=enforcer).remaining_budget_usd == 100


def test_a_clock_that_goes_back_takes_no_count_away():
    """What was counted is never counted as another day's."""
    clock = Clock()
    enforcer, budget = make(clock=clock), budget_of()
    record(budget, 1, enforcer)
    clock.move(days=-40)
    record(budget, 1, enforcer)
    clock.move(days=40)
    assert check(budget, enforcer=enforcer).remaining_budget_usd == 98
    assert (budget.daily_spent_usd, budget.counted_at) == (2, NOW)


def test_a_clock_that_has_gone_back_turns_no_day_twice():
    """What an enforcer keeps ready of a later day is not taken for an earlier one's."""
    clock = Clock(NOW)
    enforcer, budget = make(clock=clock), budget_of()
    other = budget_of()
    record(other, 1, enforcer)
    clock.move(minutes=1)
    record(other, 1, enforcer)
    clock.move(days=-1)
    record(budget, 1, enforcer)
    clock.move(minutes=1)
    record(budget, 1, enforcer)
    assert budget.daily_spent_usd == 2


@pytest.mark.parametrize(
    "full",
    [
        {"monthly_spent_usd": Decimal("999999999999999.5")},
        {"monthly_execution_count": 10**15},
        {"monthly_output_tokens": 10**15},
    ],
)
def test_a_call_counts_in_every_period_or_in_none(full):
    """Where the month can count no more, the day does not count it either."""
    budget = ExternalAgentBudget("a", None, monthly_execution_limit=None, **full)
    with pytest.raises(ValueError, match="monthly counts of the budget have no room"):
        asyncio.run(ExternalAgentBudgetEnforcer().record_usage(budget, 1, True, output_tokens=1))
    assert (budget.daily_spent_usd, budget.weekly_spent_usd) == (0, 0)
    assert (budget.daily_execution_count, budget.weekly_output_tokens) == (0, 0)
