"""The governance service, over a stream in memory."""

import asyncio
import json
import math
from decimal import Decimal

import pytest

from outlay import Budget, BudgetGateway, FeedNotReady, Scope, UsageEmitter
from outlay.governance.service import GovernanceService
from outlay.testing import InMemoryStream
from schemas.http import GovernanceStatus
from tests.governance_stream.conftest import NOW, monthly

AGENT = Scope("org-001", agent_id="agent-001")
WHO = {"external_agent_id": "agent-001", "organization_id": "org-001"}


def test_a_call_is_checked_and_recorded(stream, service):
    """What was recorded counts in the next check, in all of its scopes."""

    async def run():
        await service.initialize()
        before = await service.check_budget(**WHO, estimated_cost=10.0)
        taken = await service.record_invocation_cost(
            **WHO,
            actual_cost=9.50,
            execution_success=False,
            metadata={"duration_ms": 1500},
            user_id="u",
            team_id="t",
            input_tokens=7,
            output_tokens=3,
            provider="p",
            model="m",
        )
        return before, taken, await service.check_budget(**WHO, estimated_cost=0.75)

    stream.budgets.put(AGENT, monthly(10))
    before, taken, after = asyncio.run(run())
    assert before.allowed
    assert taken is True
    assert not after.allowed
    assert after.remaining_budget_usd == 0.5
    (record,) = stream.records
    assert (record.organization_id, record.agent_id, record.cost_usd) == (
        "org-001",
        "agent-001",
        "9.50",
    )
    assert (record.team_id, record.user_id, record.provider, record.model) == ("t", "u", "p", "m")
    assert (record.input_tokens, record.output_tokens, record.executions) == (7, 3, 1)
    assert record.success is False
    assert json.loads(bytes(record.metadata)) == {"duration_ms": 1500}
    assert record.occurred_at == NOW


def test_an_agent_without_a_budget_is_allowed(service):
    """Whatever it asks."""

    async def run():
        await service.initialize()
        return await service.check_budget(**WHO, estimated_cost=10**8)

    assert asyncio.run(run()).allowed


@pytest.mark.parametrize(
    "scope",
    [
        Scope("org-001"),
        Scope("org-001", "t"),
        Scope("org-001", user_id="u"),
        Scope("org-001", "t", "u"),
        AGENT,
    ],
    ids=lambda scope: scope.kind,
)
def test_each_scope_that_a_call_counts_in_can_block_it(stream, service, scope):
    """The organization, the team, the user, the member and the agent."""

    async def run():
        await service.initialize()
        return await service.check_budget(**WHO, estimated_cost=2, user_id="u", team_id="t")

    stream.budgets.put(scope, monthly(1))
    result = asyncio.run(run())
    assert not result.allowed
    assert result.reason.startswith(scope.key + " in ")


def test_tokens_are_asked_for(stream, service):
    """Where they are estimated."""

    async def run(**tokens):
        await service.initialize()
        return (await service.check_budget(**WHO, estimated_cost=0, **tokens)).allowed

    stream.budgets.put(AGENT, Budget(daily_input_token_limit=10, daily_token_limit=20))
    assert asyncio.run(run(estimated_input_tokens=10, estimated_output_tokens=10))
    assert not asyncio.run(run(estimated_input_tokens=11))
    assert not asyncio.run(run(estimated_input_tokens=10, estimated_output_tokens=11))


def test_ten_times_a_dime_is_a_dollar(stream, service):
    """And fits a limit of one; then there is nothing left, exactly."""

    async def run():
        await service.initialize()
        for _ in range(10):
            assert (await service.check_budget(**WHO, estimated_cost=0.1)).allowed
            await service.record_invocation_cost(**WHO, actual_cost=0.1, execution_success=True)
        return await service.check_budget(**WHO, estimated_cost=0)

    stream.budgets.put(AGENT, monthly(1))
    result = asyncio.run(run())
    assert result.allowed
    assert (result.remaining_budget_usd, result.usage_percentage) == (0, 1)


