"""The stream-backed store, alone and under an enforcer."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay import Budget, BudgetRefused, FeedNotReady, OutlayError, Scope, Window
from outlay.budget import NOTHING
from outlay.governance import (
    BudgetScope,
    BudgetStore,
    BudgetUsageRecord,
    ExternalAgentBudget,
    ExternalAgentBudgetConfig,
    ExternalAgentBudgetEnforcer,
    LastPeriod,
    PeriodUsage,
    StreamBudgetStore,
)
from outlay.governance.answer import answer
from outlay.governance.mapping import stream_scope
from outlay.testing import InMemoryStream
from tests.governance_stream.conftest import NOW, monthly

AGENT = Scope("acme", agent_id="a")
ORGANIZATION = BudgetScope("acme")
SAME = (
    "allowed",
    "remaining_budget_usd",
    "remaining_executions",
    "usage_percentage",
    "degraded_mode",
    "warning_triggered",
)
DAY, MONTH = Window.day(NOW), Window.month(NOW)


@pytest.fixture
def store(stream):
    """A store over the stream in memory, which tells the time."""
    return StreamBudgetStore(stream.feed, stream.emitter, stream.budgets, clock=stream.clock.time)


def emit(stream, usd, **more):
    fields = {"organization_id": "acme", "agent_id": "a", "cost_usd": usd} | more
    assert stream.emitter.emit(**fields)


def usage(store, scope=ORGANIZATION, window=MONTH, agent="a"):
    return asyncio.run(store.get_period_usage(agent, scope, window.start, window.end))


def test_it_is_a_budget_store(store):
    """Every method of the protocol."""
    assert isinstance(store, BudgetStore)


@pytest.mark.parametrize(
    ("scope", "meant"),
    [
        (BudgetScope("acme"), AGENT),
        (BudgetScope("acme", agent_id="a"), AGENT),
        (BudgetScope("acme", "t"), Scope("acme", "t")),
        (BudgetScope("acme", user_id="u"), Scope("acme", user_id="u")),
        (BudgetScope("acme", "t", "u"), Scope("acme", "t", "u")),
    ],
)
def test_what_a_scope_means(stream, store, scope, meant):
    """The agent's own budget, or the team's, the user's, the member's: each apart from others."""
    assert stream_scope("a", scope) == meant
    for other in (AGENT, Scope("acme"), Scope("acme", "t"), Scope("acme", user_id="u")):
        stream.budgets.put(other, monthly(1))
    stream.budgets.put(meant, monthly(5))
    assert asyncio.run(store.get_budget("a", scope)).monthly_budget_usd == 5
    emit(stream, 2, team_id="t", user_id="u")
    emit(stream, 1, agent_id="b")
    assert usage(store, scope).cost == 2


@pytest.mark.parametrize(
    ("scope", "text"),
    [
        (BudgetScope("acme", "t", agent_id="a"), "no total of an agent within a team"),
        (BudgetScope("acme", None, "u", "a"), "no total of an agent within a team"),
        (BudgetScope("acme", agent_id="b"), "of the agent 'b', not of 'a'"),
        ("acme", "must be a BudgetScope"),
    ],
)
def test_scopes_without_totals_are_refused(store, scope, text):
    """By every method, with the reason."""
    for call in (
        store.get_budget("a", scope),
        store.update_budget("a", scope, ExternalAgentBudget("a", 1)),
        store.get_period_usage("a", scope, MONTH.start, MONTH.end),
        store.reset_period_usage("a", scope),
    ):
        with pytest.raises(ValueError, match=text):
            asyncio.run(call)


def test_a_budget_comes_with_its_limits_and_what_is_used(stream, store):
    """All limits, thresholds and modes, and the counts of the current windows."""
    limits = Budget(
        monthly_budget_usd=100,
        daily_budget_usd="0.123456789",
        monthly_execution_limit=50,
        daily_token_limit=1_000,
        monthly_input_token_limit=2_000,
        warning_threshold=0.5,
        degradation_threshold=0.6,
        enforcement_mode="soft",
        on_stale="block",
    )
    stream.budgets.put(AGENT, limits)
    emit(stream, "0.1", input_tokens=3, output_tokens=4)
    emit(stream, 7, occurred_at=NOW - timedelta(days=2), executions=2)
    budget = asyncio.run(store.get_budget("a", ORGANIZATION))
    assert (budget.external_agent_id, budget.scope) == ("a", ORGANIZATION)
    assert (budget.monthly_budget_usd, budget.daily_budget_usd) == (100, 0.123456789)
    assert (budget.monthly_execution_limit, budget.daily_execution_limit) == (50, None)
    assert (budget.daily_token_limit, budget.monthly_input_token_limit) == (1_000, 2_000)
    assert (budget.warning_threshold, budget.degradation_threshold) == (0.5, 0.6)
    assert (budget.enforcement_mode, budget.on_stale) == ("soft", "block")
    assert (budget.daily_spent_usd, budget.monthly_spent_usd) == (0.1, 7.1)
    assert (budget.daily_execution_count, budget.monthly_execution_count) == (1, 3)
    assert (budget.daily_input_tokens, budget.monthly_output_tokens) == (3, 4)
    assert budget.counted_at == NOW


def test_a_new_day_and_month_begin_with_nothing(stream, store):
    """By the store's clock, whatever the last decision was about."""
    stream.budgets.put(AGENT, monthly(100))
    emit(stream, 7)
    stream.stall()
    stream.clock.set(datetime(2026, 12, 1, tzinfo=UTC))
    budget = asyncio.run(store.get_budget("a", ORGANIZATION))
    assert (budget.daily_spent_usd, budget.monthly_spent_usd) == (0, 0)


