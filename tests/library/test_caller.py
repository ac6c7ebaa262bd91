"""What is kept ready for a caller: each answer is the one that would be made anew."""

import sys
import threading
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from library_fakes import NANO, NOW, dollars
from test_holds import PARTITIONS, World

from outlay import Amounts, Budget, BudgetExceededError, Decision, Scope
from outlay import caller as caller_module
from outlay.asking import checked_keys
from outlay.budget import NOTHING
from outlay.caller import keys_of
from outlay.decision import encode, window_usage
from outlay.feed_state import FeedState
from outlay.scope import ID_LENGTH_MAX
from outlay.topics import partition_of

ORGANIZATION, TEAM, USER = Scope("acme"), Scope("acme", "t1"), Scope("acme", user_id="u1")
MEMBER, AGENT = Scope("acme", "t1", "u1"), Scope("acme", agent_id="a1")
SCOPES = (ORGANIZATION, TEAM, USER, MEMBER, AGENT, Scope("acme", agent_id="a2"))
CALL = {"organization_id": "acme", "team_id": "t1", "user_id": "u1", "agent_id": "a1"}
CALLERS = (CALL, CALL | {"agent_id": "a2"}, CALL | {"team_id": None}, {"organization_id": "acme"})
ASKS = (
    {},
    {"estimated_cost_usd": 0, "executions": 0},
    {"estimated_cost_usd": "0.5"},
    {"estimated_cost_usd": 3, "executions": 2, "estimated_input_tokens": 4},
    {"estimated_input_tokens": 3, "estimated_output_tokens": 3},
)
DAY_S = 86_400
TIMES = 3  # the first answer in a generation is not kept, the second is, the third is what is kept


class Told(World):
    """A world whose decisions say what a test wants."""

    def tell(self, scope, budget, day=NOTHING, month=NOTHING, **windows):
        named = {"2026-11-21": day, "2026-11": month} | windows
        usages = {name: window_usage(amounts, {}) for name, amounts in named.items()}
        decision = Decision(scope.key, 1, "ok", budget, usages, "r", NOW)
        self._apply(scope.key.encode(), encode(decision), home_of(scope))

    def forget(self, scope):
        self._apply(scope.key.encode(), None, home_of(scope))

    def compare(self, call=CALL, **asked):
        """The answer, kept or not, which is the one that `explain` makes of the numbers."""
        results = [self.gateway.check(**call, **asked) for _ in range(TIMES)]
        made_anew = self.gateway.explain(**call, **asked).result
        assert results == [made_anew] * TIMES
        return made_anew

    def sweep(self):
        for _ in range(20):
            self.holds._sweep(10)


def home_of(scope):
    return partition_of(scope.key.encode(), PARTITIONS)


def monthly(usd, **options):
    return Budget(monthly_budget_usd=Decimal(usd), **options)


