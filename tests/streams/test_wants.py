"""Wants: which agents are told to the totals, and when their budgets are in force."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from outlay.decision import (
    OUTCOME_PREFIX,
    WATERMARK_KEY,
    BudgetRequest,
    decode_decision,
    decode_watermark,
    encode,
)
from outlay.scope import agent_key
from outlay.topics import TopicNames
from outlay.usage import encode_usage
from schemas.messages import PartialsMessage, Want, WantsMessage
from streams import decisions, messages, wants
from streams import partials as partials_module
from streams.batch import Batch
from streams.flush import Flush
from streams.wants import Awaited, Wants
from tests.streams.flat import (
    Entry,
    as_records,
    block_of,
    changelog,
    flushed,
    offsets,
    outputs,
)
from tests.streams.simulated_broker import Record
from tests.streams.test_partials_saved import committed, told_entries, want, wanting
from tests.streams.test_totals import NOON, batch, begun, new_partials, new_totals, usage

TOPICS = TopicNames()
AGENT, OTHER, TEAM = agent_key("acme", "a"), agent_key("acme", "b"), "organization:acme/team:t"
DAY, MONTH = f"{NOON:%Y-%m-%d}", f"{NOON:%Y-%m}"
NOW_MS = int(NOON.timestamp() * 1000)


def wants_at(start: int, *values: bytes) -> Batch:
    records = [Record(start + n, None, value, NOW_MS) for n, value in enumerate(values)]
    return Batch(TOPICS.wants, 0, records, start, start + len(records))


def used(*agent_ids: str) -> bytes:
    return encode_usage([usage(NOON, agent_id=agent_id) for agent_id in agent_ids])


def reached(plan: Flush) -> list[tuple[int | None, int]]:
    """Progress and wants of each partials message that tells its progress."""
    told = [messages.decode_partials(m.value) for m in outputs(plan) if m.topic == TOPICS.partials]
    return [(each.progress, each.wants) for each in told if each.progress is not None]


# -- the usage partitions


def test_an_agent_is_told_where_it_is_wanted_with_all_that_was_counted_before() -> None:
    """In all windows; from then on what changes; and no more when it is not wanted any more."""
    partials = begun(new_partials())
    partials.apply(batch((used("a", "b"), NOON)))
    first = flushed(partials, NOW_MS)
    assert {scope for scope, _ in told_entries(first)} == {"organization:acme"}
    assert reached(first) == [(0, -1)]

    partials.apply(wanting("a"))
    second = flushed(partials, NOW_MS + 1)
    entry = Entry(0, 10**9, 1)
    assert told_entries(second) == {(AGENT, DAY): entry, (AGENT, MONTH): entry}
    assert reached(second) == [(0, 0)]

    partials.apply(batch((used("a", "b"), NOON), start=1))
    third = told_entries(flushed(partials, NOW_MS + 2))
    assert third[AGENT, DAY] == Entry(1, 2 * 10**9, 2)
    assert (OTHER, DAY) not in third

    partials.apply(wants_at(1, want("a", 9, wanted=False)))
    partials.apply(batch((used("a"), NOON), start=2))
    fourth = flushed(partials, NOW_MS + 3)
    assert {scope for scope, _ in told_entries(fourth)} == {"organization:acme"}
    assert reached(fourth) == [(2, 9)]


def test_an_agent_is_told_in_those_windows_that_it_has() -> None:
    """There may be windows of its month from before it was met."""
    partials = begun(new_partials())
    later = NOON + timedelta(days=1)
    many = encode_usage([usage(later, agent_id=f"a{n}") for n in range(100)])
    for start, message in enumerate([(used("a"), NOON), (many, later)]):
        partials.apply(batch(message, start=start))
        flushed(partials, NOW_MS + start)
    partials.apply(wanting("a99", "nobody"))
    told = told_entries(flushed(partials, NOW_MS + 2))
    scope = agent_key("acme", "a99")
    assert told.keys() == {(scope, f"{later:%Y-%m-%d}"), (scope, MONTH)}


def test_what_is_wanted_in_one_flush_with_its_usage_is_told_with_it() -> None:
    """The progress contains both."""
    partials = begun(new_partials())
    partials.apply(batch((used("a"), NOON)))
    partials.apply(wanting("a"))
    plan = flushed(partials, NOW_MS)
    assert told_entries(plan)[AGENT, DAY] == Entry(0, 10**9, 1)
    assert reached(plan) == [(0, 0)]


def test_a_successor_tells_what_was_wanted_of_its_predecessor() -> None:
    """The changelog says it, and the offset is committed with that."""
    partials = begun(new_partials())
    partials.apply(wants_at(0, want("a", 5), want("b", 6), want("b", 7, wanted=False)))
    plan = flushed(partials, NOW_MS)
    assert offsets(plan) == committed(0, 3)
    assert [m.key for m in changelog(plan)][-1] == messages.WANTS_KEY  # behind what it speaks of
    copy = new_partials()
    copy.load("changelog", as_records((m.key, m.value) for m in changelog(plan)))
    begun(copy, 0, 3)
    copy.apply(batch((used("a", "b"), NOON)))
    plan = flushed(copy, NOW_MS)
    assert {scope for scope, _ in told_entries(plan)} == {"organization:acme", AGENT}
    assert reached(plan) == [(0, 7)]


def test_a_replay_of_wants_comes_to_the_same() -> None:
    """A new owner brings them again, behind what its predecessor has decided."""
    several = Wants()
    sent = [
        Want(AGENT, 3, True), Want(OTHER, 4, True), Want(OTHER, 5, False), Want(AGENT, 6, False),
        Want(AGENT, 7, True),
    ]  # fmt: skip
    assert several.take(WantsMessage(1, sent)) == [AGENT]
    list(several.take_changes())
    for want_again in sent:
        several.take(WantsMessage(1, [want_again]))
        assert 0 in several.told([AGENT])  # all the time: its progress says so
        assert several.taken == {1: 7}
    assert several.told([AGENT, OTHER, TEAM]) == [0, 2]
    assert list(several.take_changes()) == [(b"wants " + OTHER.encode(), None)]
    assert several.take(WantsMessage(1, sent)) == []


def test_a_want_that_comes_late_is_taken_over() -> None:
    """Where a new owner decides what its predecessor did not, or a message was lost before."""
    several = Wants()
    assert several.take(WantsMessage(1, [Want(AGENT, 9, True)])) == [AGENT]
    assert several.take(WantsMessage(1, [Want(OTHER, 4, True)])) == [OTHER]
    assert several.told([AGENT, OTHER]) == [0, 1]
    assert several.taken == {1: 9}


def test_what_is_no_wants_message_is_a_dead_letter() -> None:
    """And what comes behind it is taken over."""
    partials = begun(new_partials())
    partials.apply(wants_at(0, b"{", b'{"partition":0}', want("a", 0)))
    plan = flushed(partials, NOW_MS)
    letters = [m.key for m in outputs(plan) if m.topic == TOPICS.rejected]
    assert letters == [b"outlay.wants/0/0", b"outlay.wants/0/1"]
    assert reached(plan) == [(-1, 0)]
    assert partials.take_counts()["rejected"] == 2


def test_a_gap_in_the_wants_is_an_error() -> None:
    """An agent would not be told, and its budget count too little."""
    with pytest.raises(Exception, match="expected offset 0"):
        begun(new_partials()).apply(wants_at(1, want("a", 0)))


def test_wants_that_come_again_step_back_nowhere() -> None:
    """As after a seek to the committed offset."""
    partials = begun(new_partials())
    partials.apply(wants_at(0, want("a", 0), want("b", 1)))
    partials.apply(wants_at(0, want("a", 0)))
    assert partials.positions[TOPICS.wants] == 2


def test_wants_are_taken_over_in_parts_when_much_is_to_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flush comes between, and each agent is told once, its windows each with all others'."""
    monkeypatch.setattr(partials_module, "DIRTY_MAX", 3)
    partials = begun(new_partials())
    partials.apply(batch((used("a", "b", "c"), NOON)))
    flushed(partials, NOW_MS)
    rest = partials.apply(wants_at(0, want("a", 0), want("b", 1), want("c", 2)))
    assert rest is not None
    assert (rest.start, partials.positions[TOPICS.wants]) == (2, 2)
    plan = flushed(partials, NOW_MS + 1)
    assert {scope for scope, _ in told_entries(plan)} == {AGENT, OTHER}
    told = [messages.decode_partials(m.value) for m in outputs(plan)]
    assert [(list(each.entries.windows), each.asked) for each in told] == [
        ([DAY], True), ([MONTH], True), ([], False),
    ]  # fmt: skip
    assert reached(plan) == [(0, 1)]
    assert partials.apply(rest) is None
    assert {scope for scope, _ in told_entries(flushed(partials, NOW_MS + 2))} == {
        agent_key("acme", "c")
    }


