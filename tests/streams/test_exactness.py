"""The invariants of the design, over whatever may happen."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlay.decision import WATERMARK_KEY, Watermark, encode
from streams import blocks
from streams.decisions import Decisions
from streams.entries import Entries
from streams.flush import Flush, Outgoing, Transaction
from streams.partials import Partials
from streams.totals import Totals
from streams.totals_state import TotalsState
from streams.wants import Awaited, Wants
from tests.streams.simulated_world import ACTIONS, TOPICS, Rules, World


@pytest.fixture(scope="module", autouse=True)
def _few_blocks() -> Iterator[None]:
    """What is worn is written anew soon: the worlds below have a few entries only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "SMALL_MAX", 2)
        patch.setattr(blocks, "SMALL_BLOCKS_MAX", 2)
        yield


SCHEDULES = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 2**16)), min_size=20, max_size=160
)


def rest_and_check(world: World) -> None:
    """Come to rest and compare; then again as newcomers who have only what the logs kept."""
    world.settle()
    world.check()
    world.restart()
    world.settle()
    world.check()


def random_schedule(
    seed: int, length: int = 400, actions: tuple[str, ...] = ACTIONS
) -> list[tuple[str, int]]:
    rng = random.Random(seed)
    return [(rng.choice(actions), rng.randrange(2**16)) for _ in range(length)]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEDULES)
def test_totals_decisions_and_budgets_are_exact_whatever_happens(
    schedule: list[tuple[str, int]],
) -> None:
    """Crashes between any two steps of a flush, zombies, moves, replays, compaction."""
    world = World()
    world.run(schedule)
    rest_and_check(world)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEDULES)
def test_without_transactions_crashes_are_exact_still(schedule: list[tuple[str, int]]) -> None:
    """A broker without transactions: everything but zombies."""
    world = World(Rules(transactions=False))
    world.run(schedule)
    rest_and_check(world)


@pytest.mark.parametrize("seed", range(60))
def test_long_schedules_are_exact(seed: int) -> None:
    """Longer runs than the shrinking search makes."""
    world = World(at_once_max=seed % 3)  # how many decisions wait for no refresh
    world.run(random_schedule(seed))
    rest_and_check(world)


@pytest.mark.parametrize("seed", range(20))
def test_each_decided_request_is_told_of_once_whatever_happens(seed: int) -> None:
    """Many requests, but few enough that all answers are kept, and no clock that jumps.

    So nothing of a budget is ever forgotten.
    """
    world = World(Rules(transactions=seed % 2 == 0))
    world.run(random_schedule(seed, 300, REQUESTS))
    rest_and_check(world)
    assert len(world._audited) > 10


def test_the_schedules_tell_without_saving_and_are_cut_off_in_saves() -> None:
    """Often enough, so that what is said above concerns them: also zombies tell."""
    seen: Counter[tuple[str, str]] = Counter()
    for seed in range(6):
        world = World()
        world.run(random_schedule(seed))
        rest_and_check(world)
        seen += world.seen
    for stage in ("partials", "totals"):
        told, begun, saved = (seen[stage, what] for what in ("told only", "saves", "saved"))
        assert told > 100
        assert saved > 50
        assert stage == "totals" or begun - saved > 50
    assert seen["partials", "told by a zombie"] > 50


# -- tests of the tests: each rule taken away, the check must notice

HOSTILE = (
    "emit", "emit", "emit", "apply", "apply", "apply", "flush", "flush", "step", "step", "step",
    "crash", "crash", "freeze", "wake", "wake", "rebalance", "seek_back", "compact", "request",
)  # fmt: skip


REQUESTS = (*HOSTILE, "request", "crash")
ZOMBIES = (*("emit", "apply", "apply", "flush", "step", "step") * 4, "freeze", "wake", "crash")
CALM = (*("emit", "apply", "apply", "flush", "step", "step", "step") * 5, "crash")


def breaks(
    rules: Rules = Rules(),  # noqa: B008 - frozen
    actions: tuple[str, ...] = HOSTILE,
    seeds: int = 40,
) -> bool:
    """Whether an invariant breaks in one of the first schedules of these actions."""
    for seed in range(seeds):
        world = World(rules, refresh_ms=5_000)
        world.pauses_ms = (1, 50, 200)
        for _ in range(3):
            world.request(random.Random(seed))
        try:
            world.run(random_schedule(seed, 300, actions))
            rest_and_check(world)
        except AssertionError:
            return True
    return False


def test_hostile_schedules_are_exact() -> None:
    """The schedules below, with all rules in force."""
    assert not breaks()
    assert not breaks(actions=CALM)
    assert not breaks(actions=ZOMBIES)


def test_without_a_fence_it_breaks() -> None:
    """A worker that wakes up after others took over writes its older values over theirs."""
    assert breaks(Rules(fence=False), ZOMBIES)


def test_when_a_successor_reads_what_was_aborted_it_breaks() -> None:
    """It takes entries for saved that go when the log is compacted, and the blocks before them."""
    assert breaks(Rules(committed=False), (*HOSTILE, "compact", "flush", "step", "crash"), 100)


def test_without_the_offset_of_a_key_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay would count again."""
    monkeypatch.setattr(Partials, "_replayed", lambda self, records: 0)
    assert breaks(Rules(transactions=False))


def test_without_the_hold_after_a_take_over_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions would step back, and watermarks claim what is not there."""
    monkeypatch.setattr(TotalsState, "holds", property(lambda self: False))
    assert breaks()


