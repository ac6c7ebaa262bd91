"""The store in memory: scopes apart, periods half-open, nothing forgotten."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from outlay import OutlayError
from outlay.governance import (
    BudgetScope,
    BudgetStore,
    BudgetStoreFull,
    BudgetUsageRecord,
    ExternalAgentBudget,
    InMemoryBudgetStore,
    PeriodUsage,
)
from tests.governance.clocks import NOW, Clock

ORGANIZATION = BudgetScope("acme")
HOUR = timedelta(hours=1)


def record(cost=1.0, scope=ORGANIZATION, agent_id="a", timestamp=NOW, **fields):
    return BudgetUsageRecord("i", agent_id, scope, cost=cost, timestamp=timestamp, **fields)


def used(store, scope=ORGANIZATION, agent_id="a", start=NOW, end=NOW + HOUR):
    return asyncio.run(store.get_period_usage(agent_id, scope, start, end))


def keep(store, *records):
    async def keep_all():
        for each in records:
            await store.record_usage(each)

    asyncio.run(keep_all())


def test_it_is_a_budget_store():
    """By the protocol that a store of one's own follows."""
    assert isinstance(InMemoryBudgetStore(), BudgetStore)


def test_scopes_and_agents_are_apart():
    """Any pair is kept as it is, and none counts in another."""
    store = InMemoryBudgetStore()
    scopes = [
        ORGANIZATION,
        BudgetScope("acme", "t"),
        BudgetScope("acme", user_id="t"),
        BudgetScope("acme", "t", "u"),
        BudgetScope("acme", "t", "u", "a"),
        BudgetScope("other"),
    ]
    places = [(agent, scope) for agent in ("a", "b") for scope in scopes]
    budgets = [ExternalAgentBudget(agent, 1.0) for agent, _ in places]
    for cost, ((agent, scope), budget) in enumerate(zip(places, budgets, strict=True), 1):
        keep(store, record(cost, scope, agent))
        asyncio.run(store.update_budget(agent, scope, budget))
    for cost, ((agent, scope), budget) in enumerate(zip(places, budgets, strict=True), 1):
        assert used(store, scope, agent).cost == cost
        assert asyncio.run(store.get_budget(agent, scope)) is budget
    assert asyncio.run(store.get_budget("c", ORGANIZATION)) is None
    assert used(store, agent_id="c") == PeriodUsage()


def test_a_budget_is_kept_itself():
    """What is counted on it is seen by whoever gets it."""
    store, budget = InMemoryBudgetStore(), ExternalAgentBudget("a", 1.0)
    asyncio.run(store.update_budget("a", ORGANIZATION, budget))
    budget.monthly_spent_usd = 0.5
    assert asyncio.run(store.get_budget("a", ORGANIZATION)).monthly_spent_usd == 0.5


def test_a_period_is_half_open():
    """Its start counts, its end does not, in whichever zone they are said."""
    store = InMemoryBudgetStore()
    berlin = ZoneInfo("Europe/Berlin")
    for cost, minutes in ((1, -1), (10, 0), (100, 59), (1000, 60)):
        keep(store, record(cost, timestamp=NOW + timedelta(minutes=minutes)))
    assert used(store).cost == 110
    assert used(store, start=NOW.astimezone(berlin), end=(NOW + HOUR).astimezone(berlin)) == used(
        store
    )
    assert used(store, end=NOW) == PeriodUsage()
    with pytest.raises(ValueError, match="start must not be after end"):
        used(store, end=NOW - HOUR)