def test_many_wants_are_told_in_messages_of_a_bounded_size() -> None:
    """To each usage partition the same."""
    awaited = Awaited()
    for offset in range(2 * wants.WANTS_MESSAGE_MAX + 1):
        awaited.changed(agent_key("acme", f"a{offset}"), offset, made=True)
    awaited.changed(TEAM, 0, made=True)  # told as ever
    told = awaited.take_wants(TOPICS.wants, 7, 3)
    assert [(each.topic, each.partition) for each in told] == [(TOPICS.wants, p) for p in range(3)]
    for each in told:
        parsed = [messages.decode_wants(value) for _, value in each.messages]
        assert [len(message.wants) for message in parsed] == [1_000, 1_000, 1]
        assert {message.partition for message in parsed} == {7}
    assert awaited.take_wants(TOPICS.wants, 7, 3) == []


# -- the totals


class Totals:
    """The totals stage over two usage partitions."""

    def __init__(self) -> None:
        self.tables: dict[str, list[tuple[bytes | None, bytes | None]]] = {}
        self.now_ms = NOW_MS
        self.restart()

    def restart(self) -> None:
        """A new owner, which has read all that was there."""
        self.state = new_totals(refresh_ms=0, usage_partitions=2)
        for name, rows in self.tables.items():
            self.state.load(name, as_records(rows))
        positions = {TOPICS.partials: 0, TOPICS.budgets: 0}
        self.state.begin(positions, positions)

    def ask(self, scope: str = AGENT, action: Any = "put", **changes: Any) -> None:
        at = self.state.positions[TOPICS.budgets]
        request = BudgetRequest(request_id=f"r{at}", scope=scope, action=action, changes=changes)
        record = Record(at, None, encode(request), self.now_ms)
        self.state.apply(Batch(TOPICS.budgets, 0, [record], at, at + 1))

    def hear(self, partition: int, progress: int | None, taken: int, *scopes: str) -> None:
        """What a usage partition tells: a dollar for each message, of some scopes."""
        entry = Entry(progress or 0, ((progress or 0) + 1) * 10**9, 1)
        rows = dict.fromkeys(scopes, entry)
        block = block_of({DAY: rows, MONTH: rows}) if rows else block_of({})
        self._apply(PartialsMessage(partition, NOON.toordinal(), progress, block, wants=taken))

    def hear_asked(self, partition: int, window: str, executions: int) -> None:
        """A partition tells of a window because it is asked."""
        block = block_of({window: {AGENT: Entry(0, 10**9, executions)}})
        self._apply(PartialsMessage(partition, NOON.toordinal(), None, block, asked=True))

    def _apply(self, told: PartialsMessage) -> None:
        at = self.state.positions[TOPICS.partials]
        record = Record(at, None, messages.encode(told), self.now_ms)
        self.state.apply(Batch(TOPICS.partials, 0, [record], at, at + 1))

    def alerts(self) -> list[bytes | None]:
        """The keys of the alerts of a flush."""
        self.flush()
        return [m.key for m in outputs(self.plan) if m.topic == TOPICS.alerts]

    def flush(self) -> dict[bytes, bytes | None]:
        """What goes to the decisions topic, by key."""
        self.now_ms += 100
        plan = flushed(self.state, self.now_ms, last=True)
        for message in changelog(plan):
            self.tables.setdefault(message.topic, []).append((message.key, message.value))
        self.plan = plan
        return {m.key or b"": m.value for m in outputs(plan) if m.topic == TOPICS.decisions}


