"""The contract of decisions and checks: by what other processes have used."""

from decimal import Decimal

import pytest

from outlay import Budget, Scope
from tests.testing.world import DOLLAR, IMPATIENT_S


class ChecksContract:
    """What a `DecisionFeed` and a `BudgetGateway` promise."""

    def test_states_follow_what_was_used(self, world, org):
        """Warning, degradation and the limit itself are at the line."""
        world.budgets.put(Scope(org), DOLLAR)
        states = []
        for cost in ("0.74", "0.01", "0.15", "0.099999999", "0.000000001"):
            world.emitter.emit(organization_id=org, agent_id="a", cost_usd=cost)
            world.settle()
            states.append(world.feed.decisions[Scope(org).key].decision.state)
        assert states == ["ok", "warning", "degraded", "degraded", "exceeded"]

    def test_decisions_say_which_messages_they_contain(self, world, org):
        """Each by itself, and the watermark of its partition."""
        world.budgets.put(Scope(org), DOLLAR)
        told = []
        with world.new_emitter(on_delivered=told.append) as emitter:
            for number in range(12):
                emitter.emit(organization_id=org, agent_id=f"a{number}", cost_usd="0.01")
        world.settle()
        known = world.feed.decisions[Scope(org).key]
        ends = {details.partition: details.offset for details in told}
        assert len(ends) > 1
        for contained in (
            known.decision.windows[f"{world.now:%Y-%m-%d}"].offsets,
            known.decision.windows[f"{world.now:%Y-%m}"].offsets,
            world.feed.watermark(known.partition).offsets,
        ):
            assert all(contained[partition] >= offset for partition, offset in ends.items())

    def test_listeners_are_told_of_decisions(self, world, org):
        """Of new numbers, and that there is no budget any more."""
        told = []

        def listen(key, decision):
            if key == Scope(org).key:
                told.append(decision and (decision.version, decision.state))

        world.feed.add_listener(listen)
        try:
            world.budgets.put(Scope(org), DOLLAR)
            world.emitter.emit(organization_id=org, agent_id="a", cost_usd=1)
            world.settle()
            world.budgets.delete(Scope(org))
        finally:
            world.feed.remove_listener(listen)
        assert list(dict.fromkeys(told)) == [(1, "ok"), (1, "exceeded"), None]

    def test_a_scope_without_a_budget_is_allowed(self, world, org):
        """With nothing to say."""
        result = world.gateway.check(organization_id=org, agent_id="a", estimated_cost_usd=10**6)
        assert result.allowed
        assert (result.state, result.reason, result.scope, result.stale) == ("ok", "", "", False)
        assert result.remaining_usd is None

    def test_a_call_that_lands_on_the_limit_is_allowed(self, world, org):
        """One nano-dollar more is not, and the reason says scope, window and amounts."""
        world.budgets.put(Scope(org, team_id="t"), DOLLAR)
        for _ in range(5):
            world.emitter.emit(organization_id=org, team_id="t", agent_id="a", cost_usd=0.1)
        world.settle()
        call = {"organization_id": org, "team_id": "t", "agent_id": "a"}
        result = world.gateway.check(**call, estimated_cost_usd="0.5")
        assert (result.allowed, result.remaining_usd) == (True, Decimal("0.5"))
        result = world.gateway.check(**call, estimated_cost_usd="0.500000001")
        assert (result.allowed, result.state, result.degraded) == (False, "ok", False)
        assert result.scope == f"organization:{org}/team:t"
        assert result.reason == (
            f"organization:{org}/team:t in {world.now:%Y-%m}: "
            "monthly budget exceeded: $0.50 used + $0.50 asked > $1.00 limit"
        )

    def test_warnings_and_degradation_are_said(self, world, org):
        """They allow, and the strictest scope has the word."""
        world.budgets.put(Scope(org), DOLLAR)
        world.emitter.emit(organization_id=org, agent_id="a", cost_usd="0.80")
        world.settle()
        result = world.gateway.check(organization_id=org, agent_id="a", estimated_cost_usd=0)
        assert (result.allowed, result.state, result.degraded) == (True, "warning", False)
        assert result.reason.endswith("warning, $0.80 used of a monthly budget of $1.00")
        world.budgets.put(Scope(org, agent_id="a"), Budget(daily_budget_usd=Decimal("0.85")))
        result = world.gateway.check(organization_id=org, agent_id="a", estimated_cost_usd=0)
        assert (result.allowed, result.state, result.degraded) == (True, "degraded", True)
        assert result.scope == Scope(org, agent_id="a").key
        assert result.remaining_usd == Decimal("0.05")

    def test_a_soft_budget_degrades_and_never_blocks(self, world, org):
        """Also when it is overspent."""
        world.budgets.put(
            Scope(org), Budget(monthly_budget_usd=Decimal(1), enforcement_mode="soft")
        )
        world.emitter.emit(organization_id=org, agent_id="a", cost_usd="1.50")
        world.settle()
        result = world.gateway.check(organization_id=org, estimated_cost_usd="0.10")
        assert (result.allowed, result.degraded, result.state) == (True, True, "exceeded")
        assert "$1.50 used + $0.10 asked > $1.00 limit" in result.reason
        assert result.remaining_usd == Decimal("-0.50")

    def test_tokens_and_executions_have_limits(self, world, org):
        """Each kind by itself, and input and output together."""
        world.budgets.put(
            Scope(org),
            Budget(daily_token_limit=100, monthly_input_token_limit=90, daily_execution_limit=3),
        )
        world.emitter.emit(
            organization_id=org, agent_id="a", cost_usd=0, input_tokens=30, output_tokens=10
        )
        world.settle()

        def reason(**asked):
            return world.gateway.check(organization_id=org, **asked).reason.partition(": ")[2]

        assert reason(estimated_input_tokens=60) == ""
        assert reason(estimated_input_tokens=50, estimated_output_tokens=11) == (
            "daily token limit exceeded: 40 used + 61 asked > 100 limit"
        )
        assert reason(estimated_input_tokens=61).startswith("daily token limit exceeded")
        world.budgets.patch(Scope(org), {"daily_token_limit": None})
        assert reason(estimated_input_tokens=61) == (
            "monthly input token limit exceeded: 30 used + 61 asked > 90 limit"
        )
        assert reason(executions=2) == ""
        assert reason(executions=3) == (
            "daily execution limit exceeded: 1 used + 3 asked > 3 limit"
        )

    def test_zero_blocks_whatever_would_add_to_it(self, world, org):
        """And nothing else."""
        world.budgets.put(Scope(org), Budget(monthly_budget_usd=Decimal(0)))
        assert not world.gateway.check(organization_id=org).allowed
        assert world.gateway.check(organization_id=org, estimated_cost_usd=0).allowed

    def test_what_cannot_be_asked_is_an_error(self, world, org):
        """At once, whatever is known."""
        for call in (
            {"organization_id": ""},
            {"organization_id": org, "estimated_cost_usd": "-1"},
            {"organization_id": org, "estimated_cost_usd": float("inf")},
            {"organization_id": org, "executions": -1},
        ):
            with pytest.raises(ValueError):
                world.gateway.check(**call)

    def test_silence_makes_the_answers_stale(self, world, org):
        """Then a budget's `on_stale` has the word, until the decisions go on."""
        call = {"organization_id": org, "team_id": "t", "estimated_cost_usd": "0.1"}
        world.budgets.put(Scope(org, team_id="t"), DOLLAR)
        world.settle()
        assert not world.impatient_gateway.check(**call).stale
        world.pause()
        try:
            world.let_pass(IMPATIENT_S + 0.5)
            result = world.impatient_gateway.check(**call)
            assert (result.allowed, result.stale) == (True, True)
        finally:
            world.resume()
        world.budgets.patch(Scope(org, team_id="t"), {"on_stale": "block"})
        world.settle()
        world.pause()
        try:
            world.let_pass(IMPATIENT_S + 0.5)
            result = world.impatient_gateway.check(**call)
            assert (result.allowed, result.stale) == (False, True)
            assert "no decisions for over 3 s" in result.reason
        finally:
            world.resume()
        world.budgets.patch(Scope(org), {"daily_execution_limit": 5})
        world.settle()