used = st.builds(
    lambda cost, *counts: Amounts(cost * NANO // 2, *counts), *[st.integers(0, 12)] * 4
)
usd = st.none() | st.integers(0, 12).map(Decimal)
limit = st.none() | st.integers(0, 30)
budgets = st.builds(
    Budget,
    daily_budget_usd=usd,
    monthly_budget_usd=usd,
    daily_execution_limit=limit,
    monthly_token_limit=limit,
    daily_input_token_limit=limit,
    monthly_output_token_limit=limit,
    enforcement_mode=st.sampled_from(["hard", "soft"]),
    on_stale=st.sampled_from(["allow", "block"]),
) | st.integers(5, 40).map(monthly)  # fmt: skip
callers = st.sampled_from(CALLERS)


class AsMadeAnew(RuleBasedStateMachine):
    """Whatever comes in between, an answer is the one that is made of the numbers as they are."""

    @initialize()
    def begin(self):
        self.world = Told()
        self.blocked = 0
        self.reservations = []

    @rule(scope=st.sampled_from(SCOPES), budget=budgets, day=used, month=used, tomorrow=used)
    def decide(self, scope, budget, day, month, tomorrow):
        self.world.tell(scope, budget, day, month, **{"2026-11-22": tomorrow})

    @rule(scope=st.sampled_from(SCOPES))
    def delete(self, scope):
        self.world.forget(scope)

    @rule(partitions=st.sampled_from([(0,), (1,), (0, 1)]), through=st.integers(0, 3))
    def watermark(self, partitions, through):
        for partition in partitions:
            self.world.watermark(partition, dict.fromkeys(range(2), through))

    @rule()
    def read_anew(self):
        """The topic is read from its beginning, and some of it has been deleted since."""
        world, old = self.world, self.world.feed.state
        world.feed._follower.state = state = FeedState(PARTITIONS)
        state.ready = True
        for key, known in list(old.decisions.items())[::2]:
            world._apply(key.encode(), encode(known.decision), known.partition)
        for partition in range(PARTITIONS):
            world.watermark(partition, {})

    @rule(seconds=st.sampled_from([1, 9, 11, 3_600]))
    def nothing_comes_in(self, seconds):
        self.world.monotonic.now_s += seconds
        self.world.clock.now_s += seconds

    @rule(days=st.sampled_from([-1, 0.5, 1, 10]))
    def another_day(self, days):
        """By the clock of days only: the feed stays fresh."""
        self.world.clock.now_s += days * DAY_S

    @rule(call=callers, cost=st.integers(0, 13), counts=st.tuples(*[st.integers(0, 12)] * 3))
    def ask(self, call, cost, counts):
        names = ("executions", "estimated_input_tokens", "estimated_output_tokens")
        self.compare(call, estimated_cost_usd=cost, **dict(zip(names, counts, strict=True)))

    def compare(self, call, **asked):
        result = self.world.compare(call, **asked)
        self.blocked += 0 if result.allowed else TIMES

    @invariant()
    def all_are_answered_as_if_made_anew(self):
        for call in CALLERS:
            for asked in ASKS:
                self.compare(call, **asked)
        assert self.world.gateway.stats.blocked == self.blocked


class AsMadeAnewWhileHeld(AsMadeAnew):
    """The same with usage that is emitted and reserved, which counts before decisions tell it."""

    @rule(call=st.sampled_from(CALLERS[:3]), cost=st.integers(0, 6), tokens=st.integers(0, 9))
    def emit(self, call, cost, tokens):
        self.world.emit(**call | {"cost_usd": cost, "input_tokens": tokens})

    @precondition(lambda self: self.world.emitter.undelivered)
    @rule(arrives=st.booleans())
    def deliver(self, arrives):
        if arrives:
            self.world.deliver(1)
        else:
            self.world.emitter.watcher.failed([self.world.emitter.undelivered.pop(0)])
        self.world.sweep()

    @rule(call=st.sampled_from(CALLERS[:3]), cost=st.integers(0, 6), executions=st.integers(0, 2))
    def reserve(self, call, cost, executions):
        asked = {"estimated_cost_usd": cost, "executions": executions}
        try:
            self.reservations.append(self.world.gateway.reserve(**call, **asked, expires_s=5))
        except BudgetExceededError:
            self.blocked += 1

    @precondition(lambda self: self.reservations)
    @rule()
    def release(self):
        self.reservations.pop().release()
        self.world.sweep()


AsMadeAnew.TestCase.settings = settings(max_examples=30, stateful_step_count=25)
AsMadeAnewWhileHeld.TestCase.settings = settings(max_examples=20, stateful_step_count=25)
TestAsMadeAnew = AsMadeAnew.TestCase
TestAsMadeAnewWhileHeld = AsMadeAnewWhileHeld.TestCase


class Hooked(dict):
    """Decisions of which a test is told when they are looked up or changed."""

    gets = 0
    on_get = before_change = after_change = None

    def get(self, key, default=None):
        self.gets += 1
        found = super().get(key, default)
        if self.on_get is not None:
            self.on_get(key)
        return found

    def __setitem__(self, key, value):
        if self.before_change is not None:
            self.before_change()
        super().__setitem__(key, value)
        if self.after_change is not None:
            self.after_change()

    def __delitem__(self, key):
        if self.before_change is not None:
            self.before_change()
        super().__delitem__(key)


def hooked(world):
    made = world.feed.state.decisions = Hooked(world.feed.state.decisions)
    return made


@pytest.mark.parametrize(
    ("spent", "asked"), [(1, "0.5"), (80, "0.5"), (95, "0.5"), (100, "0.5"), (99, "2")]
)
def test_while_nothing_changes_an_answer_is_made_once(spent, asked):
    """Allowed, with a warning, degraded or blocked: then nothing is looked up for it any more."""
    world = Told()
    world.tell(AGENT, monthly(100), month=dollars(spent))
    first, second = (world.gateway.check(**CALL, estimated_cost_usd=asked) for _ in range(2))
    decisions = hooked(world)
    third = world.gateway.check(**CALL, estimated_cost_usd=asked)
    assert first == second == third
    assert third.allowed == (spent + Decimal(asked) <= 100)
    assert decisions.gets == (0 if third.allowed else len(keys_of(tuple(CALL.values()))))


def test_what_is_blocked_today_and_tomorrow_is_told_of_each_day():
    """And again of the first, where the clock is put back."""
    world = Told()
    budget = Budget(daily_budget_usd=Decimal(10))
    world.tell(AGENT, budget, day=dollars(10), **{"2026-11-22": dollars(11)})
    for days, left in ((0, 0), (1, -1), (-1, 0)):
        world.clock.now_s += days * DAY_S
        assert world.compare().remaining_usd == left


def test_who_asks_once_between_changes_is_answered_and_nothing_is_kept():
    """It would be made in vain, and be in memory for each."""
    world = Told()
    for used_usd in (1, 2, 3):
        world.tell(AGENT, monthly(100), month=dollars(used_usd))
        assert world.gateway.check(**CALL).remaining_usd == 100 - used_usd
    caller = world.gateway._callers.get(("acme", "t1", "u1", "a1"))
    assert caller.within is caller_module._WITHIN_NOTHING


@pytest.mark.parametrize(("before", "after"), [(1, 100), (80, 1), (80, 100), (100, 1)])
def test_a_decision_that_comes_in_while_an_answer_is_made_ends_it(before, after):
    """At whichever look-up it does."""
    for number in range(1, 100):
        world = Told()
        world.tell(ORGANIZATION, monthly(100), month=dollars(before))
        decisions = hooked(world)

        def move(_key, number=number, world=world, decisions=decisions):
            if decisions.gets == number:
                world.tell(ORGANIZATION, monthly(100), month=dollars(after))

        decisions.on_get = move
        for _ in range(TIMES):
            world.gateway.check(**CALL)
        decisions.on_get = None
        if decisions.gets < number:
            break
        assert world.compare().remaining_usd == 100 - after
    assert number > 10


def test_in_the_midst_of_a_change_nothing_that_was_kept_counts():
    """What another thread lets go of by the new decision is not in an answer from the old one."""
    world = Told()
    world.tell(ORGANIZATION, monthly(60), month=dollars(1))
    call = {"organization_id": "acme", "agent_id": "a9", "estimated_cost_usd": 2}
    assert [world.gateway.check(**call).allowed for _ in range(TIMES)] == [True] * TIMES
    world.emit(cost_usd=59, team_id=None, user_id=None)
    world.deliver()
    answers = []

    def midst():
        world.holds.lock.acquire()
        for held in list(world.holds.scopes):
            del world.holds.scopes[held]  # as a sweep by the new decision leaves it
        world.holds._round.clear()
        world.holds.lock.release()
        answers.extend(world.gateway.check(**call).allowed for _ in range(TIMES))

    hooked(world).after_change = midst
    world.tell(ORGANIZATION, monthly(60), month=dollars(60))
    assert answers == [False] * TIMES
    assert not world.gateway.check(**call).allowed


@pytest.mark.parametrize("asked", ["0.5", "50", "70"])
def test_what_is_made_in_the_midst_of_a_change_is_not_kept(asked):
    """By another thread, from the decision that is about to be replaced, or to go; nor used."""
    world = Told()
    world.tell(ORGANIZATION, monthly(60), month=dollars(1))

    def ask():
        for _ in range(TIMES):
            world.gateway.check(**CALL, estimated_cost_usd=asked)

    decisions = hooked(world)
    decisions.before_change = ask
    decisions.after_change = lambda: world.compare(estimated_cost_usd=asked)
    world.tell(ORGANIZATION, monthly(40), month=dollars(40))
    assert not world.compare(estimated_cost_usd=asked).allowed
    world.tell(ORGANIZATION, monthly(60), month=dollars(20))
    assert world.compare(estimated_cost_usd=asked).allowed == (asked == "0.5")
    world.forget(ORGANIZATION)
    assert world.compare(estimated_cost_usd=asked).allowed


def test_what_is_held_while_an_answer_is_made_is_not_kept_in_it():
    """It ends without a decision that would say so."""
    world = Told()
    world.tell(ORGANIZATION, monthly(100), month=dollars(80))
    world.tell(AGENT, monthly(100), month=dollars(1))
    decisions = hooked(world)
    reservations = []

    def reserve(_key):
        decisions.on_get = None
        reservations.append(world.gateway.reserve(**CALL, estimated_cost_usd=19))

    decisions.on_get = reserve
    assert world.gateway.check(**CALL).state == "warning"
    assert world.compare().state == "degraded"
    assert reservations[0].release()
    world.sweep()
    assert not world.holds.scopes
    assert world.compare().state == "warning"
    assert world.compare().remaining_usd == 20


def test_a_thread_that_has_seen_a_decision_is_never_answered_by_an_older_one():
    """Whatever other threads keep meanwhile."""
    world = Told()
    world.tell(AGENT, monthly(10_000), month=dollars(0))
    told = [0]
    failures = []
    done = threading.Event()

    def ask():
        while not done.is_set():
            least = told[0]
            spent = 10_000 - world.gateway.check(**CALL).remaining_usd
            if not least <= spent <= told[0] + 1:
                failures.append((least, spent, told[0]))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=ask) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        for number in range(1, 400):
            world.tell(AGENT, monthly(10_000), month=dollars(number))
            told[0] = number
    finally:
        done.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not failures
    assert world.compare().remaining_usd == 10_000 - 399