@pytest.mark.parametrize("cost", [-0.01, math.nan, math.inf, "a lot", None, True, 10**9])
def test_a_cost_that_cannot_be_is_refused_at_once(stream, service, cost):
    """In a check, where None is a cost that is not known, and in a record; nothing is reported."""

    async def run():
        await service.initialize()
        if cost is not None:
            with pytest.raises(ValueError):
                await service.check_budget(**WHO, estimated_cost=cost)
        with pytest.raises(ValueError, match="actual_cost"):
            await service.record_invocation_cost(**WHO, actual_cost=cost, execution_success=True)

    asyncio.run(run())
    assert not stream.records
    assert stream.emitter.stats.emitted == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"external_agent_id": ""},
        {"external_agent_id": None},
        {"organization_id": ""},
        {"organization_id": None},
        {"user_id": ""},
        {"team_id": 7},
    ],
)
def test_ids_that_cannot_be_are_refused(stream, service, wrong):
    """In a check and in a record."""

    async def run():
        await service.initialize()
        with pytest.raises(ValueError):
            await service.check_budget(**WHO | wrong, estimated_cost=1)
        with pytest.raises(ValueError):
            await service.record_invocation_cost(
                **WHO | wrong, actual_cost=1, execution_success=True
            )

    asyncio.run(run())
    assert stream.emitter.stats.emitted == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_tokens": -1},
        {"output_tokens": 1.5},
        {"execution_success": None},
        {"metadata": {"what": object()}},
        {"model": ""},
    ],
)
def test_what_the_stream_would_reject_is_refused_at_once(stream, service, wrong):
    """And not counted among the records that were invalid."""

    async def run():
        await service.initialize()
        with pytest.raises(ValueError):
            await service.record_invocation_cost(
                **WHO | {"actual_cost": 1, "execution_success": True} | wrong
            )

    asyncio.run(run())
    assert stream.emitter.stats.emitted == 0


def test_a_full_buffer_is_told():
    """False, and nothing is raised."""

    async def run(service):
        await service.initialize()
        record = {"actual_cost": 1, "execution_success": True}
        return [await service.record_invocation_cost(**WHO, **record) for _ in range(2)]

    with InMemoryStream(NOW, buffer_records_max=1) as stream:
        service = GovernanceService(gateway=stream.gateway, emitter=stream.emitter)
        asyncio.run(service.initialize())
        stream.broker_away = True
        assert asyncio.run(run(service)) == [True, False]
        stream.broker_away = False


def test_before_it_is_initialized_it_says_so(stream, service):
    """Every call, and again when it is closed."""

    async def refused():
        for call in (
            service.check_budget(**WHO, estimated_cost=1),
            service.record_invocation_cost(**WHO, actual_cost=1, execution_success=True),
            service.get_governance_status(**WHO),
        ):
            with pytest.raises(FeedNotReady, match="await initialize"):
                await call
        assert not service.initialized

    async def run():
        await refused()
        await service.initialize()
        await service.initialize()
        assert service.initialized
        assert (await service.check_budget(**WHO, estimated_cost=1)).allowed
        assert await service.close() is True
        assert await service.close() is True
        await refused()

    asyncio.run(run())
    assert stream.feed.ready  # what was given is neither started nor closed
    assert stream.emitter.emit(organization_id="o", agent_id="a", cost_usd=1)


def test_not_ready_in_time_is_an_error_and_checks_go_by_the_policy():
    """It names what is missing; later it is ready, without another connection."""

    async def run(service, stream, allowed):
        with pytest.raises(FeedNotReady, match=r"not ready after 0\.05 s"):
            await service.initialize()
        result = await service.check_budget(**WHO, estimated_cost=1)
        assert (result.allowed, "not ready" in result.reason) == (allowed, True)
        with pytest.raises(FeedNotReady):
            await service.get_governance_status(**WHO)
        stream.broker_away = False
        await service.initialize()
        assert (await service.check_budget(**WHO, estimated_cost=1)).reason == ""

    for policy in ("allow", "block"):
        with InMemoryStream(NOW, broker_away=True, on_not_ready=policy) as stream:
            service = GovernanceService(
                gateway=stream.gateway, emitter=stream.emitter, ready_timeout_s=0.05
            )
            asyncio.run(run(service, stream, policy == "allow"))


def test_the_block_gives_back_what_it_took(stream, service):
    """`async with`, also where it cannot be entered."""

    async def run():
        async with service as same:
            assert same is service
            assert service.initialized
        assert not service.initialized

    asyncio.run(run())
    with InMemoryStream(NOW, broker_away=True) as away:
        unready = GovernanceService(
            gateway=away.gateway, emitter=away.emitter, ready_timeout_s=0.01
        )
        with pytest.raises(FeedNotReady):
            asyncio.run(unready.__aenter__())
        assert not unready.initialized


def test_a_reservation_counts_until_it_is_settled(stream, service):
    """Through the service, with its own arguments."""

    async def run():
        await service.initialize()
        with service.reserve("agent-001", "org-001", 6, expires_s=5) as call:
            assert not (await service.check_budget(**WHO, estimated_cost=5)).allowed
            call.settle(1)
        return await service.check_budget(**WHO, estimated_cost=9)

    stream.budgets.put(AGENT, monthly(10))
    assert asyncio.run(run()).allowed


