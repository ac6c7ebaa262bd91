"""The samples of code that users have, retyped: only their imports differ."""

import asyncio
import logging

import pytest

from outlay.governance import (
    BudgetAlertConfig,
    BudgetExceededError,
    BudgetScope,
    ExternalAgentBudget,
    ExternalAgentBudgetConfig,
    ExternalAgentBudgetEnforcer,
)
from outlay.governance.store import InMemoryBudgetStore


@pytest.fixture
def invocations():
    """What was executed."""
    return []


@pytest.fixture
def execute_invocation(invocations):
    """Left to the user."""

    async def execute():
        invocations.append("executed")

    return execute


@pytest.fixture
def log():
    """Left to the user."""
    return logging.getLogger("sample")


@pytest.mark.parametrize(("spent", "is_executed"), [(0.0, True), (990.0, True), (990.01, False)])
def test_basic_usage(spent, is_executed, execute_invocation, invocations, capsys):
    """Check, execute, record; and the reason when there is no room."""

    async def sample():
        # Create enforcer
        enforcer = ExternalAgentBudgetEnforcer()

        # Create budget for an agent
        budget = ExternalAgentBudget(
            external_agent_id="agent-001", monthly_budget_usd=1000.0, monthly_spent_usd=spent
        )

        # Check if invocation is allowed
        result = await enforcer.check_budget(budget, estimated_cost=10.0)

        if result.allowed:
            # Execute invocation
            await execute_invocation()

            # Record actual cost
            await enforcer.record_usage(budget, actual_cost=9.50, execution_success=True)
        else:
            # Budget exceeded
            print(f"Blocked: {result.reason}")
        return budget

    budget = asyncio.run(sample())
    assert bool(invocations) == is_executed
    assert budget.monthly_execution_count == int(is_executed)
    assert budget.monthly_spent_usd == (spent + 9.5 if is_executed else spent)
    blocked = "Blocked: monthly budget exceeded: $990.01 used + $10.00 asked > $1000.00 limit\n"
    assert capsys.readouterr().out == ("" if is_executed else blocked)


@pytest.mark.parametrize(
    ("spent", "words"),
    [
        (500.0, None),
        (750.0, "warning: $750.00 of the monthly budget of $1000.00 used (75.00%)"),
        (900.0, "degraded: $900.00 of the monthly budget of $1000.00 used (90.00%)"),
        (975.0, BudgetExceededError),
    ],
)
def test_direct_enforcer_usage(spent, words, log, caplog):
    """A blocked result raises, an allowed one warns from the threshold on."""

    async def sample():
        # Configure enforcer
        config = ExternalAgentBudgetConfig(
            warning_threshold=0.75, degradation_threshold=0.90, enforcement_mode="hard"
        )

        enforcer = ExternalAgentBudgetEnforcer(config=config)

        # Create budget
        budget = ExternalAgentBudget(
            external_agent_id="agent-001", monthly_budget_usd=1000.0, monthly_spent_usd=spent
        )

        # Check budget
        result = await enforcer.check_budget(budget, estimated_cost=50.0)

        # Handle result
        if not result.allowed:
            raise BudgetExceededError(result.reason)
        elif result.warning_triggered:  # noqa: RET506 # as users write it
            log.warning(result.warning_message)
        elif result.degraded_mode:
            log.warning("Operating in degraded mode")

    assert BudgetScope("org-001").to_key() == "org:org-001"  # the sample imports it, too
    if words is BudgetExceededError:
        with pytest.raises(BudgetExceededError, match="monthly budget exceeded"):
            asyncio.run(sample())
    else:
        asyncio.run(sample())
        assert [record.message for record in caplog.records] == ([words] if words else [])


def test_webhook_configuration():
    """Thresholds, recipients and a cooldown."""
    alert_config = BudgetAlertConfig(
        webhook_url="https://hooks.slack.com/services/...",
        email_recipients=["admin@company.com"],
        thresholds=[0.50, 0.75, 0.90, 1.00],
        alert_once_per_threshold=True,
        cooldown_minutes=15,
    )
    assert alert_config == BudgetAlertConfig(
        webhook_url="https://hooks.slack.com/services/...",
        email_recipients=["admin@company.com"],
    )


@pytest.fixture
def enforcer():
    store = InMemoryBudgetStore()
    return ExternalAgentBudgetEnforcer(store=store)


def test_budget_check_allowed(enforcer):
    """What remains is that of before the call."""

    async def sample():
        budget = ExternalAgentBudget(
            external_agent_id="test-agent", monthly_budget_usd=100.0, monthly_spent_usd=50.0
        )

        result = await enforcer.check_budget(budget, estimated_cost=10.0)

        assert result.allowed is True
        assert result.remaining_budget_usd == 50.0

    asyncio.run(sample())
