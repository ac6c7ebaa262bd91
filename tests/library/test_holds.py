"""What a gateway holds: its own spend and its reservations count at once, and exactly once."""

import random
import threading
import weakref
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from library_fakes import NANO, NOW, NOW_S, Clock, FakeSender, FakeTopic, eventually

from outlay import (
    Amounts,
    Budget,
    BudgetGateway,
    Decision,
    DecisionFeed,
    Rules,
    Scope,
    UsageEmitter,
    UsageRecord,
    Watermark,
    evaluate,
)
from outlay import holds as holds_module
from outlay.decision import WATERMARK_KEY, encode, window_usage
from outlay.feed_state import FeedState
from outlay.held import SPENDS_PER_SCOPE_MAX
from outlay.holds import UNKNOWN_OFFSET_S
from outlay.reading import Message
from outlay.scope import scope_keys
from outlay.topics import partition_of, usage_partition
from outlay.window import Window, window_names

USAGE_PARTITIONS, PARTITIONS = 2, 2
DAY = timedelta(days=1)
CALL = {"organization_id": "acme", "team_id": "t1", "user_id": "u1", "agent_id": "a1"}
ORGANIZATION = Scope("acme")
BUDGETS = {
    ORGANIZATION.key: Budget(monthly_budget_usd=Decimal(60), daily_token_limit=900),
    Scope("acme", "t1").key: Budget(daily_budget_usd=Decimal(20), enforcement_mode="soft"),
    Scope("acme", "t1", "u1").key: Budget(monthly_execution_limit=40),
    Scope("acme", agent_id="a1").key: Budget(monthly_budget_usd=Decimal(25)),
    Scope("acme", agent_id="a2").key: Budget(daily_budget_usd=Decimal(0)),
}
BUDGET_PARTITIONS = {key: partition_of(key.encode(), PARTITIONS) for key in BUDGETS}


class StubEmitter:
    """An emitter whose deliveries are done by hand."""

    def __init__(self, clock):
        self.clock = clock
        self.watcher = None
        self.undelivered = []
        self.takes = True

    def watch(self, watcher):
        self.watcher = watcher

    def unwatch(self, watcher):
        assert self.watcher is watcher
        self.watcher = None

    def emit(self, record=None, /, **fields):
        if not self.takes:
            return False
        if self.watcher is not None:
            self.watcher.emitted(record, fields, self.clock())
        if record is None:
            at = datetime.fromtimestamp(self.clock(), UTC)
            record = UsageRecord.new(**{"occurred_at": at} | fields)
        self.undelivered.append(record)
        return True