def test_callers_are_bounded(monkeypatch):
    """The one that came first is forgotten, and answered as before when it comes again."""
    monkeypatch.setattr(caller_module, "CALLERS_MAX", 10)
    world = Told()
    world.tell(AGENT, monthly(10), month=dollars(10))
    for number in (*range(30), 1):
        answer = world.gateway.check(organization_id="acme", agent_id=f"a{number}")
        assert answer.allowed == (number != 1)
        assert len(world.gateway._callers) <= 10
    assert world.gateway._callers.get(("acme", None, None, "a20")) is None


def test_callers_with_long_ids_are_not_kept():
    """Who may ask as often as he likes, with ids as he likes, fills no memory."""
    world = Told()
    world.tell(AGENT, monthly(10), month=dollars(10))
    for number in range(30):
        user_id = f"{number:02}" + "\N{GRINNING FACE}" * 250
        for _ in range(3):
            assert world.gateway.check(organization_id="acme", user_id=user_id).allowed
            assert not world.gateway.check(
                organization_id="acme", user_id=user_id, agent_id="a1"
            ).allowed
    assert len(world.gateway._callers) == 0


class Text(str):
    """A string that is more than one."""


ids = st.none() | st.text(max_size=3) | st.sampled_from([b"x", 5, True, [], Text("x"), Text()])
ids |= st.sampled_from([ID_LENGTH_MAX, ID_LENGTH_MAX + 1]).map("x".__mul__)


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except (TypeError, ValueError) as error:
        return type(error), str(error)