@pytest.fixture
def totals() -> Totals:
    """Both usage partitions have told that they are at 4 and at 7."""
    totals = Totals()
    totals.hear(0, 4, -1)
    totals.hear(1, 7, -1)
    totals.flush()
    return totals


def in_force(published: dict[bytes, bytes | None]) -> bool:
    """Whether the agent has a decision, or the request its answer."""
    return published.get(KEY) is not None or OUTCOME in published


KEY, OUTCOME = AGENT.encode(), OUTCOME_PREFIX + AGENT.encode()


def test_an_agents_budget_is_in_force_when_all_partitions_have_told(totals: Totals) -> None:
    """And is answered then."""
    totals.ask(monthly_budget_usd=100)
    assert not in_force(totals.flush())
    told = [m for m in outputs(totals.plan) if m.topic == TOPICS.wants]
    assert [m.partition for m in told] == [0, 1]
    assert {m.value for m in told} == {messages.encode(WantsMessage(0, [Want(AGENT, 0, True)]))}
    totals.hear(0, 5, 0, AGENT)
    assert not in_force(totals.flush())
    totals.hear(1, None, -1, AGENT)  # a part: its progress comes with another
    assert not in_force(totals.flush())
    totals.hear(1, 7, 0)
    published = totals.flush()
    decision = decode_decision(published[KEY] or b"")
    assert decision.windows[MONTH].offsets == {0: 5, 1: 0}
    assert decision.windows[MONTH].cost_usd == "7.00"
    assert OUTCOME in published
    assert list(published).index(KEY) < list(published).index(OUTCOME)