class World:
    """A gateway over a feed that is filled by hand, and a usage topic that is a list."""

    def __init__(self):
        self.monotonic, self.clock = Clock(1_000.0), Clock(NOW_S)
        self.feed = DecisionFeed(monotonic=self.monotonic, wall=self.clock)
        self.feed.state.partitions = PARTITIONS
        self.feed.state.ready = True
        self.emitter = StubEmitter(self.clock)
        self.gateway = BudgetGateway(feed=self.feed, emitter=self.emitter, clock=self.clock)
        self.holds = self.gateway._holds
        self.logs = [[] for _ in range(USAGE_PARTITIONS)]
        self.watermark(0, {})
        self.watermark(1, {})

    def emit(self, **fields):
        self.emitter.emit(**CALL | {"cost_usd": 1} | fields)

    def deliver(self, count=None):
        """Bring the oldest undelivered records to the topic, one message each."""
        for _ in range(len(self.emitter.undelivered) if count is None else count):
            record = self.emitter.undelivered.pop(0)
            partition = usage_partition(record.organization_id, record.agent_id, USAGE_PARTITIONS)
            self.logs[partition].append(record)
            if self.emitter.watcher is not None:
                self.emitter.watcher.delivered(partition, len(self.logs[partition]) - 1, [record])

    def totals(self, key, prefix):
        """What the stream has counted of a scope by then: by window, amounts and offsets."""
        windows = {}
        for partition, end in enumerate(prefix):
            for offset, record in enumerate(self.logs[partition][:end]):
                if key in keys_of(record):
                    for name in windows_of(record):
                        amounts, offsets = windows.setdefault(name, (Amounts(), {}))
                        windows[name] = (amounts + amounts_of(record), offsets)
                        offsets[partition] = offset
        return windows

    def decide(self, key, prefix=None, budget=None):
        """Publish a scope's decision over a prefix of each usage partition."""
        prefix = [len(log) for log in self.logs] if prefix is None else prefix
        windows = {n: window_usage(*t) for n, t in self.totals(key, prefix).items()}
        budget = budget or BUDGETS[key]
        decision = Decision(key, 1, "ok", budget, windows, "r", NOW)
        self._apply(key.encode(), encode(decision), partition_of(key.encode(), PARTITIONS))

    def watermark(self, partition, offsets):
        self._apply(WATERMARK_KEY, encode(Watermark(offsets, NOW)), partition)

    def _apply(self, key, value, partition):
        message = Message(partition, 0, key, value)
        self.feed.state.apply(message, self.monotonic(), self.clock())

    def used(self, key):
        """What the gateway counts as used of a scope's day and month."""
        day = int(self.clock() // 86_400) + 719_163
        return self.gateway._checker.view(key, day).used

    def month_nano(self, key=ORGANIZATION.key):
        return self.used(key)[1].cost_nano


def keys_of(record):
    return scope_keys(record.organization_id, record.team_id, record.user_id, record.agent_id)


def windows_of(record):
    return Window.day(record.occurred_at).name, Window.month(record.occurred_at).name


def amounts_of(record):
    nano = int(Decimal(record.cost_usd) * NANO)
    return Amounts(nano, record.executions, record.input_tokens, record.output_tokens)


MONEY = st.integers(0, 4).map(lambda n: Decimal(n) + Decimal("0.000000001") * n)


class ExactlyOnce(RuleBasedStateMachine):
    """Whatever comes in whichever order, a gateway counts what its process knows exactly once.

    The stream keeps what it promises: decisions are over prefixes of the usage partitions, and a
    watermark never passes a decision that has moved and waits.
    """

    @initialize()
    def begin(self):
        self.world = World()
        self.sent = []  # all that the totals will contain
        self.prefix = [[0] * USAGE_PARTITIONS for _ in range(PARTITIONS)]
        self.published = {}
        self.reservations = []

    @rule(
        cost=MONEY,
        tokens=st.integers(0, 50),
        agent=st.sampled_from(["a1", "a2", "a3"]),
        team=st.sampled_from([None, "t1", "t2"]),
        user=st.sampled_from([None, "u1"]),
        days=st.sampled_from([0, 0, 0, -1, 1, -30]),
        gives_back=st.booleans(),
    )
    def emit(self, cost, tokens, agent, team, user, days, gives_back):
        at = datetime.fromtimestamp(self.world.clock(), UTC) + days * DAY
        fields = {"agent_id": agent, "team_id": team, "user_id": user, "input_tokens": tokens}
        if gives_back and cost:
            fields |= {"kind": "correction", "cost_usd": -cost, "executions": 0}
        else:
            fields |= {"cost_usd": cost}
        self.world.emit(**fields, occurred_at=at)
        self.sent.append(self.world.emitter.undelivered[-1])

    @rule()
    def emit_what_is_invalid(self):
        watcher, fields = self.world.emitter.watcher, {**CALL, "cost_usd": 5, "model": ""}
        watcher.emitted(None, fields, self.world.clock())
        watcher.invalid(fields["id"])

    @rule(count=st.integers(1, 5))
    def deliver(self, count):
        self.world.deliver(min(count, len(self.world.emitter.undelivered)))

    @precondition(lambda self: self.world.emitter.undelivered)
    @rule()
    def fail(self):
        record = self.world.emitter.undelivered.pop(0)
        self.sent.remove(record)
        self.world.emitter.watcher.failed([record])

    @rule(partition=st.integers(0, PARTITIONS - 1), some=st.randoms(use_true_random=False))
    def flush(self, partition, some):
        """The totals stage goes on, publishes some of the decisions, and where it can, how far."""
        logs, prefix = self.world.logs, self.prefix[partition]
        for number, log in enumerate(logs):
            prefix[number] = some.randint(prefix[number], len(log))
        waits = False
        for key, home in BUDGET_PARTITIONS.items():
            if home == partition:
                now, before = (
                    self.world.totals(key, p) for p in (prefix, self.published.get(key, []))
                )
                if some.random() < 0.7:
                    self.world.decide(key, prefix)
                    self.published[key] = list(prefix)
                else:
                    waits = waits or now != before or key not in self.published
        if not waits:
            ends = {number: end - 1 for number, end in enumerate(prefix) if end}
            self.world.watermark(partition, ends)

    @rule(cost=MONEY, tokens=st.integers(0, 20), agent=st.sampled_from(["a1", "a2", "a3"]))
    def reserve(self, cost, tokens, agent):
        call = CALL | {"agent_id": agent}
        asked = {"estimated_cost_usd": cost, "estimated_input_tokens": tokens}
        try:
            reservation = self.world.gateway.reserve(**call, **asked, expires_s=100)
        except ValueError:
            return
        at_s = self.world.monotonic()
        amounts = Amounts(int(cost * NANO), 1, tokens, 0)
        self.reservations.append((reservation, agent, amounts, at_s + 100))

    @precondition(lambda self: self.reservations)
    @rule(cost=MONEY, data=st.data())
    def settle(self, cost, data):
        number = data.draw(st.integers(0, len(self.reservations) - 1))
        assert self.reservations.pop(number)[0].settle(cost)
        self.sent.append(self.world.emitter.undelivered[-1])

    @precondition(lambda self: self.reservations)
    @rule()
    def release(self):
        reservation, _, _, until_s = self.reservations.pop()
        assert reservation.release() == (self.world.monotonic() < until_s)

    @rule(seconds=st.sampled_from([1, 60, 86_400]))
    def time_passes(self, seconds):
        self.world.clock.now_s += seconds
        self.world.monotonic.now_s += seconds

    def expected(self, key):
        """Amounts of the day and of the month."""
        today = datetime.fromtimestamp(self.world.clock(), UTC)
        names = window_names(today.toordinal())
        contained = self.published.get(key, [0] * USAGE_PARTITIONS)
        counted = [
            record
            for log, end in zip(self.world.logs, contained, strict=True)
            for record in log[:end]
        ]
        used = [Amounts(), Amounts()]
        for record in self.sent:
            if key not in keys_of(record):
                continue
            amounts = amounts_of(record)
            if amounts.cost_nano < 0 and not any(record is each for each in counted):
                amounts = Amounts(0, 0, amounts.input_tokens, amounts.output_tokens)
            for number, name in enumerate(names):
                if name in windows_of(record):
                    used[number] += amounts
        for _, agent, amounts, until_s in self.reservations:
            if key in scope_keys("acme", "t1", "u1", agent) and self.world.monotonic() < until_s:
                used = [each + amounts for each in used]
        return tuple(used)

    @invariant()
    def all_is_counted_once(self):
        self.world.gateway.stats  # noqa: B018 - reservations expire when somebody looks
        for key in self.published:
            assert self.world.used(key) == self.expected(key), key

    @invariant()
    def checks_follow(self):
        for agent, cost_usd in (("a1", 2), ("a2", 0), ("a3", 9), ("a1", 14)):
            result = self.world.gateway.check(
                **CALL | {"agent_id": agent},
                estimated_cost_usd=cost_usd,
                estimated_input_tokens=10,
            )
            asked = Amounts(cost_usd * NANO, 1, 10, 0)
            found = {
                key: evaluate(Rules(BUDGETS[key]), *self.expected(key), asked)
                for key in scope_keys("acme", "t1", "u1", agent)
                if key in self.published
            }
            assert result.allowed == all(each.allowed for each in found.values())
            if result.allowed:
                assert result.degraded == any(each.degraded for each in found.values())
            least = [
                limit.limit - self.expected(key)[limit.window == "month"].cost_nano
                for key in found
                for limit in Rules(BUDGETS[key]).limits
                if limit.kind == "cost"
            ]
            assert result.remaining_usd == (Decimal(min(least)) / NANO if least else None)

    def teardown(self):
        for reservation, *_ in self.reservations:
            reservation.release()
        assert self.world.holds.open_reservations == 0


ExactlyOnce.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestExactlyOnce = ExactlyOnce.TestCase


def test_emitted_counts_before_it_is_delivered_and_after_until_a_decision_contains_it():
    """In every scope of the record, and no longer."""
    world = World()
    for key in BUDGETS:
        world.decide(key)
    world.emit(cost_usd="1.5", input_tokens=7)
    for key in scope_keys("acme", "t1", "u1", "a1"):
        if key in BUDGETS:
            assert world.used(key) == (Amounts(1_500_000_000, 1, 7, 0),) * 2
    world.deliver()
    assert world.month_nano() == 1_500_000_000
    world.decide(ORGANIZATION.key)
    assert world.month_nano() == 1_500_000_000
    assert world.gateway.explain(**CALL).scopes[0].limits[0].own == 0
    assert world.gateway.explain(**CALL).scopes[1].limits[0].own == Decimal("1.5")  # the team's


def test_a_budget_that_is_made_later_knows_what_is_under_way():
    """Its first decision contains what the totals had, and the rest is held."""
    world = World()
    world.emit(cost_usd=1)
    world.deliver()
    world.emit(cost_usd=2)
    world.decide(ORGANIZATION.key)
    assert world.month_nano() == 3 * NANO


def test_what_a_check_has_let_go_of_is_in_the_decision_it_goes_by():
    """Another thread may take in a newer decision in the midst of a check."""
    world = World()
    for key in BUDGETS:
        world.decide(key)
    world.emit(cost_usd=59)  # of 60
    world.deliver()
    scopes = world.feed.state.decisions

    class Overtaken(dict):
        """The check gets the old decision, and before it goes on others have seen the new one."""

        def get(self, key, default=None):
            old = super().get(key, default)
            if key == ORGANIZATION.key and not self.overtaken:
                self.overtaken = True
                world.decide(key)
                world.holds.compare(key, world.holds.scopes[key])
            return old

    world.feed.state.decisions = Overtaken(scopes)
    world.feed.state.decisions.overtaken = False
    for held in list(world.holds.scopes.values()):
        held.known = None
    call = {"organization_id": "acme", "agent_id": "a3"}
    assert not world.gateway.check(**call, estimated_cost_usd=2).allowed
    assert world.feed.state.decisions.overtaken


def test_scopes_without_a_budget_are_forgotten_when_the_watermark_has_passed():
    """Else every agent that ever was would stay in memory."""
    world = World()
    for number in range(50):
        world.emit(agent_id=f"agent-{number}", team_id=None, user_id=None)
    assert len(world.holds.scopes) == 51
    world.deliver()
    assert len(world.holds.scopes) == 51
    ends = {number: len(log) - 1 for number, log in enumerate(world.logs)}
    world.watermark(0, ends)
    world.watermark(1, {number: end - 1 for number, end in ends.items()})
    for _ in range(50):
        world.emit(agent_id="other", team_id=None, user_id=None)
        world.deliver()
    left = {key for key in world.holds.scopes if "agent-" in key}
    last = [log[ends[number]] for number, log in enumerate(world.logs)]
    assert left == {
        key
        for record in last
        for key in keys_of(record)
        if "agent-" in key and partition_of(key.encode(), PARTITIONS) == 1
    }


def test_held_scopes_are_bounded(monkeypatch):
    """Beyond the bound only scopes with a budget are added."""
    monkeypatch.setattr(holds_module, "HELD_SCOPES_MAX", 3)
    world = World()
    world.decide(Scope("acme", agent_id="a1").key)
    for number in range(9):
        world.emit(agent_id=f"agent-{number}", team_id=None, user_id=None)
    world.emit()
    assert len(world.holds.scopes) == 4
    assert world.month_nano(Scope("acme", agent_id="a1").key) == NANO


def test_many_records_of_a_scope_are_held_as_few_and_never_too_short():
    """They count until the last of those that are held as one is contained."""
    world = World()
    world.decide(ORGANIZATION.key)
    for _ in range(SPENDS_PER_SCOPE_MAX + 5):
        world.emit(cost_usd="0.001")
        world.deliver()
    held = world.holds.scopes[ORGANIZATION.key]
    assert len(held.spends) < SPENDS_PER_SCOPE_MAX / 2
    assert world.holds.held_spends == sum(each.size for each in world.holds.scopes.values())
    assert world.month_nano() == (SPENDS_PER_SCOPE_MAX + 5) * NANO // 1_000
    (partition,) = {number for number, log in enumerate(world.logs) if log}
    prefix = [0, 0]
    prefix[partition] = SPENDS_PER_SCOPE_MAX // 2
    world.decide(ORGANIZATION.key, prefix)
    assert world.month_nano() >= (SPENDS_PER_SCOPE_MAX + 5) * NANO // 1_000
    world.decide(ORGANIZATION.key)
    assert world.month_nano() == (SPENDS_PER_SCOPE_MAX + 5) * NANO // 1_000
    assert held.spends == []


def test_a_decision_that_lags_far_behind_contains_what_it_contains():
    """However many records are under way: held together, they are let go of in time."""
    world = World()
    behind, usd = 6 * SPENDS_PER_SCOPE_MAX, Decimal("0.001")
    partition = usage_partition("acme", "a1", USAGE_PARTITIONS)
    count = 15 * SPENDS_PER_SCOPE_MAX
    for offset in range(count):
        record = UsageRecord.new(**CALL, cost_usd=usd, occurred_at=NOW)
        world.holds.emitted(record, {}, NOW_S)
        world.holds.delivered(partition, offset, [record])
        if offset % 1_000 == 0 and offset > behind:
            decided = window_usage(Amounts(int((offset - behind + 1) * usd * NANO)), {partition: 0})
            decided.offsets[partition] = offset - behind
            windows = dict.fromkeys(window_names(NOW.toordinal()), decided)
            decision = Decision(ORGANIZATION.key, 1, "ok", Budget(), windows, "r", NOW)
            world._apply(
                ORGANIZATION.key.encode(),
                encode(decision),
                BUDGET_PARTITIONS[ORGANIZATION.key],
            )
            world.gateway.check(**CALL)
    assert 0 <= world.month_nano() - count * usd * NANO < 100 * usd * NANO
    assert len(world.holds.scopes[ORGANIZATION.key].spends) <= SPENDS_PER_SCOPE_MAX


def test_while_nothing_is_contained_what_is_held_is_bounded(monkeypatch):
    """In scopes that each have few records, too; and nothing of it is lost."""
    monkeypatch.setattr(holds_module, "HELD_SPENDS_MAX", 500)
    world = World()
    world.decide(ORGANIZATION.key)
    for number in range(3_000):
        world.emit(agent_id=f"agent-{number % 50}", cost_usd="0.01")
        world.deliver()
    assert world.holds.held_spends == sum(held.size for held in world.holds.scopes.values())
    assert world.holds.held_spends < 1_000
    assert world.month_nano() == 30 * NANO
    agent = Scope("acme", agent_id="agent-7").key
    world.decide(agent, prefix=[0, 0], budget=Budget())
    assert world.month_nano(agent) == 60 * NANO // 100
    world.decide(agent, budget=Budget())
    assert world.month_nano(agent) == 60 * NANO // 100


def test_a_decision_may_be_there_before_it_is_known_where_the_record_is():
    """The worker was quicker than the broker's answer to us."""
    world = World()
    for key in BUDGETS:
        world.decide(key)
    world.emit(cost_usd=5)
    record = world.emitter.undelivered.pop()
    partition = usage_partition("acme", "a1", USAGE_PARTITIONS)
    world.logs[partition].append(record)
    for key in BUDGETS:
        world.decide(key)
    world.gateway.check(**CALL)
    world.emitter.watcher.delivered(partition, 0, [record])
    assert world.gateway.check(**CALL, estimated_cost_usd=0).remaining_usd == 15  # the team's
    assert world.month_nano() == 5 * NANO


@pytest.mark.parametrize("first", [0, 1])
def test_a_decision_may_contain_it_in_one_of_two_windows(first):
    """The totals stage hears of many scopes in several messages, each with one window."""
    world = World()
    world.decide(ORGANIZATION.key)
    world.emit(cost_usd=5)
    world.deliver()
    names = window_names(NOW.toordinal())
    (partition,) = (number for number, log in enumerate(world.logs) if log)
    windows = {names[first]: window_usage(Amounts(5 * NANO, 1), {partition: 0})}
    decision = Decision(ORGANIZATION.key, 1, "ok", BUDGETS[ORGANIZATION.key], windows, "r", NOW)
    world._apply(ORGANIZATION.key.encode(), encode(decision), BUDGET_PARTITIONS[ORGANIZATION.key])
    assert world.gateway.check(**CALL, estimated_cost_usd=0).remaining_usd == 55
    assert [used.cost_nano for used in world.used(ORGANIZATION.key)] == [5 * NANO] * 2
    world.decide(ORGANIZATION.key)
    assert [used.cost_nano for used in world.used(ORGANIZATION.key)] == [5 * NANO] * 2
    assert world.holds.scopes[ORGANIZATION.key].is_empty


def test_days_are_forgotten_while_others_are_held():
    """Else every check after the first midnight would take the slow way."""
    world = World()
    world.decide(ORGANIZATION.key)
    world.emit()
    world.deliver()
    world.clock.now_s += 86_400
    world.emit()
    held = world.holds.scopes[ORGANIZATION.key]
    assert len(held.days) == 2
    world.decide(ORGANIZATION.key)
    world.gateway.check(**CALL)
    assert len(held.days) == len(held.spends) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_tokens": float("inf")},
        {"output_tokens": float("nan")},
        {"executions": 1.5},
        {"executions": 10**30},
        {"cost_usd": float("inf")},
        {"organization_id": 7},
        {"occurred_at": "today"},
    ],
)
def test_what_is_no_record_leaves_no_trace_in_the_sums(wrong):
    """Taken away again, an infinity leaves no number."""
    world = World()
    world.decide(ORGANIZATION.key)
    watcher, fields = world.emitter.watcher, CALL | {"cost_usd": 5} | wrong
    watcher.emitted(None, fields, NOW_S)
    world.emit(cost_usd=1)
    assert world.used(ORGANIZATION.key) == (Amounts(NANO, 1),) * 2
    watcher.invalid(fields.get("id"))
    assert world.used(ORGANIZATION.key) == (Amounts(NANO, 1),) * 2