def test_no_budget_is_none_and_not_known_is_an_error(store):
    """The two are not to be mixed up."""
    assert asyncio.run(store.get_budget("a", ORGANIZATION)) is None
    with InMemoryStream(NOW, broker_away=True) as away:
        store = StreamBudgetStore(away.feed, away.emitter, away.budgets)
        with pytest.raises(FeedNotReady):
            asyncio.run(store.get_budget("a", ORGANIZATION))
        now = Window.month(datetime.now(UTC))
        with pytest.raises(FeedNotReady):
            asyncio.run(store.get_period_usage("a", ORGANIZATION, now.start, now.end))


def test_a_stale_budget_goes_by_its_policy(stream, store):
    """One that blocks is not given out to be checked."""
    stream.budgets.put(AGENT, monthly(5, on_stale="block"))
    stream.budgets.put(Scope("acme", "t"), monthly(5))
    stream.stall()
    stream.clock.advance(seconds=11)
    with pytest.raises(FeedNotReady, match="no decisions for over 10 s"):
        asyncio.run(store.get_budget("a", ORGANIZATION))
    assert asyncio.run(store.get_budget("a", BudgetScope("acme", "t"))).monthly_budget_usd == 5


def test_an_update_is_in_force_when_it_returns(stream, store):
    """Every limit as given; what the class does not hold of the stream's budget stays."""
    stream.budgets.put(AGENT, Budget(daily_budget_usd=3, daily_output_token_limit=7))
    budget = ExternalAgentBudget(
        "a",
        Decimal("0.1"),
        daily_execution_limit=4,
        warning_threshold=0.7,
        enforcement_mode="soft",
        monthly_token_limit=9,
        on_stale="block",
    )
    asyncio.run(store.update_budget("a", ORGANIZATION, budget))
    put = stream.feed.decisions[AGENT.key].decision.budget
    assert put == Budget(
        monthly_budget_usd=Decimal("0.1"),
        monthly_execution_limit=10_000,  # the default of this class alone
        daily_execution_limit=4,
        monthly_token_limit=9,
        warning_threshold=0.7,
        enforcement_mode="soft",
        on_stale="block",
    )
    emit(stream, "0.05")
    found = asyncio.run(store.get_budget("a", ORGANIZATION))
    assert found.monthly_spent_usd == 0.05  # the stream has counted that: it is not sent
    found.monthly_budget_usd = 2
    asyncio.run(store.update_budget("a", ORGANIZATION, found))
    assert stream.feed.decisions[AGENT.key].decision.budget == put.changed(
        {"monthly_budget_usd": 2}
    )


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (ExternalAgentBudget("a", 1, metadata={"owner": "me"}), "metadata"),
        (ExternalAgentBudget("a", 1, cost_per_execution=0.5), "cost_per_execution"),
        (ExternalAgentBudget("a", 1, monthly_spent_usd=750), "leave monthly_spent_usd out"),
        (ExternalAgentBudget("a", 1, daily_execution_count=1), "leave daily_execution_count out"),
        (ExternalAgentBudget("a", 1, weekly_output_tokens=1), "leave weekly_output_tokens out"),
        (ExternalAgentBudget("a", 1, last_period=LastPeriod("monthly", NOTHING)), "last_period"),
        (ExternalAgentBudget("b", 1), "of 'b', not of 'a'"),
        (ExternalAgentBudget("a", 1, scope=BudgetScope("acme", "t")), "another scope"),
        ({"monthly_budget_usd": 1}, "takes an ExternalAgentBudget"),
    ],
)
def test_what_the_stream_does_not_keep_of_a_budget_is_refused(stream, store, budget, text):
    """It is not accepted and ignored."""
    with pytest.raises(ValueError, match=text):
        asyncio.run(store.update_budget("a", ORGANIZATION, budget))
    assert not stream.feed.decisions