def test_the_status_has_the_shape_and_meaning_of_the_rest_answer(stream, service):
    """Field by field; and it can be written as JSON."""

    async def run():
        await service.initialize()
        return await service.get_governance_status(**WHO)

    stream.budgets.put(
        AGENT, Budget(monthly_budget_usd=1000, daily_budget_usd="12.5", monthly_execution_limit=9)
    )
    stream.emitter.emit(organization_id="org-001", agent_id="agent-001", cost_usd=10)
    status = asyncio.run(run())
    assert json.loads(json.dumps(status)) == {
        "external_agent_id": "agent-001",
        "organization_id": "org-001",
        "budget": {
            "monthly_budget_usd": 1000,
            "monthly_spent_usd": 10,
            "remaining_monthly_usd": 990,
            "daily_budget_usd": 12.5,
            "daily_spent_usd": 10,
            "remaining_daily_usd": 2.5,
            "monthly_execution_limit": 9,
            "monthly_execution_count": 1,
            "remaining_executions": 8,
            "usage_percentage": 0.8,
            "warning_triggered": True,
            "degraded_mode": False,
        },
        "rate_limit": None,
        "policy": None,
        "timestamp": "2026-11-21T12:00:00Z",
    }
    assert GovernanceStatus.model_validate(status).model_dump(mode="json").keys() == status.keys()
    assert (
        status["budget"].keys()
        == GovernanceStatus.model_validate(status).budget.model_dump().keys()
    )


def test_what_an_agent_without_a_budget_spent_is_not_known(service):
    """The stream publishes no totals of it: None, and not zero."""

    async def run():
        await service.initialize()
        return await service.get_governance_status(**WHO)

    budget = asyncio.run(run())["budget"]
    assert budget["monthly_spent_usd"] is budget["daily_spent_usd"] is None
    assert budget["monthly_execution_count"] is budget["remaining_executions"] is None
    assert budget["monthly_budget_usd"] is budget["remaining_monthly_usd"] is None
    assert (budget["usage_percentage"], budget["warning_triggered"]) == (0, False)


def test_a_status_keeps_long_amounts_exact(stream, service):
    """What no float means is a Decimal."""

    async def run():
        await service.initialize()
        return await service.get_governance_status(**WHO)

    stream.budgets.put(AGENT, monthly("999999999.000000001"))
    assert asyncio.run(run())["budget"]["monthly_budget_usd"] == Decimal("999999999.000000001")


@pytest.mark.parametrize(
    "settings",
    [
        {"ready_timeout_s": 0},
        {"ready_timeout_s": math.nan},
        {"on_not_ready": "wait"},
        {"stale_after_s": -1},
        {"bootstrap_servers": "nowhere:at:all"},
    ],
)
def test_settings_that_cannot_be_are_refused(settings):
    """When the service is made, not when it connects."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        GovernanceService(**settings)


def test_a_gateway_comes_with_its_emitter_and_without_settings(stream):
    """Anything else would be ignored."""
    for wrong in (
        {"gateway": stream.gateway},
        {"emitter": stream.emitter},
        {"gateway": stream.gateway, "emitter": stream.emitter, "on_not_ready": "block"},
        {"gateway": stream.gateway, "emitter": stream.emitter, "bootstrap_servers": "a:1"},
    ):
        with pytest.raises(ValueError, match="gateway"):
            GovernanceService(**wrong)


def test_the_environment_is_read_when_it_is_made(monkeypatch):
    """A bad value is an error with the variable's name."""
    monkeypatch.setenv("OUTLAY_STALE_AFTER_S", "never")
    with pytest.raises(ValueError, match="OUTLAY_STALE_AFTER_S"):
        GovernanceService()


def test_the_stand_ins_are_of_the_types_that_the_service_takes(stream):
    """So that what holds for them here holds for the real ones."""
    assert isinstance(stream.gateway, BudgetGateway)
    assert isinstance(stream.emitter, UsageEmitter)


@pytest.mark.parametrize("name", ["team_id", "user_id", "provider", "model"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 5, True])
def test_a_name_that_is_no_text_is_refused_and_not_left_out(stream, service, name, value):
    """What a table has where nothing is, say: the usage would count without its user."""
    asyncio.run(service.initialize())
    with pytest.raises(ValueError):
        asyncio.run(service.record_invocation_cost("a", "acme", 1, True, **{name: value}))
    assert not stream.records