def test_what_will_not_arrive_is_let_go_of_at_once_however_much_is_held():
    """Not by going through all of it, for each."""
    world = World()
    world.decide(ORGANIZATION.key)
    for _ in range(300):
        world.emit(cost_usd="0.01")
    world.gateway.check(**CALL)
    seen = []
    for held in world.holds.scopes.values():
        held.spends = Counted(held.spends, seen)
    for record in world.emitter.undelivered[:200]:
        world.emitter.watcher.failed([record])
    assert len(seen) < 10
    assert world.month_nano() == NANO
    world.decide(ORGANIZATION.key)
    assert world.month_nano() == NANO
    assert len(world.holds.scopes[ORGANIZATION.key].spends) == 100


class Counted(list):
    """A list that notes each time that somebody goes through it."""

    def __init__(self, items, seen):
        super().__init__(items)
        self.seen = seen

    def __iter__(self):
        self.seen.append(len(self))
        return super().__iter__()


def test_a_check_that_a_topic_read_anew_overtakes_misses_nothing():
    """What another thread has let go of is in the new state only."""
    world = World()
    for key in BUDGETS:
        world.decide(key)
    world.emit(cost_usd=59, agent_id="a3")  # of 60
    world.deliver()
    old, follower = world.feed.state, world.feed._follower
    decisions = old.decisions

    class Overtaken(dict):
        """The check has the old state, and then another thread sees the new one and sweeps."""

        def get(self, key, default=None):
            if follower.state is old:
                follower.state = FeedState(PARTITIONS)
                follower.state.ready = True
                for partition in range(PARTITIONS):
                    world.watermark(partition, {})
                for each in BUDGETS:
                    world.decide(each)
                for _ in range(10):
                    world.holds._sweep(10)
            return super().get(key, default)

    old.decisions = Overtaken(decisions)
    world.holds.scopes.pop(Scope("acme").key)  # as the sweep leaves it
    world.holds._round.remove(Scope("acme").key)
    assert world.holds.scopes
    call = {"organization_id": "acme", "agent_id": "a9"}
    assert not world.gateway.check(**call, estimated_cost_usd=2).allowed