told = st.lists(st.none() | st.tuples(budgets, used, used), min_size=5, max_size=5)
asks = st.builds(
    lambda cost, executions, inputs, outputs: {
        "estimated_cost_usd": Decimal(cost) / 2,
        "executions": executions,
        "estimated_input_tokens": inputs,
        "estimated_output_tokens": outputs,
    },
    *[st.integers(0, 12)] * 4,
)


@given(told, st.lists(asks, min_size=2, max_size=5))
@example(
    [(Budget(daily_execution_limit=3), NOTHING, NOTHING), *[None] * 4],
    [{"executions": 1}, {"executions": 4}],
)
@example(
    [(Budget(monthly_token_limit=3), NOTHING, NOTHING), *[None] * 4],
    [{}, {"estimated_input_tokens": 2, "estimated_output_tokens": 2}],
)
@example(
    [(Budget(daily_input_token_limit=3), NOTHING, NOTHING), *[None] * 4],
    [{}, {"estimated_input_tokens": 4}],
)
@example(
    [(Budget(monthly_output_token_limit=3), NOTHING, NOTHING), *[None] * 4],
    [{}, {"estimated_output_tokens": 4}],
)
@example(
    [(monthly(3), NOTHING, NOTHING), (monthly(9), NOTHING, NOTHING), *[None] * 3], [{}, ASKS[3]]
)
def test_what_is_kept_for_one_call_answers_another_rightly(known, calls):
    """Whatever they ask for, of whichever kind, in whichever order."""
    world = Told()
    for scope, each in zip(SCOPES, known, strict=False):
        if each is not None:
            world.tell(scope, *each)
    for asked in calls * 2:
        world.compare(**asked)


@given(st.tuples(ids, ids, ids, ids))
def test_ids_are_checked_as_everywhere(given_ids):
    """However quickly that is seen."""
    assert outcome(keys_of, given_ids) == outcome(checked_keys.__wrapped__, *given_ids)