def test_a_store_that_cannot_write_says_so(stream):
    """And one whose request is refused says why."""
    reads = StreamBudgetStore(stream.feed, stream.emitter)
    with pytest.raises(OutlayError, match="BudgetClient"):
        asyncio.run(reads.update_budget("a", ORGANIZATION, ExternalAgentBudget("a", 1)))
    writes = StreamBudgetStore(stream.feed, stream.emitter, stream.budgets)
    badly_ordered = ExternalAgentBudget("a", 1, warning_threshold=0.95)  # above the default 0.90
    with pytest.raises(BudgetRefused, match="warning_threshold"):
        asyncio.run(writes.update_budget("a", ORGANIZATION, badly_ordered))


def test_a_record_is_reported_with_all_that_it_says(stream, store):
    """In all scopes that it counts in; the invocation's id is the record's."""
    invocation = str(uuid.uuid4())
    record = BudgetUsageRecord(
        invocation,
        "a",
        BudgetScope("acme", "t", "u"),
        cost=0.1,
        success=False,
        timestamp=NOW,
        metadata={"why": "test"},
        input_tokens=1,
        output_tokens=2,
        provider="p",
        model="m",
    )
    asyncio.run(store.record_usage(record))
    (sent,) = stream.records
    assert (sent.id, sent.occurred_at, sent.success) == (invocation, NOW, False)
    assert (sent.organization_id, sent.team_id, sent.user_id, sent.agent_id) == (
        "acme",
        "t",
        "u",
        "a",
    )
    assert (sent.cost_usd, sent.input_tokens, sent.output_tokens, sent.executions) == (
        "0.10",
        1,
        2,
        1,
    )
    assert (sent.provider, sent.model) == ("p", "m")
    assert json.loads(bytes(sent.metadata)) == {"why": "test"}


def test_an_invocations_name_makes_the_same_record_id_each_time(stream, store):
    """One that is no UUID; the name itself is in the metadata."""
    for name in ("run-1", "run-1", "run-2"):
        asyncio.run(store.record_usage(BudgetUsageRecord(name, "a", ORGANIZATION, timestamp=NOW)))
    first, again, other = stream.records
    assert first.id == again.id != other.id
    assert json.loads(bytes(other.metadata)) == {"invocation_id": "run-2"}


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (BudgetUsageRecord("i", "a", ORGANIZATION, tokens_used=5), "input_tokens"),
        (BudgetUsageRecord("i", "a", BudgetScope("acme", agent_id="b")), "of the agent 'b'"),
        (BudgetUsageRecord("i", "a", ORGANIZATION, metadata={"x": object()}), "object"),
        (BudgetUsageRecord("i", "a", ORGANIZATION, metadata={"x": "y" * 20_000}), "16384 bytes"),
        ("a record", "takes a BudgetUsageRecord"),
    ],
)
def test_a_record_that_would_not_count_right_is_refused(stream, store, record, text):
    """Nothing is reported of it."""
    with pytest.raises(ValueError, match=text):
        asyncio.run(store.record_usage(record))
    assert stream.emitter.stats.emitted == 0