def test_an_explanation_is_of_one_moment():
    """A decision that comes in meanwhile does not part the answer from its numbers."""
    world = World()
    world.decide(ORGANIZATION.key)
    for _ in range(20):
        world.emit(cost_usd=1)
    world.deliver()

    class Moving(dict):
        """Each look at it finds a newer decision."""

        calls = 0
        is_deciding = False

        def get(self, key, default=None):
            if not self.is_deciding:
                self.calls += 1
                self.is_deciding = True
                world.decide(key, budget=Budget(monthly_budget_usd=Decimal(100 + self.calls)))
                self.is_deciding = False
            return super().get(key, default)

    world.feed.state.decisions = Moving(world.feed.state.decisions)
    explanation = world.gateway.explain(organization_id="acme", estimated_cost_usd=1)
    assert explanation.result.remaining_usd == explanation.scopes[0].limits[0].remaining


def test_an_offset_that_the_broker_no_longer_knew_is_held_for_a_while():
    """The record has arrived, but where is not known."""
    world = World()
    world.decide(ORGANIZATION.key)
    world.emit(cost_usd=3)
    world.emitter.watcher.delivered(0, -1, world.emitter.undelivered)
    for seconds in (UNKNOWN_OFFSET_S - 1, 1):
        assert world.month_nano() == 3 * NANO
        world.monotonic.now_s += seconds
        world.watermark(BUDGET_PARTITIONS[ORGANIZATION.key], {})
    assert world.month_nano() == 0