def test_a_teams_budget_is_in_force_at_once(totals: Totals) -> None:
    """It was told all the time."""
    totals.ask(TEAM, monthly_budget_usd=100)
    published = totals.flush()
    assert {TEAM.encode(), OUTCOME_PREFIX + TEAM.encode()} <= published.keys()
    assert not [m for m in outputs(totals.plan) if m.topic == TOPICS.wants]


def test_a_change_of_a_budget_in_force_waits_for_nothing(totals: Totals) -> None:
    """The agent is wanted already."""
    totals.ask(monthly_budget_usd=100)
    for partition, progress in ((0, 4), (1, 7)):
        totals.hear(partition, progress, 0)
    totals.flush()
    totals.ask(monthly_budget_usd=50)
    assert {KEY, OUTCOME} <= totals.flush().keys()
    assert not [m for m in outputs(totals.plan) if m.topic == TOPICS.wants]


def test_progress_of_who_does_not_know_what_is_wanted_does_not_count(totals: Totals) -> None:
    """One that lost the partition is ahead of its successor, but tells less."""
    totals.ask(monthly_budget_usd=100)
    totals.hear(0, 5, 0, AGENT)
    totals.hear(1, 8, 0, AGENT)
    totals.flush()
    totals.hear(0, 20, -1)
    assert totals.state.totals.progress == {0: 5, 1: 8}
    totals.hear(0, 6, 0)
    watermark = decode_watermark(totals.flush()[WATERMARK_KEY] or b"")
    assert watermark.offsets == {0: 6, 1: 8}


def test_wants_count_with_a_progress_that_is_not_behind(totals: Totals) -> None:
    """What is known of the agent reaches as far as the watermark, from the first decision on."""
    totals.ask(monthly_budget_usd=100)
    totals.hear(1, 8, 0)
    totals.hear(0, 3, 0, AGENT)  # a successor that is reading again what was told before
    assert not in_force(totals.flush())
    assert totals.state.totals.progress == {0: 4, 1: 8}
    totals.hear(0, 4, 0, AGENT)
    assert KEY in totals.flush()


def test_a_budget_that_is_made_anew_waits_anew(totals: Totals) -> None:
    """Its decision goes with the one before it, and comes with all that was used meanwhile."""
    totals.ask(monthly_budget_usd=100)
    totals.hear(0, 4, 0)
    totals.hear(1, 7, 0)
    assert totals.flush()[KEY] is not None
    totals.ask(action="delete")
    totals.ask(monthly_budget_usd=50)
    published = totals.flush()
    assert published[KEY] is None
    assert OUTCOME not in published
    sent = [m.value for m in outputs(totals.plan) if m.topic == TOPICS.wants and m.partition == 0]
    assert sent == [messages.encode(WantsMessage(0, [Want(AGENT, 1, False), Want(AGENT, 2, True)]))]
    totals.hear(0, 4, 1)
    totals.hear(1, 7, 2)
    assert not in_force(totals.flush())
    totals.hear(0, 5, 2, AGENT)
    assert decode_decision(totals.flush()[KEY] or b"").version == 3


def test_a_budget_that_is_taken_away_while_it_waits_is_answered(totals: Totals) -> None:
    """Both requests are, and nothing waits any more."""
    totals.ask(monthly_budget_usd=100)
    totals.flush()
    totals.ask(action="delete")
    published = totals.flush()
    assert OUTCOME in published
    assert published.get(KEY) is None
    assert offsets(totals.plan)
    assert not totals.state.budgets.awaited