def test_when_the_watermark_passes_a_waiting_decision_it_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gateway would leave out spend that no decision contains."""
    publish = Decisions.publish

    def publish_and_claim(self: Decisions, now_ms: int) -> Iterator[tuple[bytes, bytes | None]]:
        yield from publish(self, now_ms)
        yield WATERMARK_KEY, encode(Watermark(dict(self._totals.progress), datetime.now(UTC)))

    monkeypatch.setattr(Decisions, "publish", publish_and_claim)
    assert breaks(actions=CALM)


def test_when_a_budget_is_in_force_before_its_totals_have_come_it_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A decision would show less than the watermark claims."""
    monkeypatch.setattr(Awaited, "__contains__", lambda self, scope: False)
    assert breaks(actions=REQUESTS)


def test_when_progress_is_taken_from_who_knows_less_of_the_wants_it_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is ahead in the log, and does not tell all that is wanted."""

    def reach(self: Totals, partition: int, progress: int, wants: int) -> None:
        self.progress[partition] = max(self.progress.get(partition, -2), progress)
        self.wants[partition] = max(self.wants.get(partition, -1), wants)
        self._progress_dirty = True

    monkeypatch.setattr(Totals, "_reach", reach)
    assert breaks(actions=REQUESTS, seeds=150)


def test_when_what_is_wanted_is_told_from_then_on_only_it_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What an agent had used before its budget was made would not count."""
    monkeypatch.setattr(Entries, "standing", lambda self, scopes: iter(()))
    assert breaks(actions=REQUESTS)


def test_when_what_is_wanted_is_not_saved_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A successor would not tell it any more."""
    monkeypatch.setattr(Wants, "take_changes", lambda self: iter(()))
    assert breaks(actions=REQUESTS)


def test_when_wants_follow_the_changelog_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between the two leaves a budget that waits for ever."""
    late: list[Outgoing] = []
    wants = TotalsState._wants

    def later(self: TotalsState) -> list[Outgoing]:
        late.extend(wants(self))
        return []

    def then(state: TotalsState, plan: Flush) -> Flush:
        told, late[:] = list(late), []
        return Flush([*plan.transactions, Transaction(outputs=told)]) if told else plan

    monkeypatch.setattr(TotalsState, "_wants", later)
    change_plans(monkeypatch, TotalsState, then)
    assert breaks(Rules(transactions=False), REQUESTS)


def test_when_a_configuration_follows_its_decision_it_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever reads of a version would not find it."""
    flush = TotalsState.flush

    def flush_late(self: TotalsState, now_ms: int, *, last: bool = False) -> Flush | None:
        plan = flush(self, now_ms, last=last)
        first = [] if plan is None else plan.transactions[0].outputs
        if plan is not None and any(out.topic == TOPICS.alert_configs for out in first):
            plan.transactions.append(plan.transactions.pop(0))
        return plan

    monkeypatch.setattr(TotalsState, "flush", flush_late)
    assert breaks(actions=REQUESTS)


def test_when_the_audit_waits_for_the_end_of_a_take_over_it_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The changelog says meanwhile that the requests were decided; a crash loses their records."""
    audit = TotalsState._audit

    def wait_and_audit(self: TotalsState) -> list[Outgoing]:
        return [] if self.holds else audit(self)

    monkeypatch.setattr(TotalsState, "_audit", wait_and_audit)
    assert breaks(actions=REQUESTS)


@pytest.mark.parametrize("topic", [TOPICS.audit, TOPICS.alerts])
def test_when_something_told_once_follows_the_changelog_it_breaks(
    monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    """A crash between the two leaves what is known to be told, and is not."""
    flush = TotalsState.flush

    def flush_late(self: TotalsState, now_ms: int, *, last: bool = False) -> Flush | None:
        plan = flush(self, now_ms, last=last)
        for transaction in [] if plan is None else plan.transactions:
            late = [out for out in transaction.outputs if out.topic == topic]
            transaction.outputs = [out for out in transaction.outputs if out not in late]
            transaction.changelog += late
        return plan

    monkeypatch.setattr(TotalsState, "flush", flush_late)
    assert breaks(Rules(transactions=False), REQUESTS)


State = Partials | TotalsState


def change_plans(
    monkeypatch: pytest.MonkeyPatch, stage: type[State], change: Callable[[Any, Flush], Flush]
) -> None:
    """Have a stage write something else than what it would."""
    flush = stage.flush

    def changed(self: State, now_ms: int, *, last: bool = False) -> Flush | None:
        plan = flush(self, now_ms, last=last)  # type: ignore[arg-type]
        return None if plan is None else change(self, plan)

    monkeypatch.setattr(stage, "flush", changed)


def test_when_what_is_told_follows_what_is_saved_it_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crash between the two: nobody reads again what was not told."""

    def told_late(state: Partials, plan: Flush) -> Flush:
        told = [out for each in plan.transactions for out in each.told]
        for each in plan.transactions:
            each.told = []
        return Flush([*plan.transactions, Transaction(told=told)])

    change_plans(monkeypatch, Partials, told_late)
    assert breaks()


@pytest.mark.parametrize("stage", [Partials, TotalsState])
def test_when_offsets_are_committed_without_a_save_it_breaks(
    monkeypatch: pytest.MonkeyPatch, stage: type[State]
) -> None:
    """A successor would not read again what the changelog does not hold."""

    def commit_always(state: Any, plan: Flush) -> Flush:
        if isinstance(state, TotalsState) and (
            state.holds or state.decisions.waiting or state.crossings.waiting
        ):
            return plan  # as ever
        offsets = {(topic, state.partition): at for topic, at in state.positions.items()}
        plan.transactions[-1].offsets = offsets
        return plan

    change_plans(monkeypatch, stage, commit_always)
    assert breaks(actions=CALM, seeds=150)