def test_the_same_record_emitted_twice_counts_twice():
    """As the totals count it."""
    world = World()
    world.decide(ORGANIZATION.key)
    record = UsageRecord.new(**CALL, cost_usd=1, occurred_at=NOW)
    world.emitter.emit(record)
    world.emitter.emit(record)
    assert world.month_nano() == 2 * NANO
    world.deliver(1)
    world.decide(ORGANIZATION.key)
    assert world.month_nano() == 2 * NANO
    world.emitter.watcher.failed([record])
    assert world.month_nano() == NANO


def test_threads_that_emit_reserve_and_check_lose_nothing():
    """Sums that are changed from all sides come out even."""
    world = World()
    world.decide(ORGANIZATION.key, budget=Budget(monthly_budget_usd=Decimal(10**6)))
    failures = []

    def work(seed):
        some = random.Random(seed)
        try:
            for _ in range(300):
                with world.gateway.reserve(**CALL, estimated_cost_usd=some.randint(0, 5)) as call:
                    world.gateway.check(**CALL)
                    if some.random() < 0.5:
                        call.settle(1)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert world.month_nano() == len(world.emitter.undelivered) * NANO
    assert world.gateway.stats.reservations == 0
    world.deliver()
    world.decide(ORGANIZATION.key)
    assert world.month_nano() == len(world.logs[0] + world.logs[1]) * NANO
    assert world.holds.scopes[ORGANIZATION.key].is_empty