def test_a_record_that_is_not_taken_is_an_error():
    """The enforcer's caller learns of it."""
    with InMemoryStream(NOW, buffer_records_max=1) as stream:
        stream.broker_away = True
        store = StreamBudgetStore(stream.feed, stream.emitter)
        record = BudgetUsageRecord("run-1", "a", ORGANIZATION, timestamp=NOW)
        asyncio.run(store.record_usage(record))
        with pytest.raises(OutlayError, match="run-1 was not taken"):
            asyncio.run(store.record_usage(record))
        stream.broker_away = False


def test_the_usage_of_the_current_day_and_month_is_known(stream, store):
    """Exactly, whoever reported it."""
    stream.budgets.put(AGENT, monthly(100))
    for _ in range(3):
        emit(stream, 0.1, input_tokens=2, output_tokens=1)
    emit(stream, 1, occurred_at=NOW - timedelta(days=1))
    day, month = usage(store, window=DAY), usage(store, window=MONTH)
    assert day == PeriodUsage(
        cost=0.3, tokens=9, invocations=3, input_tokens=6, output_tokens=3, failures=None
    )
    assert (month.cost, month.invocations) == (1.3, 4)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (MONTH.start, NOW),
        (DAY.start - timedelta(days=1), DAY.start),
        (DAY.end, DAY.next.end),
        (DAY.start - timedelta(days=5), DAY.start + timedelta(days=2)),
        (DAY.start.replace(hour=1), DAY.end.replace(hour=1)),
    ],
)
def test_other_times_are_refused(stream, store, start, end):
    """Also those that the stream may have by chance."""
    stream.budgets.put(AGENT, monthly(100))
    with pytest.raises(ValueError, match="current UTC day and month"):
        asyncio.run(store.get_period_usage("a", ORGANIZATION, start, end))


def test_usage_without_a_budget_or_a_zone_is_refused(store):
    """No total is published of the one, and nobody knows when the other is."""
    with pytest.raises(ValueError, match="has no budget"):
        usage(store)
    with pytest.raises(ValueError, match="needs a zone"):
        asyncio.run(
            store.get_period_usage("a", ORGANIZATION, MONTH.start.replace(tzinfo=None), MONTH.end)
        )


def test_nothing_is_ever_reset(store):
    """A new window is a new key."""
    with pytest.raises(ValueError, match="not reset"):
        asyncio.run(store.reset_period_usage("a", ORGANIZATION))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"period": "weekly"}, "no weeks"),
        ({"timezone": "Europe/Berlin"}, "in UTC, not in Europe/Berlin"),
        ({"timezone": "Africa/Abidjan"}, "in UTC, not in Africa/Abidjan"),  # the same, by chance
        ({"rollover_unused": True}, "rolls nothing over"),
        ({"period_start": datetime(2026, 1, 15, tzinfo=UTC)}, "period_start"),
        ({"period": "daily", "period_start": datetime(2026, 1, 1, 6, tzinfo=UTC)}, "period_start"),
    ],
)
def test_configurations_that_the_stream_does_not_keep_are_refused(store, config, text):
    """With what to use in their place, when an enforcer is made."""
    with pytest.raises(ValueError, match=text):
        ExternalAgentBudgetEnforcer(ExternalAgentBudgetConfig(**config), store)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"period": "daily"},
        {"period_start": datetime(2026, 1, 1, tzinfo=UTC)},
        {"period": "daily", "period_start": datetime(2026, 1, 15, tzinfo=UTC)},
        {"max_cost_per_period": 5, "warning_threshold": 0.5},
    ],
)
def test_configurations_of_utc_days_and_months_are_kept(store, config):
    """However they are written."""
    store.check_config(ExternalAgentBudgetConfig(**config))


