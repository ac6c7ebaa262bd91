"""The gateway: an answer from memory, by the strictest of all budgets that a call counts in."""

import asyncio
import threading
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from library_fakes import NANO, NOW, NOW_S, Clock, FakeReader, FakeTopic, dollars, eventually

from outlay import (
    Amounts,
    Budget,
    BudgetGateway,
    Decision,
    DecisionFeed,
    FeedNotReady,
    Rules,
    Scope,
    Watermark,
    evaluate,
)
from outlay.budget import NOTHING
from outlay.decision import WATERMARK_KEY, encode, window_usage
from outlay.reading import Message
from outlay.topics import partition_of

ORGANIZATION, TEAM, USER = Scope("acme"), Scope("acme", "t"), Scope("acme", user_id="u")
MEMBER, AGENT = Scope("acme", "t", "u"), Scope("acme", agent_id="a")
SCOPES = (ORGANIZATION, TEAM, USER, MEMBER, AGENT)  # from the widest
CALL = {"organization_id": "acme", "team_id": "t", "user_id": "u", "agent_id": "a"}
DAY_S = 86_400


class Setup:
    """A gateway over a feed that is filled by hand, without any thread."""

    def __init__(self, partitions=1, silent=0, **options):
        self.monotonic, self.clock = Clock(1_000.0), Clock(NOW_S)
        self.feed = DecisionFeed(monotonic=self.monotonic, wall=Clock(NOW_S))
        self.state = self.feed.state
        self.state.partitions = partitions
        self.state.ready = True
        for partition in range(partitions - silent):
            self.watermark(partition)
        self.gateway = BudgetGateway(feed=self.feed, clock=self.clock, **options)

    def watermark(self, partition=0):
        self._apply(WATERMARK_KEY, encode(Watermark({}, NOW)), partition)

    def decide(self, scope, budget, *, day=NOTHING, month=NOTHING, **windows):
        windows = {"2026-11-21": day, "2026-11": month} | windows
        usages = {name: window_usage(amounts, {}) for name, amounts in windows.items()}
        decision = Decision(scope.key, 1, "ok", budget, usages, "r", NOW)
        key = scope.key.encode()
        self._apply(key, encode(decision), partition_of(key, self.state.partitions))

    def _apply(self, key, value, partition):
        self.state.apply(Message(partition, 0, key, value), self.monotonic(), NOW_S)

    def check(self, **options):
        return self.gateway.check(**CALL | options)


def monthly(usd, **options):
    return Budget(monthly_budget_usd=Decimal(usd), **options)


def test_without_a_budget_nothing_is_said():
    """A scope without a budget is allowed."""
    result = Setup().check(estimated_cost_usd=10**8)
    assert (result.allowed, result.state, result.reason, result.scope) == (True, "ok", "", "")
    assert result.remaining_usd is None
    assert not result.stale


def test_the_line():
    """used + asked ≤ limit is allowed; unknown asks for the least there is, 0 for nothing."""
    setup = Setup()
    setup.decide(ORGANIZATION, monthly(10), month=dollars(5))
    assert setup.check(estimated_cost_usd="5").allowed
    assert not setup.check(estimated_cost_usd="5.000000001").allowed
    assert setup.check().allowed
    setup.decide(ORGANIZATION, monthly(10), month=dollars(10))
    assert setup.check(estimated_cost_usd=0).allowed
    assert not setup.check().allowed
    setup.decide(ORGANIZATION, monthly(10), month=Amounts(10 * NANO + 1))
    assert not setup.check(estimated_cost_usd=0).allowed


def test_counts_have_lines_too():
    """Executions and tokens, each kind by itself."""
    setup = Setup()
    setup.decide(
        AGENT,
        Budget(
            daily_execution_limit=5,
            daily_token_limit=100,
            daily_input_token_limit=80,
            daily_output_token_limit=50,
        ),
        day=Amounts(0, 1, 10, 10),
    )
    assert setup.check(executions=4).allowed
    assert "executions" in setup.check(executions=5).reason.replace("execution limit", "executions")
    assert setup.check(estimated_input_tokens=70, estimated_output_tokens=10).allowed
    assert not setup.check(estimated_input_tokens=71).allowed
    assert setup.check(estimated_input_tokens=40, estimated_output_tokens=40).allowed
    assert not setup.check(estimated_output_tokens=41).allowed
    assert not setup.check(estimated_input_tokens=41, estimated_output_tokens=40).allowed