def test_an_hour_that_the_clock_shows_twice_is_two_hours():
    """Local times of one zone do not compare as instants do."""
    berlin = ZoneInfo("Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=berlin)
    second = first.replace(fold=1)
    store = InMemoryBudgetStore()
    keep(store, record(1, timestamp=first), record(10, timestamp=second))
    boundary = datetime(2026, 10, 25, 2, 0, tzinfo=berlin, fold=1)
    assert used(store, start=boundary, end=boundary.replace(hour=3)).cost == 10


def test_all_is_summed_exactly():
    """In integers, whatever the costs were given as."""
    store = InMemoryBudgetStore()
    for cost in (0.1, 0.2, "0.3", 1):
        keep(store, record(cost, input_tokens=3, output_tokens=2, success=cost != 1))
    keep(store, record(0, tokens_used=7))
    assert used(store) == PeriodUsage(1.6, 27, 5, 12, 8, 1)
    assert isinstance(used(store).cost, float)
    keep(store, record(Decimal("0.4")))
    assert used(store).cost == 2
    assert isinstance(used(store).cost, Decimal)


def test_a_reset_begins_the_present_period_anew_and_erases_nothing():
    """What came after counts, also with an earlier timestamp; other periods stay as they are."""
    clock = Clock(NOW + timedelta(minutes=10))
    store = InMemoryBudgetStore(clock=clock)
    other = BudgetScope("other")
    keep(store, record(1, timestamp=NOW - HOUR), record(2), record(4, other))
    asyncio.run(store.reset_period_usage("a", ORGANIZATION))
    assert used(store) == PeriodUsage()
    keep(store, record(8), record(16, timestamp=NOW + timedelta(minutes=20)))
    assert used(store).cost == 24
    assert used(store, start=NOW - HOUR, end=NOW).cost == 1
    assert used(store, start=NOW + timedelta(minutes=15)).cost == 16
    assert used(store, other).cost == 4
    clock.move(minutes=5)
    asyncio.run(store.reset_period_usage("a", ORGANIZATION))
    assert used(store) == PeriodUsage()
    assert used(store, end=NOW + timedelta(minutes=12)).cost == 8  # between the two
    assert [each.cost for each in store.records("a", ORGANIZATION)] == [1, 2, 8, 16]
    assert store.records("b", ORGANIZATION) == []


def test_a_full_store_refuses_and_forgets_nothing():
    """Loudly; a budget that it has can still be changed."""
    store = InMemoryBudgetStore(records_max=3)
    asyncio.run(store.update_budget("a", ORGANIZATION, ExternalAgentBudget("a", 1.0)))
    keep(store, record(), record())
    for more in (
        store.record_usage(record()),
        store.update_budget("b", ORGANIZATION, ExternalAgentBudget("b", 1.0)),
        store.reset_period_usage("a", ORGANIZATION),
    ):
        with pytest.raises(BudgetStoreFull, match="keeps 3 records"):
            asyncio.run(more)
    assert issubclass(BudgetStoreFull, OutlayError)
    asyncio.run(store.update_budget("a", ORGANIZATION, ExternalAgentBudget("a", 2.0)))
    assert used(store).cost == 2
    assert asyncio.run(store.get_budget("b", ORGANIZATION)) is None


def test_threads_lose_no_record():
    """Each from an event loop of its own."""
    store = InMemoryBudgetStore()

    def work():
        keep(store, *[record("0.000000001")] * 500)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert used(store) == PeriodUsage(0.000002, 0, 2_000)


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.get_budget("", ORGANIZATION),
        lambda store: store.get_budget("a", "org:acme"),
        lambda store: store.update_budget("a", ORGANIZATION, None),
        lambda store: store.record_usage({"cost": 1}),
        lambda store: store.reset_period_usage(None, ORGANIZATION),
        lambda store: store.get_period_usage("a", None, NOW, NOW),
        lambda store: store.get_period_usage("a", ORGANIZATION, NOW.replace(tzinfo=None), NOW),
        lambda store: store.get_period_usage("a", ORGANIZATION, NOW, "later"),
    ],
)
def test_what_it_cannot_keep_is_refused(ask):
    """It never accepts and ignores."""
    with pytest.raises(ValueError, match=r"must|needs|takes"):
        asyncio.run(ask(InMemoryBudgetStore()))


@pytest.mark.parametrize("records_max", [0, -1, 1.5, True])
def test_a_bound_is_at_least_one(records_max):
    """And a whole number."""
    with pytest.raises(ValueError, match="records_max"):
        InMemoryBudgetStore(records_max=records_max)


@pytest.mark.parametrize(
    "wrong",
    [
        {"invocation_id": ""},
        {"agent_id": None},
        {"scope": "acme"},
        {"tokens_used": -1},
        {"tokens_used": 4, "input_tokens": 3, "output_tokens": 2},
        {"cost": -0.1},
        {"cost": float("nan")},
        {"success": "yes"},
        {"timestamp": NOW.replace(tzinfo=None)},
        {"metadata": 5},
        {"input_tokens": 1.5},
        {"output_tokens": True},
        {"provider": ""},
        {"model": 5},
    ],
)
def test_what_no_invocation_can_have_used_is_refused(wrong):
    """When the record is made."""
    with pytest.raises(ValueError):
        BudgetUsageRecord(
            **{"invocation_id": "i", "agent_id": "a", "scope": ORGANIZATION, "timestamp": NOW}
            | wrong
        )


def test_a_record_has_defaults_and_a_time_of_its_own():
    """By position as users know it: invocation, agent, scope, tokens, cost, success, time."""
    before = datetime.now(UTC)
    plain = BudgetUsageRecord("i", "a", ORGANIZATION)
    assert before <= plain.timestamp <= datetime.now(UTC)
    assert (plain.tokens_used, plain.cost, plain.success, plain.metadata) == (0, 0.0, True, {})
    assert BudgetUsageRecord("i", "a", ORGANIZATION, 5, 0.5, False, NOW, {"k": 1}) == (
        BudgetUsageRecord(
            invocation_id="i",
            agent_id="a",
            scope=ORGANIZATION,
            tokens_used=5,
            cost=0.5,
            success=False,
            timestamp=NOW,
            metadata={"k": 1},
        )
    )
    assert (
        BudgetUsageRecord("i", "a", ORGANIZATION, input_tokens=3, output_tokens=2).tokens_used == 5
    )