def test_an_enforcer_works_on_the_stream(stream, store):
    """Checks, records and reports; what was recorded is in the stream's totals, once."""

    async def run():
        enforcer = ExternalAgentBudgetEnforcer(store=store, clock=lambda: stream.clock.now)
        budget = await store.get_budget("a", ORGANIZATION)
        assert (await enforcer.check_budget(budget, estimated_cost=10)).allowed
        await enforcer.record_usage(budget, actual_cost=9.5, execution_success=True)
        assert not (await enforcer.check_budget(budget, estimated_cost=1)).allowed
        fresh = await store.get_budget("a", ORGANIZATION)
        blocked = await enforcer.check_budget(fresh, estimated_cost=1)
        return blocked, await enforcer.get_budget_status("a", ORGANIZATION)

    stream.budgets.put(AGENT, monthly(10))
    blocked, status = asyncio.run(run())
    assert not blocked.allowed
    assert blocked.remaining_budget_usd == 0.5
    assert (status.cost_used, status.cost_limit, status.cost_remaining) == (9.5, 10, 0.5)
    assert (status.invocations, status.period, status.warning_triggered) == (1, "monthly", True)
    assert (status.period_start, status.period_end) == (MONTH.start, MONTH.end)
    assert [record.cost_usd for record in stream.records] == ["9.50"]


def test_an_enforcer_has_an_empty_month_where_there_is_no_budget(stream, store):
    """As without a store."""
    enforcer = ExternalAgentBudgetEnforcer(store=store, clock=lambda: stream.clock.now)
    status = asyncio.run(enforcer.get_budget_status("a", ORGANIZATION))
    assert (status.cost_used, status.cost_limit, status.period) == (0, None, "monthly")


def test_an_enforcer_cannot_reset_the_stream(stream, store):
    """It says so, and nothing is changed."""
    stream.budgets.put(AGENT, monthly(10))
    emit(stream, 5)
    enforcer = ExternalAgentBudgetEnforcer(store=store, clock=lambda: stream.clock.now)
    with pytest.raises(ValueError, match="not reset"):
        asyncio.run(enforcer.reset_period("a", ORGANIZATION))
    assert asyncio.run(store.get_budget("a", ORGANIZATION)).monthly_spent_usd == 5


amounts = st.none() | st.integers(0, 300).map(lambda amount: amount / 100)
counts = st.none() | st.integers(0, 3)


@given(
    month=amounts,
    day=amounts,
    executions=st.tuples(counts, counts),
    tokens=st.tuples(counts, counts),
    mode=st.sampled_from(["hard", "soft"]),
    spent=st.lists(st.integers(0, 150).map(lambda amount: amount / 100), max_size=3),
    earlier=st.integers(0, 150).map(lambda amount: amount / 100),
    ask=st.integers(0, 300).map(lambda amount: amount / 100),
    ask_tokens=st.integers(0, 3),
)
def test_the_enforcer_and_the_gateway_tell_the_same(
    month, day, executions, tokens, mode, spent, earlier, ask, ask_tokens
):
    """The one on the store's budget, the other from the decision: the same answer and figures."""
    limits = Budget(
        monthly_budget_usd=month,
        daily_budget_usd=day,
        monthly_execution_limit=executions[0],
        daily_execution_limit=executions[1],
        monthly_token_limit=tokens[0],
        daily_input_token_limit=tokens[1],
        enforcement_mode=mode,
    )
    who = {"organization_id": "acme", "agent_id": "a"}
    with InMemoryStream(NOW) as stream:
        stream.budgets.put(AGENT, limits)
        emit(stream, earlier, occurred_at=NOW - timedelta(days=3))
        for usd in spent:
            emit(stream, usd, input_tokens=1)
        told = answer(
            stream.gateway.explain(**who, estimated_cost_usd=ask, estimated_input_tokens=ask_tokens)
        )
        store = StreamBudgetStore(stream.feed, stream.emitter, clock=stream.clock.time)
        enforcer = ExternalAgentBudgetEnforcer(store=store, clock=lambda: stream.clock.now)
        budget = asyncio.run(store.get_budget("a", ORGANIZATION))
        enforced = asyncio.run(
            enforcer.check_budget(budget, ask, estimated_input_tokens=ask_tokens)
        )
    for name in SAME:
        assert getattr(told, name) == getattr(enforced, name), name
    assert bool(told.reason) == bool(enforced.reason)
    assert bool(told.warning_message) == bool(enforced.warning_message)
