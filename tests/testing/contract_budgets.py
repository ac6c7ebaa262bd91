"""The contract of budgets: set, changed, taken away and refused."""

import asyncio
from decimal import Decimal

import pytest

from outlay import Budget, BudgetRefused, Scope
from outlay.alert_config import AlertConfig
from tests.testing.world import DOLLAR


class BudgetsContract:
    """What a `BudgetClient` promises."""

    def test_put_sets_the_whole_budget(self, world, org):
        """The decision comes back, and is what the feed knows."""
        decision = world.budgets.put(Scope(org), DOLLAR)
        assert (decision.scope, decision.version, decision.budget) == (Scope(org).key, 1, DOLLAR)
        assert decision.state == "ok"
        assert world.feed.decisions[Scope(org).key].decision == decision
        other = Budget(daily_execution_limit=3)
        assert world.budgets.put(Scope(org).key, other).budget == other

    def test_patch_changes_the_fields_that_are_named(self, world, org):
        """It makes a budget where there is none, and None takes a limit away."""
        scope = Scope(org, team_id="t")
        assert world.budgets.patch(scope, {"daily_execution_limit": 7}).version == 1
        world.budgets.patch(scope, {"monthly_budget_usd": Decimal("2.50")})
        decision = world.budgets.patch(scope, {"daily_execution_limit": None})
        assert decision.version == 3
        assert decision.budget == Budget(monthly_budget_usd=Decimal("2.50"))

    def test_delete_takes_a_budget_away_and_versions_go_on(self, world, org):
        """A budget made after it is not taken for it."""
        world.budgets.put(Scope(org), Budget(monthly_budget_usd=Decimal(0)))
        assert not world.gateway.check(organization_id=org).allowed
        world.budgets.delete(Scope(org), expected_version=1)
        assert Scope(org).key not in world.feed.decisions
        assert world.gateway.check(organization_id=org).allowed
        assert world.budgets.put(Scope(org), DOLLAR, expected_version=0).version == 3

    def test_alerts_are_set_and_taken_away_under_the_budgets_version(self, world, org):
        """Only where there is a budget, which stays as it is."""
        scope, alerts = Scope(org), AlertConfig(cooldown_minutes=5)
        with pytest.raises(BudgetRefused, match="make one first"):
            world.budgets.put_alerts(scope, alerts)
        world.budgets.put(scope, DOLLAR)
        with pytest.raises(BudgetRefused, match="no alert configuration"):
            world.budgets.delete_alerts(scope)
        decision = world.budgets.put_alerts(scope, alerts, expected_version=1)
        assert (decision.version, decision.budget) == (2, DOLLAR)
        with pytest.raises(BudgetRefused, match="has version 2, not 1"):
            world.budgets.put_alerts(scope, alerts, expected_version=1)
        assert world.budgets.delete_alerts(scope).version == 3
        with pytest.raises(ValueError, match="takes an AlertConfig"):
            world.budgets.put_alerts(scope, {"cooldown_minutes": 5})
        asked = (asyncio.run(world.budgets.aput_alerts(scope, alerts)).version,)
        assert (*asked, asyncio.run(world.budgets.adelete_alerts(scope)).version) == (4, 5)

    def test_every_request_has_an_outcome(self, world, org):
        """With the version that the budget has after it; 0: there is none."""
        scope = Scope(org)
        world.budgets.put(scope, DOLLAR)
        world.budgets.delete(scope)
        with pytest.raises(BudgetRefused):
            world.budgets.delete(scope)
        world.budgets.put(scope, DOLLAR)
        outcomes = [each for each in world.feed.state.outcomes.values() if each.scope == scope.key]
        assert [(each.accepted, each.version) for each in outcomes] == [
            (True, 1), (True, 0), (False, 0), (True, 3),
        ]  # fmt: skip
        last = outcomes[-1].request_id
        assert world.feed.decisions[scope.key].decision.request_id == last
        assert world.feed.wait_outcome(last) == outcomes[-1]

    def test_a_request_id_is_carried_out_once(self, world, org):
        """Whoever asks again is told what became of the first, also after others asked."""
        scope, ids = Scope(org), [f"{org}-{number}" for number in range(3)]
        assert world.budgets.put(scope, DOLLAR, request_id=ids[0]).version == 1
        assert world.budgets.put(scope, DOLLAR, request_id=ids[0]).version == 1
        for _ in range(2):
            with pytest.raises(BudgetRefused, match="has version 1, not 9"):
                world.budgets.patch(
                    scope, {"on_stale": "block"}, expected_version=9, request_id=ids[1]
                )
        assert world.budgets.patch(scope, {"daily_token_limit": 5}).version == 2
        assert world.budgets.put(scope, DOLLAR, request_id=ids[0]).budget.daily_token_limit == 5
        for _ in range(2):
            world.budgets.delete(scope, request_id=ids[2])
        assert scope.key not in world.feed.decisions
        with pytest.raises(ValueError, match="a request id has 1 to 128 characters"):
            world.budgets.put(scope, DOLLAR, request_id="x" * 129)

    def test_a_refusal_says_why_and_changes_nothing(self, world, org):
        """With the version that the budget has."""
        scope = Scope(org)
        with pytest.raises(BudgetRefused) as refused:
            world.budgets.delete(scope)
        assert (refused.value.reason, refused.value.version) == (
            "there is no budget to delete",
            0,
        )
        world.budgets.put(scope, DOLLAR)
        with pytest.raises(BudgetRefused) as refused:
            world.budgets.put(scope, Budget(), expected_version=7)
        assert (refused.value.reason, refused.value.version) == (
            "the budget has version 1, not 7",
            1,
        )
        with pytest.raises(BudgetRefused, match="must not be above degradation_threshold"):
            world.budgets.patch(scope, {"warning_threshold": "0.95"})
        with pytest.raises(BudgetRefused, match="must not be negative"):
            world.budgets.patch(scope, {"monthly_budget_usd": "-1"})
        assert world.feed.decisions[scope.key].decision.budget == DOLLAR

    def test_what_cannot_be_asked_is_not_sent(self, world, org):
        """A `ValueError` at once."""
        with pytest.raises(ValueError, match="no field 'limit'"):
            world.budgets.patch(Scope(org), {"limit": 1})
        with pytest.raises(ValueError, match="put takes a Budget, not dict"):
            world.budgets.put(Scope(org), {})
        with pytest.raises(ValueError, match="not a scope"):
            world.budgets.put("acme", DOLLAR)
        assert Scope(org).key not in world.feed.decisions

    def test_coroutines_set_budgets_alike(self, world, org):
        """`aput`, `apatch`, `adelete`, with the same errors."""

        async def main():
            assert (await world.budgets.aput(Scope(org), DOLLAR)).version == 1
            decision = await world.budgets.apatch(Scope(org), {"on_stale": "block"})
            assert decision.budget.on_stale == "block"
            with pytest.raises(BudgetRefused):
                await world.budgets.adelete(Scope(org), expected_version=1)
            await world.budgets.adelete(Scope(org), expected_version=2)

        asyncio.run(main())
        assert Scope(org).key not in world.feed.decisions
