"""The contract of usage: what is emitted counts, exactly, and what becomes of the rest."""

import asyncio
from datetime import timedelta
from decimal import Decimal

from outlay import Amounts, Budget, Scope, UsageRecord
from tests.testing.world import DOLLAR, NANO, used


class UsageContract:
    """What a `UsageEmitter` promises, and the stream behind it."""

    def test_usage_counts_exactly_in_all_five_scopes(self, world, org):
        """Ten times 0.1 is 1, for the day and for the month."""
        scopes = [
            Scope(org),
            Scope(org, team_id="t"),
            Scope(org, user_id="u"),
            Scope(org, team_id="t", user_id="u"),
            Scope(org, agent_id="a"),
        ]
        for scope in scopes:
            world.budgets.put(scope, Budget(monthly_budget_usd=Decimal(100)))
        for _ in range(10):
            world.emitter.emit(
                organization_id=org, team_id="t", user_id="u", agent_id="a", cost_usd=0.1,
                input_tokens=7, output_tokens=3,
            )  # fmt: skip
        world.emitter.emit(
            organization_id=org, team_id="t", agent_id="b", cost_usd="0.000000001", executions=2
        )
        world.settle()
        all_of_a = Amounts(NANO, 10, 70, 30)
        with_b = Amounts(NANO + 1, 12, 70, 30)
        for window in ("day", "month"):
            assert [used(world, scope, window) for scope in scopes] == [
                with_b, with_b, all_of_a, all_of_a, all_of_a,
            ]  # fmt: skip

    def test_usage_counts_when_it_occurred(self, world, org):
        """What is of a day two months ago is of neither the current day nor the month."""
        world.budgets.put(Scope(org), DOLLAR)
        long_ago = world.now - timedelta(days=62)
        world.emitter.emit(organization_id=org, agent_id="a", cost_usd=5, occurred_at=long_ago)
        world.emitter.emit(organization_id=org, agent_id="a", cost_usd="0.25")
        world.settle()
        assert used(world, Scope(org)) == Amounts(NANO // 4, 1)

    def test_a_correction_takes_back(self, world, org):
        """And may be negative, which usage may not."""
        world.budgets.put(Scope(org), DOLLAR)
        report = {"organization_id": org, "agent_id": "a"}
        world.emitter.emit(**report, cost_usd="0.75", input_tokens=100)
        world.emitter.emit(
            **report, cost_usd="-0.50", input_tokens=-40, executions=0, kind="correction"
        )
        world.settle()
        assert used(world, Scope(org)) == Amounts(NANO // 4, 1, 60)

    def test_invalid_records_are_counted_and_the_others_arrive(self, world, org):
        """`emit` takes all of them and raises for none."""
        world.budgets.put(Scope(org), DOLLAR)
        with world.new_emitter() as emitter:
            good = {"organization_id": org, "agent_id": "a", "cost_usd": "0.5"}
            bad = [
                good | {"cost_usd": "-1"},
                good | {"cost_usd": float("nan")},
                good | {"organization_id": ""},
                good | {"occurred_at": world.now.replace(tzinfo=None)},
                good | {"colour": "red"},
                good | {"id": "x"},
                {"organization_id": org},
            ]
            assert all(emitter.emit(**fields) for fields in [*bad, good])
            assert emitter.emit("no record")
            assert emitter.flush()
            stats = emitter.stats
        world.settle()
        assert (stats.invalid, stats.sent) == (len(bad) + 1, 1)
        assert used(world, Scope(org)) == Amounts(NANO // 2, 1)

    def test_what_is_dated_far_ahead_is_sent_and_does_not_count(self, world, org):
        """The stream judges dates, by the message's own."""
        world.budgets.put(Scope(org), DOLLAR)
        ahead = world.now + timedelta(days=2)
        world.emitter.emit(organization_id=org, agent_id="a", cost_usd=9, occurred_at=ahead)
        world.emitter.emit(organization_id=org, agent_id="a", cost_usd="0.5")
        world.settle()
        world.budgets.patch(Scope(org), {"daily_execution_limit": 5})  # decided once more
        windows = world.feed.decisions[Scope(org).key].decision.windows.values()
        assert {usage.amounts for usage in windows} == {Amounts(NANO // 2, 1)}

    def test_a_record_is_sent_as_it_is(self, world, org):
        """With its id; source and sequence are filled in where it has none."""
        told = []
        record = UsageRecord.new(organization_id=org, agent_id="a", cost_usd=1, metadata={"k": 1})
        foreign = UsageRecord.new(
            organization_id=org, agent_id="a", cost_usd=1, source="s", sequence=9
        )
        with world.new_emitter(on_delivered=told.append, source="mine") as emitter:
            emitter.emit(record)
            emitter.emit(foreign)
            emitter.emit(organization_id=org, agent_id="a", cost_usd=1)
        sent = [each for details in told for each in details.records]
        assert [(each.source, each.sequence) for each in sent] == [
            ("mine", 1), ("s", 9), ("mine", 2),
        ]  # fmt: skip
        assert sent[0].id == record.id
        assert bytes(sent[0].metadata) == b'{"k":1}'
        assert sent[1] == foreign

    def test_deliveries_are_told_with_growing_offsets(self, world, org):
        """Each record once, an agent's in order and in one partition."""
        told = []
        with world.new_emitter(on_delivered=told.append) as emitter:
            for number in range(20):
                emitter.emit(
                    organization_id=org, agent_id=f"a{number % 3}", cost_usd=0, input_tokens=number
                )
                if number % 7 == 0:
                    emitter.flush()
        by_agent, last = {}, {}
        for details in told:
            assert details.offset > last.get(details.partition, -1)
            last[details.partition] = details.offset
            for record in details.records:
                by_agent.setdefault(record.agent_id, []).append(
                    (details.partition, record.input_tokens)
                )
        for agent, seen in by_agent.items():
            assert len({partition for partition, _ in seen}) == 1
            assert [number for _, number in seen] == list(range(int(agent[1]), 20, 3))

    def test_closing_delivers_and_then_all_is_dropped(self, world, org):
        """And the numbers add up at every moment."""
        world.budgets.put(Scope(org), DOLLAR)
        emitter = world.new_emitter()
        report = {"organization_id": org, "agent_id": "a", "cost_usd": "0.125"}
        assert all(emitter.emit(**report) for _ in range(4))
        assert emitter.emit(**report | {"cost_usd": "?"})
        stats = emitter.stats
        assert stats.emitted == 5 == stats.sent + stats.invalid + stats.buffered
        assert emitter.close()
        assert not emitter.emit(**report)
        assert emitter.close()
        assert emitter.flush()
        stats = emitter.stats
        assert (stats.emitted, stats.sent, stats.invalid, stats.dropped) == (6, 4, 1, 1)
        assert stats.failed == stats.buffered == 0
        world.settle()
        assert used(world, Scope(org)) == Amounts(NANO // 2, 4)

    def test_emitters_are_used_in_event_loops_alike(self, world, org):
        """`async with`, `aflush`, `aclose`."""

        async def main():
            async with world.new_emitter() as emitter:
                emitter.emit(organization_id=org, agent_id="a", cost_usd=1)
                assert await emitter.aflush()
                assert emitter.stats.sent == 1
            assert await emitter.aclose()
            assert not emitter.emit(organization_id=org, agent_id="a", cost_usd=1)

        asyncio.run(main())