# -- with the real emitter


def emitter_over(topic, **options):
    return UsageEmitter(sender_factory=lambda: FakeSender(topic), linger_s=0, **options)


def gateway_over(emitter):
    world = World()
    gateway = BudgetGateway(feed=world.feed, emitter=emitter, clock=world.clock)
    world.decide(ORGANIZATION.key)
    return gateway


def own(gateway):
    return gateway.explain(**CALL).scopes[0].limits[0].own


def test_the_emitter_tells_its_gateway_of_every_end():
    """Delivered, failed, invalid and never sent."""
    topic = FakeTopic(1)
    topic.away = True
    emitter = emitter_over(topic, buffer_records_max=3)
    gateway = gateway_over(emitter)
    usage = CALL | {"occurred_at": NOW}
    assert emitter.emit(**usage, cost_usd=1)
    assert emitter.emit(**usage, cost_usd=2, model="")  # which is no model
    assert emitter.emit(UsageRecord.new(**usage, cost_usd=4))
    assert own(gateway) == 7
    assert not emitter.emit(**usage, cost_usd=8)  # no room
    assert own(gateway) == 7
    topic.away = False
    assert emitter.flush()
    assert own(gateway) == 5
    topic.delivery_error = ConnectionError("gone")
    emitter.emit(**usage, cost_usd=16)
    assert emitter.flush()
    assert own(gateway) == 5
    topic.away = True
    emitter.emit(**usage, cost_usd=32)
    assert own(gateway) == 37
    assert not emitter.close(timeout_s=0.1)
    assert own(gateway) == 5
    gateway.close()


