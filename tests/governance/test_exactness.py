"""Amounts are exact, whatever a user has made of the decimal context, and of any kind of float."""

import asyncio
from decimal import (
    Context,
    Decimal,
    FloatOperation,
    Inexact,
    InvalidOperation,
    Rounded,
    Subnormal,
    localcontext,
)

import pytest

from outlay import Amounts, Budget
from outlay.budget import Rules, evaluate
from outlay.governance import (
    BudgetScope,
    ExternalAgentBudget,
    ExternalAgentBudgetConfig,
    ExternalAgentBudgetEnforcer,
    GovernanceService,
    InMemoryBudgetStore,
)
from outlay.money import to_nano
from outlay.scope import Scope
from outlay.testing import InMemoryStream
from tests.governance.clocks import NOW, Clock

CONTEXTS = {
    "six digits": Context(prec=6),
    "nothing may be rounded": Context(traps=[Inexact, Rounded, FloatOperation, InvalidOperation]),
    "small exponents": Context(Emin=-5, Emax=5, traps=[Subnormal, InvalidOperation]),
}
ACME = BudgetScope("acme")


@pytest.fixture(params=CONTEXTS)
def context(request):
    """A decimal context that a user has set for all of the program."""
    with localcontext(CONTEXTS[request.param]) as context:
        yield context


class NamedFloat(float):
    """As numpy's: its repr is no number."""

    def __repr__(self):
        return f"np.float64({float(self)})"


def test_a_configuration_is_made_and_prices_exactly_in_any_context(context):
    """A cost of more digits than the context has, at a rate that has more, too."""
    config = ExternalAgentBudgetConfig(input_token_rate="0.123456789012345678901234567890")
    assert config.get_triggered_alerts(0.85) == [0.5, 0.75]
    assert config.calculate_cost(987_654_321, 0, 0) == Decimal("121932631.124828532")
    assert ExternalAgentBudgetConfig().calculate_cost(1_234_567, 7_654_321, 3) == 241.9783


def test_a_cost_is_rounded_once():
    """Not to the digits of the context first: that would make a half of what is below it."""
    rate = Decimal("0.0000000004999999999999999999999999")
    assert ExternalAgentBudgetConfig(input_token_rate=rate).calculate_cost(1, 0, 0) == 0
    with localcontext(Context(prec=3)):
        assert ExternalAgentBudgetConfig(input_token_rate=rate).calculate_cost(1, 0, 0) == 0


def test_thresholds_and_sums_are_exact_in_any_context(context):
    """Nine digits before the point and nine after it, at the very line."""
    enforcer = ExternalAgentBudgetEnforcer(clock=Clock())
    budget = ExternalAgentBudget("a", "123456789.123456788", "92592591.842592590")
    result = asyncio.run(enforcer.check_budget(budget, 1))
    assert not result.warning_triggered
    asyncio.run(enforcer.record_usage(budget, 0.000000001, True))
    result = asyncio.run(enforcer.check_budget(budget, 1))
    assert result.warning_triggered
    assert result.remaining_budget_usd == Decimal("30864197.280864197")
    assert "$92592591.84 of the monthly budget of $123456789.12" in result.warning_message


def test_what_is_rolled_over_is_exact_in_any_context(context):
    """Into the month after, of a limit and of a count."""
    clock = Clock()
    store = InMemoryBudgetStore(clock=clock)
    config = ExternalAgentBudgetConfig(rollover_unused=True)
    enforcer = ExternalAgentBudgetEnforcer(config, store, clock=clock)
    budget = ExternalAgentBudget("a", 1234567.891234568, monthly_execution_limit=12_345_679)
    asyncio.run(store.update_budget("a", ACME, budget))
    asyncio.run(enforcer.check_budget(budget, 0))
    clock.move(days=20)
    status = asyncio.run(enforcer.get_budget_status("a", ACME))
    assert status.cost_limit == 1543209.86404321
    assert status.invocations_limit == 12_345_679 + 3_086_419


def test_a_service_tells_exact_amounts_in_any_context(context):
    """Checks and reports of what the stream knows."""
    with InMemoryStream(NOW) as stream:
        budget = Budget(monthly_budget_usd="1234567.891234567", daily_budget_usd="0.9")
        stream.budgets.put(Scope("acme", agent_id="a"), budget)
        stream.emitter.emit(organization_id="acme", agent_id="a", cost_usd="0.123456789")
        service = GovernanceService(gateway=stream.gateway, emitter=stream.emitter)
        asyncio.run(service.initialize())
        result = asyncio.run(service.check_budget("a", "acme", 0.1))
        assert result.remaining_budget_usd == 1234567.767777778
        assert result.usage_percentage == pytest.approx(1e-07, rel=1e-6)
        status = asyncio.run(service.get_governance_status("a", "acme"))
        assert status["budget"]["remaining_monthly_usd"] == 1234567.767777778
        assert status["budget"]["usage_percentage"] == 0.137174


def test_a_share_of_any_size_is_told(context):
    """A limit of the least there is, overspent by a lot."""
    with InMemoryStream(NOW) as stream:
        stream.budgets.put(Scope("acme", agent_id="a"), Budget(monthly_budget_usd="0.000000001"))
        for _ in range(200):
            stream.emitter.emit(organization_id="acme", agent_id="a", cost_usd="999999999.99")
        service = GovernanceService(gateway=stream.gateway, emitter=stream.emitter)
        asyncio.run(service.initialize())
        status = asyncio.run(service.get_governance_status("a", "acme"))
        assert status["budget"]["usage_percentage"] == pytest.approx(2e20)
        assert asyncio.run(service.check_budget("a", "acme", 0)).usage_percentage == (
            pytest.approx(2e20)
        )


def test_the_rule_itself_is_exact_in_any_context(context):
    """Whoever asks it: what warns and what does not are a nano-dollar apart."""
    limit = 123_456_789_123_456_788
    rules = Rules(Budget(monthly_budget_usd=Decimal("123456789.123456788")))
    below, at = Amounts(limit // 4 * 3 - 1), Amounts(limit // 4 * 3)
    assert [evaluate(rules, used, used).state for used in (below, at)] == ["ok", "warning"]


def test_a_float_of_any_kind_counts_as_its_shortest_text():
    """As an amount, a rate, a share and a threshold."""
    tenth = NamedFloat(0.1)
    assert to_nano(tenth) == 100_000_000
    budget = ExternalAgentBudget("a", tenth, monthly_spent_usd=tenth, warning_threshold=tenth)
    assert (budget.monthly_budget_usd, budget.monthly_spent_usd) == (0.1, 0.1)
    config = ExternalAgentBudgetConfig(warning_threshold=tenth, input_token_rate=tenth)
    assert config.calculate_cost(3, 0, 0) == 0.3
    assert config.is_warning_threshold_reached(tenth)
    assert asyncio.run(ExternalAgentBudgetEnforcer().check_budget(budget, 0)).warning_triggered
    with pytest.raises(ValueError, match="finite"):
        budget.monthly_spent_usd = NamedFloat("nan")
    assert Budget(warning_threshold=tenth).warning_threshold == Decimal("0.1")