def test_no_alert_is_looked_for_before_a_budget_is_in_force(totals: Totals) -> None:
    """Of half of what was used, one would tell of a threshold, and then of the next."""
    totals.ask(monthly_budget_usd=8)
    totals.hear(0, 5, 0, AGENT)
    totals.flush()
    assert not [m for m in outputs(totals.plan) if m.topic == TOPICS.alerts]
    totals.hear(1, 7, 0, AGENT)
    totals.flush()
    assert {m.key for m in outputs(totals.plan) if m.topic == TOPICS.alerts} == {KEY}


def test_no_alert_of_a_past_window_comes_of_a_budget_that_is_made(totals: Totals) -> None:
    """Also where a usage partition tells again what it was asked for, or a new owner reads it."""
    before = "2026-02"
    totals.ask(monthly_execution_limit=1)
    totals.hear_asked(0, before, 9)
    totals.hear(0, 4, 0)
    totals.hear(1, 7, 0)
    assert totals.alerts() == []
    totals.hear_asked(0, before, 9)
    assert totals.alerts() == []
    totals.restart()
    totals.hear_asked(0, before, 9)
    assert totals.alerts() == []
    totals.hear_asked(0, MONTH, 9)  # counted anew by a successor, before it heard of the want
    assert set(totals.alerts()) == {KEY}


def test_what_is_asked_for_and_was_forgotten_is_not_late(totals: Totals) -> None:
    """Nobody has sent it too late."""
    totals.hear_asked(0, "2024-01", 1)
    assert totals.state.take_counts()["late"] == 0


def test_a_refusal_does_not_wait(totals: Totals) -> None:
    """It does not depend on what was used."""
    totals.ask(monthly_budget_usd=100)
    totals.flush()
    totals.ask(monthly_budget_usd=-1)
    published = totals.flush()
    assert b'"accepted":false' in (published[OUTCOME] or b"")
    assert published.get(KEY) is None


def test_budgets_that_were_in_force_are_known_whatever_the_order_of_the_changelog(
    totals: Totals,
) -> None:
    """And those that were not wait on."""
    for scope in (OTHER, AGENT, agent_key("acme", "c")):
        totals.ask(scope, monthly_budget_usd=100)
    totals.hear(0, 4, 1)
    totals.hear(1, 7, 1)
    totals.flush()
    totals.tables["B"].sort(reverse=True)
    totals.restart()
    assert list(totals.state.budgets.awaited) == [agent_key("acme", "c")]


@pytest.mark.parametrize("told", [0, 1, 2])
def test_a_new_owner_waits_for_what_is_missing(totals: Totals, told: int) -> None:
    """Of one that was in force everything is known; what comes again changes nothing.

    Nothing is committed later because of what is missing. So no request comes again, and its
    answer is known from the changelog.
    """
    totals.ask(monthly_budget_usd=100)
    for partition, progress in [(0, 4), (1, 7)][:told]:
        totals.hear(partition, progress, 0, AGENT)
    answered = OUTCOME in totals.flush()
    assert answered == (told == 2)
    assert offsets(totals.plan) == {(TOPICS.partials, 0): 2 + told, (TOPICS.budgets, 0): 1}
    totals.restart()
    assert (AGENT in totals.state.budgets.awaited) == (told < 2)
    published = totals.flush()
    assert (published.get(KEY) is not None) == (told == 2)
    for partition, progress in [(0, 4), (1, 7)]:
        totals.hear(partition, progress, 0, AGENT)
    published = totals.flush()
    assert published.get(KEY) is not None
    assert answered or OUTCOME in published


def test_answers_wait_in_a_bounded_number(totals: Totals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody owns a usage partition, the first of very many are answered all the same."""
    monkeypatch.setattr(decisions, "ANSWERS_WAIT_MAX", 2)
    for limit in (1, 2, 3):
        totals.ask(monthly_budget_usd=limit)
    outcomes = [m for m in outputs(flushed(totals.state, NOW_MS + 1)) if m.key == OUTCOME]
    assert len(outcomes) == 1
    assert b'"r0"' in (outcomes[0].value or b"")


def test_a_budget_of_an_older_version_stops_its_owner() -> None:
    """Nobody would tell the totals of its agent."""
    totals = Totals()
    totals.tables["B"] = [(KEY, b'{"budget":{},"version":2,"offset":1,"made":1}')]
    with pytest.raises(ValueError, match="agent:a was written by an older version"):
        totals.restart()
    totals.tables["B"] = [(TEAM.encode(), b'{"budget":{},"version":2,"offset":1,"made":1}')]
    totals.restart()