def test_a_gateway_that_is_closed_is_told_nothing_more():
    """And nobody keeps it."""
    emitter = emitter_over(FakeTopic(1))
    gateway = gateway_over(emitter)
    gateway.close()
    emitter.emit(**CALL, cost_usd=1)
    assert own(gateway) == 0
    holds = weakref.ref(gateway._holds)
    del gateway
    emitter.close()
    eventually(lambda: holds() is None)


def test_a_gateway_that_is_closed_lets_go_of_what_is_not_delivered():
    """It is not told where that arrives, so it would count beside the decision for ever."""
    world = World()
    world.decide(ORGANIZATION.key)
    world.emit(cost_usd=1)
    world.deliver()
    world.emit(cost_usd=2)
    world.gateway.close()
    assert world.month_nano() == NANO
    world.deliver()
    world.decide(ORGANIZATION.key)
    assert world.month_nano() == 3 * NANO


class BrokenWatcher:
    """A watcher that fails at everything."""

    def emitted(self, record, fields, at_s, /):
        raise RuntimeError("emitted")

    delivered = failed = emitted

    def invalid(self, record_id, /):
        raise RuntimeError("invalid")

    def ended(self):
        raise RuntimeError("ended")


def test_a_watcher_that_fails_loses_no_record():
    """Neither in the call nor in the background."""
    topic = FakeTopic(1)
    emitter = emitter_over(topic)
    emitter.watch(BrokenWatcher())
    gateway = gateway_over(emitter)
    assert emitter.emit(**CALL, cost_usd=1, occurred_at=NOW)
    assert emitter.emit(**CALL, cost_usd=1, model="")
    assert own(gateway) == 1 or own(gateway) == 2
    assert emitter.flush(5)
    assert own(gateway) == 1
    topic.delivery_error = ConnectionError("gone")
    emitter.emit(**CALL, cost_usd=1)
    assert emitter.flush(5)
    assert emitter.close()
    stats = emitter.stats
    assert (stats.sent, stats.failed, stats.invalid) == (1, 1, 1)
    gateway.close()


def test_watchers_are_bounded():
    """A hundred gateways on one emitter are a mistake."""
    with emitter_over(FakeTopic(1)) as emitter:
        for _ in range(100):
            emitter.watch(World().holds)
        with pytest.raises(ValueError, match="at most 100 watchers"):
            emitter.watch(World().holds)
