"""The answer: whose figures a check comes back with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay import Budget, Scope
from outlay.governance.answer import answer
from outlay.testing import InMemoryStream
from tests.governance_stream.conftest import NOW, monthly

CALL = {"organization_id": "acme", "team_id": "t", "user_id": "u", "agent_id": "a"}
ORGANIZATION, TEAM, AGENT = Scope("acme"), Scope("acme", "t"), Scope("acme", agent_id="a")


def spend(stream, usd, executions=1):
    assert stream.emitter.emit(**CALL, cost_usd=usd, executions=executions)


def asked(stream, usd):
    return answer(stream.gateway.explain(**CALL, estimated_cost_usd=usd))


def test_without_a_budget_all_is_allowed(stream):
    """And there is nothing to tell."""
    result = asked(stream, 10**6)
    assert result.allowed
    assert (result.reason, result.remaining_budget_usd, result.remaining_executions) == (
        "",
        None,
        None,
    )
    assert (result.usage_percentage, result.warning_triggered, result.degraded_mode) == (
        0,
        False,
        False,
    )


def test_figures_are_of_the_spend_before_the_call(stream):
    """As seed 001 asserts: 50 of 100 are left to a call of 10."""
    stream.budgets.put(AGENT, monthly(100, monthly_execution_limit=9))
    spend(stream, 50)
    result = asked(stream, 10)
    assert result.allowed is True
    assert result.remaining_budget_usd == 50.0
    assert result.remaining_executions == 8
    assert result.usage_percentage == 0.5


def test_the_scope_that_leaves_the_least_speaks_while_calls_are_allowed(stream):
    """Not the one of which the largest share is used."""
    stream.budgets.put(ORGANIZATION, monthly(1_000))
    stream.budgets.put(AGENT, monthly(100))
    spend(stream, 50)
    assert asked(stream, 1).remaining_budget_usd == 50
    stream.emitter.emit(organization_id="acme", agent_id="b", cost_usd=940)
    result = asked(stream, 1)
    assert (result.remaining_budget_usd, result.usage_percentage) == (10, 0.99)


def test_the_scope_that_blocks_speaks_when_a_call_is_blocked(stream):
    """Also where another leaves less."""
    stream.budgets.put(TEAM, monthly(100))
    stream.budgets.put(AGENT, Budget(monthly_budget_usd=1, enforcement_mode="soft"))
    spend(stream, 90)
    result = asked(stream, 20)
    assert not result.allowed
    assert (result.remaining_budget_usd, result.usage_percentage) == (10, 0.9)
    assert "monthly budget exceeded: $90.00 used + $20.00 asked > $100.00 limit" in result.reason


def test_a_daily_block_has_the_days_figures(stream):
    """Otherwise the month's are told."""
    stream.budgets.put(AGENT, Budget(monthly_budget_usd=100, daily_budget_usd=10))
    spend(stream, 4)
    assert (asked(stream, 1).remaining_budget_usd, asked(stream, 1).usage_percentage) == (96, 0.04)
    result = asked(stream, 7)
    assert not result.allowed
    assert (result.remaining_budget_usd, result.usage_percentage) == (6, 0.4)
    assert "daily budget exceeded" in result.reason


def test_the_only_budget_speaks_whatever_blocks(stream):
    """A day's executions block, and what is told is what there is of a month's budget."""
    stream.budgets.put(AGENT, Budget(monthly_budget_usd=100, daily_execution_limit=1))
    spend(stream, 25)
    result = asked(stream, 1)
    assert not result.allowed
    assert (result.remaining_budget_usd, result.usage_percentage) == (75, 0.25)
    assert result.remaining_executions == 0
    assert "daily execution limit exceeded" in result.reason


def test_a_warning_is_told_only_of_allowed_calls(stream):
    """Seed 001's sample goes on where it is set."""
    stream.budgets.put(AGENT, monthly(100))
    spend(stream, 75)
    result = asked(stream, 25)
    assert (result.allowed, result.warning_triggered, result.degraded_mode) == (True, True, False)
    assert "warning, $75.00 used of a monthly budget of $100.00" in result.warning_message
    assert result.reason == ""
    blocked = asked(stream, 26)
    assert (blocked.allowed, blocked.warning_triggered) == (False, False)
    assert blocked.warning_message is None


def test_a_soft_budget_says_why_it_degrades(stream):
    """It allows what it has no room for, with the reason."""
    stream.budgets.put(AGENT, monthly(10, enforcement_mode="soft"))
    result = asked(stream, 11)
    assert (result.allowed, result.degraded_mode) == (True, True)
    assert "monthly budget exceeded" in result.reason


def test_zero_is_all_used(stream):
    """A budget of zero."""
    stream.budgets.put(AGENT, monthly(0))
    result = asked(stream, 1)
    assert (result.allowed, result.remaining_budget_usd, result.usage_percentage) == (False, 0, 1.0)


def test_overspent_is_negative(stream):
    """What is left of a budget that was cut."""
    stream.budgets.put(AGENT, monthly(1))
    spend(stream, 3)
    assert asked(stream, 0).remaining_budget_usd == -2


@pytest.mark.parametrize("policy", ["allow", "block"])
def test_before_anything_is_known_the_policy_answers_with_a_reason(policy):
    """And without figures."""
    with InMemoryStream(NOW, broker_away=True, on_not_ready=policy) as stream:
        result = asked(stream, 1)
    assert result.allowed == (policy == "allow")
    assert "not ready" in result.reason
    assert result.remaining_budget_usd is None


def test_a_stale_budget_that_blocks_says_so():
    """Its window passes nothing: the month's figures are told."""
    with InMemoryStream(NOW) as stream:
        stream.budgets.put(AGENT, monthly(10, on_stale="block"))
        spend(stream, 4)
        stream.stall()
        stream.clock.advance(seconds=11)
        result = asked(stream, 1)
    assert not result.allowed
    assert "no decisions for over 10 s" in result.reason
    assert (result.remaining_budget_usd, result.usage_percentage) == (6, 0.4)


cents = st.integers(0, 500).map(lambda amount: amount / 100)


@given(spent=cents, ask=cents, month=cents, day=st.none() | cents, team=st.none() | cents)
def test_it_allows_what_the_check_allows(spent, ask, month, day, team):
    """With any budgets, and never with a warning when it blocks."""
    with InMemoryStream(NOW) as stream:
        stream.budgets.put(AGENT, Budget(monthly_budget_usd=month, daily_budget_usd=day))
        if team is not None:
            stream.budgets.put(TEAM, monthly(str(team)))
        spend(stream, spent)
        check = stream.gateway.check(**CALL, estimated_cost_usd=ask)
        result = asked(stream, ask)
    assert (result.allowed, result.degraded_mode) == (check.allowed, check.degraded)
    assert not (result.warning_triggered and not result.allowed)
    assert (result.reason == "") <= result.allowed
