"""The contract of what a process knows by itself: its own spend, and what it has reserved."""

import asyncio
import contextlib
from decimal import Decimal

import pytest

from outlay import Budget, BudgetExceededError, ReservationClosed, Scope
from tests.testing.world import DOLLAR


@contextlib.contextmanager
def paused(world):
    """Nothing is decided meanwhile."""
    world.pause()
    try:
        yield
    finally:
        world.resume()


def monthly(world, org):
    """The explanation of an organization's monthly limit in USD: used, own, reserved, remaining."""
    explanation = world.gateway.explain(organization_id=org, estimated_cost_usd=0)
    limit = explanation.scopes[0].limits[0]
    assert (limit.kind, limit.window) == ("cost", f"{world.now:%Y-%m}")
    return limit.used, limit.own, limit.reserved, limit.remaining


def usd(*amounts):
    return tuple(Decimal(amount) for amount in amounts)


class OwnSpendContract:
    """What a `BudgetGateway` with an emitter promises beside the decisions."""

    def test_own_spend_counts_at_once_and_then_once(self, world, org):
        """Before any decision contains it, and no more when one does."""
        world.budgets.put(Scope(org), DOLLAR)
        with paused(world):
            world.emitter.emit(organization_id=org, agent_id="a", cost_usd="0.6")
            result = world.gateway.check(organization_id=org, estimated_cost_usd="0.5")
            assert not result.allowed
            assert "$0.60 used + $0.50 asked > $1.00 limit" in result.reason
            assert result.remaining_usd == Decimal("0.4")
            assert monthly(world, org) == usd("0", "0.6", "0", "0.4")
            assert world.emitter.flush()
            assert monthly(world, org) == usd("0", "0.6", "0", "0.4")
        world.settle()
        assert monthly(world, org) == usd("0.6", "0", "0", "0.4")
        assert world.gateway.check(organization_id=org, estimated_cost_usd="0.4").allowed
        assert not world.gateway.check(organization_id=org, estimated_cost_usd="0.41").allowed

    def test_own_spend_counts_once_at_every_moment(self, world, org):
        """Whichever part of it the decisions contain by then."""
        world.budgets.put(Scope(org), Budget(monthly_budget_usd=Decimal(10)))
        for number in range(1, 201):
            world.emitter.emit(
                organization_id=org, agent_id=f"a{number % 5}", cost_usd="0.01", input_tokens=1
            )
            used, own, _, remaining = monthly(world, org)
            assert used + own == Decimal(number) / 100
            assert remaining == 10 - Decimal(number) / 100
            result = world.gateway.check(organization_id=org, estimated_cost_usd=0)
            assert result.remaining_usd == remaining
        world.settle()
        assert monthly(world, org) == usd("2", "0", "0", "8")

    def test_spend_of_others_counts_when_it_is_decided(self, world, org):
        """A gateway cannot know it before."""
        world.budgets.put(Scope(org), DOLLAR)
        with paused(world):
            with world.new_emitter() as other:
                other.emit(organization_id=org, agent_id="a", cost_usd=1)
            assert world.gateway.check(organization_id=org, estimated_cost_usd=1).allowed
        world.settle()
        assert not world.gateway.check(organization_id=org).allowed

    def test_what_gives_back_counts_when_it_is_decided(self, world, org):
        """A correction below zero makes no room before."""
        world.budgets.put(Scope(org), DOLLAR)
        world.emitter.emit(organization_id=org, agent_id="a", cost_usd="0.9")
        world.settle()
        with paused(world):
            world.emitter.emit(
                organization_id=org, agent_id="a", cost_usd="-0.5", executions=0, kind="correction"
            )
            assert monthly(world, org) == usd("0.9", "0", "0", "0.1")
        world.settle()
        assert monthly(world, org) == usd("0.4", "0", "0", "0.6")

    def test_what_is_invalid_counts_for_nothing(self, world, org):
        """As soon as it is found to be."""
        world.budgets.put(Scope(org), DOLLAR)
        world.emitter.emit(
            organization_id=org, agent_id="a", cost_usd="0.7", metadata={"k": "x" * 20_000}
        )
        assert world.emitter.flush()
        assert monthly(world, org) == usd("0", "0", "0", "1")

    # -- reservations

    def test_a_reservation_counts_until_it_is_settled(self, world, org):
        """Then what the call has really used does, once."""
        world.budgets.put(Scope(org), DOLLAR)
        call = {"organization_id": org, "agent_id": "a"}
        with paused(world):
            reservation = world.gateway.reserve(**call, estimated_cost_usd="0.6")
            assert (reservation.result.allowed, reservation.state) == (True, "open")
            assert monthly(world, org) == usd("0", "0", "0.6", "0.4")
            with pytest.raises(BudgetExceededError, match="monthly budget exceeded") as blocked:
                world.gateway.reserve(**call, estimated_cost_usd="0.5")
            assert not blocked.value.result.allowed
            assert reservation.settle("0.25", input_tokens=3, model="m")
            assert reservation.state == "settled"
            assert monthly(world, org) == usd("0", "0.25", "0", "0.75")
        world.settle()
        assert monthly(world, org) == usd("0.25", "0", "0", "0.75")
        with pytest.raises(ReservationClosed):
            reservation.settle("0.25")
        assert not reservation.release()
        assert world.feed.decisions[Scope(org).key].decision.windows

    def test_a_block_that_is_left_gives_back(self, world, org):
        """Unless it was settled; with `with` and `async with` alike."""
        world.budgets.put(Scope(org), DOLLAR)
        call = {"organization_id": org, "agent_id": "a", "estimated_cost_usd": "0.9"}
        with world.gateway.reserve(**call) as reservation:
            assert monthly(world, org)[2:] == usd("0.9", "0.1")
        assert reservation.state == "released"
        with pytest.raises(KeyError), world.gateway.reserve(**call):
            raise KeyError
        assert monthly(world, org) == usd("0", "0", "0", "1")

        async def main():
            async with world.gateway.reserve(**call) as reservation:
                reservation.settle("0.5")
            return reservation.state

        assert asyncio.run(main()) == "settled"
        used, own, reserved, remaining = monthly(world, org)
        assert (used + own, reserved, remaining) == usd("0.5", "0", "0.5")
        world.settle()
        assert monthly(world, org) == usd("0.5", "0", "0", "0.5")

    def test_a_reservation_expires(self, world, org):
        """What it held is free then; that it can still be settled loses no money."""
        world.budgets.put(Scope(org), DOLLAR)
        call = {"organization_id": org, "agent_id": "a"}
        reservation = world.gateway.reserve(**call, estimated_cost_usd=1, expires_s=0.4)
        assert not world.gateway.check(**call).allowed
        world.let_pass(0.5)
        assert world.gateway.check(**call, estimated_cost_usd=1).allowed
        assert reservation.state == "expired"
        assert reservation.settle("0.3")
        world.settle()
        assert monthly(world, org) == usd("0.3", "0", "0", "0.7")

    def test_checks_and_open_reservations_are_counted(self, world, org):
        """A reservation is a check, too."""
        world.budgets.put(Scope(org), Budget(monthly_budget_usd=Decimal(0)))
        before = world.gateway.stats
        world.gateway.check(organization_id=org)
        with world.gateway.reserve(organization_id=org, agent_id="a", estimated_cost_usd=0):
            stats = world.gateway.stats
        assert (
            stats.checks - before.checks,
            stats.blocked - before.blocked,
            stats.reservations - before.reservations,
        ) == (2, 1, 1)
        assert world.gateway.stats.reservations == before.reservations

    def test_a_guarded_function_reserves_and_settles(self, world, org):
        """It is not called where a budget blocks."""
        world.budgets.put(Scope(org), DOLLAR)
        calls = []

        @world.gateway.guard(
            organization_id=org,
            agent_id="a",
            estimated_cost_usd=lambda cost: cost,
            actual=lambda cost: cost,
        )
        def spend(cost):
            calls.append(monthly(world, org)[2])
            return cost

        assert spend(Decimal("0.6")) == Decimal("0.6")
        with pytest.raises(BudgetExceededError):
            spend(Decimal("0.6"))
        assert calls == [Decimal("0.6")]
        world.settle()
        assert monthly(world, org) == usd("0.6", "0", "0", "0.4")

    # -- explanations

    def test_an_explanation_has_the_numbers_of_each_scope(self, world, org):
        """And the answer that a check would give."""
        world.budgets.put(
            Scope(org, team_id="t"),
            Budget(monthly_budget_usd=Decimal(1), daily_execution_limit=5, on_stale="block"),
        )
        call = {"organization_id": org, "team_id": "t", "agent_id": "a"}
        world.emitter.emit(**call, cost_usd="0.95")
        world.settle()
        explanation = world.gateway.explain(**call, estimated_cost_usd="0.10")
        assert explanation.result == world.gateway.check(**call, estimated_cost_usd="0.10")
        organization, team, agent = explanation.scopes
        assert (organization.scope, organization.version) == (Scope(org).key, None)
        assert (agent.scope, agent.allowed) == (Scope(org, agent_id="a").key, True)
        assert (team.scope, team.version, team.state) == (
            Scope(org, team_id="t").key,
            1,
            "degraded",
        )
        assert (team.allowed, team.degraded, team.stale) == (False, True, False)
        assert (team.enforcement_mode, team.on_stale) == ("hard", "block")
        cost, executions = team.limits
        assert (cost.used, cost.asked, cost.remaining) == usd("0.95", "0.10", "0.05")
        assert (executions.window, executions.kind) == (f"{world.now:%Y-%m-%d}", "executions")
        assert (executions.used, executions.asked, executions.remaining) == (1, 1, 4)