def test_a_blocked_answer_says_why():
    """Scope, window and amounts."""
    setup = Setup()
    setup.decide(TEAM, monthly(100), month=dollars(99))
    result = setup.check(estimated_cost_usd=2.5)
    assert not result.allowed
    assert result.scope == TEAM.key
    assert result.reason == (
        "organization:acme/team:t in 2026-11: "
        "monthly budget exceeded: $99.00 used + $2.50 asked > $100.00 limit"
    )
    assert result.remaining_usd == 1
    assert setup.gateway.stats.checks == setup.gateway.stats.blocked == 1


@pytest.mark.parametrize(
    ("used", "mode", "state", "allowed", "degraded"),
    [
        (74, "hard", "ok", True, False),
        (75, "hard", "warning", True, False),
        (90, "hard", "degraded", True, True),
        (100, "hard", "exceeded", False, True),
        (100, "soft", "exceeded", True, True),
    ],
)
def test_states(used, mode, state, allowed, degraded):
    """Each says a sentence, except where there is nothing to say."""
    setup = Setup()
    setup.decide(AGENT, monthly(100, enforcement_mode=mode), month=dollars(used))
    result = setup.check()
    assert (result.state, result.allowed, result.degraded) == (state, allowed, degraded)
    assert bool(result.reason) == bool(result.scope) == (state != "ok")
    if state in ("warning", "degraded"):
        assert result.reason == (
            f"{AGENT.key} in 2026-11: {state}, ${used}.00 used of a monthly budget of $100.00"
        )


def test_the_strictest_wins_and_among_equals_the_widest():
    """Blocked before degraded before warning before ok."""
    setup = Setup()
    setup.decide(ORGANIZATION, monthly(100), month=dollars(1))
    assert setup.check().scope == ""
    setup.decide(USER, monthly(100), month=dollars(80))
    setup.decide(AGENT, monthly(100), month=dollars(80))
    assert setup.check().scope == USER.key
    setup.decide(AGENT, monthly(100), month=dollars(95))
    assert setup.check().scope == AGENT.key
    setup.decide(TEAM, Budget(daily_execution_limit=0))
    setup.decide(MEMBER, Budget(daily_execution_limit=0))
    assert setup.check().scope == TEAM.key
    assert setup.check().remaining_usd == 5


amounts = st.builds(
    lambda tenths, *counts: Amounts(tenths * NANO // 10, *counts), *[st.integers(-1, 12)] * 4
)
limit = st.none() | st.integers(0, 12)
budgets = st.builds(
    Budget,
    daily_budget_usd=st.none() | st.integers(0, 12).map(lambda tenths: Decimal(tenths) / 10),
    monthly_budget_usd=st.none() | st.integers(0, 12).map(lambda tenths: Decimal(tenths) / 10),
    daily_execution_limit=limit,
    monthly_token_limit=limit,
    daily_input_token_limit=limit,
    monthly_output_token_limit=limit,
    enforcement_mode=st.sampled_from(["hard", "soft"]),
    on_stale=st.sampled_from(["allow", "block"]),
)
known = st.lists(st.none() | st.tuples(budgets, amounts, amounts), min_size=5, max_size=5)


@given(known, st.builds(Amounts, *[st.integers(0, 4)] * 4), st.booleans())
def test_every_answer_is_the_rules(known, counts, stale):
    """However quickly it is given: all scopes by `evaluate`, put together the plain way."""
    asked = Amounts(counts.cost_nano * NANO // 10, *list_of(counts)[1:])
    setup = Setup()
    expected = (0, "ok", False, "")
    left = []
    for scope, each in zip(SCOPES, known, strict=True):
        if each is None:
            continue
        budget, day, month = each
        setup.decide(scope, budget, day=day, month=month)
        said = evaluate(Rules(budget), day, month, asked)
        rank = 3 if not said.allowed else 2 if said.degraded else said.state == "warning"
        if stale and budget.on_stale == "block":
            rank = 3
        if rank > expected[0]:
            expected = (rank, said.state, said.degraded, scope.key)
        for name, used in (("daily_budget_usd", day), ("monthly_budget_usd", month)):
            if getattr(budget, name) is not None:
                left.append(getattr(budget, name) - Decimal(used.cost_nano) / NANO)
    if stale:
        setup.monotonic.now_s += 11
    result = setup.check(
        estimated_cost_usd=Decimal(asked.cost_nano) / NANO,
        executions=asked.executions,
        estimated_input_tokens=asked.input_tokens,
        estimated_output_tokens=asked.output_tokens,
    )
    assert (result.state, result.degraded, result.scope) == expected[1:]
    assert result.allowed == (expected[0] < 3)
    assert bool(result.reason) == (expected[0] > 0)
    assert result.remaining_usd == (min(left) if left else None)
    assert result.stale == stale


def list_of(amounts):
    return [amounts.cost_nano, amounts.executions, amounts.input_tokens, amounts.output_tokens]


def test_a_new_day_frees_by_the_readers_own_clock():
    """An old decision never blocks a new day, and a record dated tomorrow never frees today."""
    setup = Setup()
    setup.decide(
        AGENT,
        Budget(daily_budget_usd=Decimal(10), monthly_budget_usd=Decimal(100)),
        day=dollars(10),
        month=dollars(20),
        **{"2026-11-22": dollars(3)},
    )
    assert not setup.check().allowed
    setup.clock.now_s += DAY_S / 2 - 0.001
    assert not setup.check().allowed
    setup.clock.now_s += 0.002
    assert setup.check().remaining_usd == 7
    setup.clock.now_s += 9 * DAY_S  # December
    assert setup.check(estimated_cost_usd=10).allowed
    assert setup.check().remaining_usd == 10
    setup.clock.now_s = NOW_S
    assert not setup.check().allowed


def test_a_stale_feed_allows_or_blocks_as_the_budget_says():
    """`allow` goes by the last known decision and says so; a scope without a budget is allowed."""
    setup = Setup()
    setup.decide(ORGANIZATION, monthly(100), month=dollars(95))
    setup.monotonic.now_s += 10.1
    result = setup.check()
    assert (result.allowed, result.stale, result.state) == (True, True, "degraded")
    setup.decide(TEAM, monthly(100, on_stale="block", enforcement_mode="soft"))
    result = setup.check()
    assert (result.allowed, result.stale, result.scope) == (False, True, TEAM.key)
    assert "10 s" in result.reason
    other = setup.gateway.check(organization_id="other")
    assert (other.allowed, other.stale, other.reason) == (True, True, "")
    setup.watermark()
    assert setup.check().stale is False
    assert setup.check().allowed


def test_a_stale_partition_concerns_its_own_scopes():
    """The others go by fresh decisions."""
    setup = Setup(partitions=2)
    scopes = {partition_of(s.key.encode(), 2): s for s in (Scope(f"o{n}") for n in range(20))}
    for scope in scopes.values():
        setup.decide(scope, monthly(1, on_stale="block"))
    setup.monotonic.now_s += 10.1
    setup.watermark(0)
    fresh, silent = (setup.gateway.check(organization_id=scopes[p].organization_id) for p in (0, 1))
    assert (fresh.allowed, fresh.stale) == (True, False)
    assert (silent.allowed, silent.stale) == (False, True)


def test_a_partition_that_was_never_heard_of_is_stale():
    """However fresh the others are."""
    setup = Setup(partitions=2, silent=1)
    scopes = {partition_of(s.key.encode(), 2): s for s in (Scope(f"o{n}") for n in range(20))}
    answers = [setup.gateway.check(organization_id=scopes[p].organization_id) for p in (0, 1)]
    assert [answer.stale for answer in answers] == [False, True]


def test_before_the_feed_is_ready():
    """Nothing is known: allowed and stale, or blocked where the gateway was made so."""
    topic = FakeTopic()
    topic.away = True
    for how, allowed in (("allow", True), ("block", False)):
        with BudgetGateway(reader_factory=lambda: FakeReader(topic), on_not_ready=how) as gateway:
            result = gateway.check(organization_id="acme")
            assert (result.allowed, result.stale) == (allowed, True)
            assert "not ready" in result.reason
            with pytest.raises(FeedNotReady):
                gateway.wait_ready(0.05)
            assert gateway.stats.blocked == (not allowed)


@pytest.mark.parametrize(
    "wrong",
    [
        {"organization_id": ""},
        {"organization_id": None},
        {"organization_id": 5},
        {"organization_id": ["acme"]},
        {"agent_id": "x" * 257},
        {"team_id": ""},
        {"user_id": b"u"},
        {"estimated_cost_usd": -1},
        {"estimated_cost_usd": "many"},
        {"estimated_cost_usd": float("nan")},
        {"estimated_cost_usd": True},
        {"estimated_cost_usd": [1]},
        {"executions": -1},
        {"executions": 1.5},
        {"estimated_input_tokens": -1},
        {"estimated_output_tokens": "1"},
        {"estimated_input_tokens": 5, "estimated_output_tokens": -5},
    ],
)
def test_wrong_arguments_are_refused(wrong):
    """Whether or not any budget is known; they are no checks."""
    setup = Setup()
    setup.check(estimated_cost_usd=1.0)  # True must not pass for what is remembered of it
    with pytest.raises(ValueError):
        setup.check(**wrong)
    assert setup.gateway.stats.checks == 1


def test_checks_are_counted_exactly_from_all_threads():
    """Without a lock."""
    setup = Setup()
    setup.decide(AGENT, Budget(daily_execution_limit=0))

    def work():
        for number in range(2_000):
            setup.check(executions=number % 2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = setup.gateway.stats
    assert (stats.checks, stats.blocked) == (8_000, 4_000)


def test_in_async_code():
    """The same words."""
    topic = FakeTopic()
    topic.decide(ORGANIZATION, Budget(daily_execution_limit=0))

    async def use():
        async with BudgetGateway(reader_factory=lambda: FakeReader(topic)) as gateway:
            await gateway.await_ready()
            return gateway.check(organization_id="acme")

    assert not asyncio.run(use()).allowed
    assert topic.readers == 0


def test_a_feed_of_others_is_left_alone():
    """Who made it starts and closes it."""
    topic = FakeTopic()
    with DecisionFeed(reader_factory=lambda: FakeReader(topic)) as feed:
        with BudgetGateway(feed=feed) as gateway:
            gateway.wait_ready()
        topic.decide(ORGANIZATION)
        eventually(lambda: feed.decisions)


def test_on_a_real_broker(topic_prefix):
    """From the compacted topic to the answer."""
    topic_prefix.create(decisions=2)
    places = [(scope, partition_of(scope.key.encode(), 2)) for scope in SCOPES]
    budget = Budget(daily_execution_limit=0)
    topic_prefix.send(
        topic_prefix.names.decisions,
        [
            (
                scope.key.encode(),
                encode(Decision(scope.key, 1, "exceeded", budget, {}, "r", NOW)),
                partition,
            )
            for scope, partition in places
        ],
    )
    with BudgetGateway(topic_prefix.bootstrap_servers, topics=topic_prefix.names) as gateway:
        gateway.wait_ready()
        result = gateway.check(**CALL)
        assert (result.allowed, result.scope) == (False, ORGANIZATION.key)
        topic_prefix.send(
            topic_prefix.names.decisions, [(s.key.encode(), None, p) for s, p in places]
        )
        eventually(lambda: gateway.check(**CALL).allowed)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"on_not_ready": "deny"}, ValueError),
        ({"stale_after_s": float("nan")}, ValueError),
        ({"stale_after_s": -1}, ValueError),
        ({"stale_after_s": "10"}, ValueError),
        ({"on_notready": "block"}, TypeError),
    ],
)
def test_wrong_settings_are_refused(wrong, error):
    """A mode that there is not would allow everything."""
    with pytest.raises(error):
        BudgetGateway(**wrong)


@pytest.mark.parametrize("wrong", ["topics", "stale_after_s", "on_notready"])
def test_settings_of_a_feed_of_its_own_are_refused_beside_a_feed(wrong):
    """They would be ignored."""
    with pytest.raises(TypeError, match=wrong):
        BudgetGateway(feed=Setup().feed, **{wrong: "block"})
