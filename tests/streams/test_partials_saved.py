"""Partials between saves: what a flush writes, and that a crash is exact."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.scope import agent_key, is_agent_key
from outlay.topics import TopicNames
from outlay.usage import encode_usage
from schemas.messages import Want, WantsMessage
from streams import counting, dead_letters, messages
from streams import flush as flush_module
from streams import partials as partials_module
from streams.batch import Batch
from streams.flush import Flush, Message
from streams.partials import Partials
from streams.saving import IDLE_SAVE_INTERVAL_MS, SAVE_INTERVAL_MS
from tests.streams.flat import (
    Entry,
    as_records,
    block_of,
    changelog,
    entries,
    entries_of,
    flushed,
    offsets,
    outputs,
    rows_of,
)
from tests.streams.simulated_broker import Record
from tests.streams.test_totals import KEY, NOON, batch, begun, new_partials, usage

TOPICS = TopicNames()
START_MS = 1_000_000
WINDOW = KEY[1]
COUNTED = b"2026-03 0 0", messages.encode(block_of({WINDOW: {KEY[0]: Entry(9, 1, 1)}}))
"""The block of an entry in the changelog."""


def told_entries(plan: Flush) -> dict[messages.Key, Entry]:
    """The entries that are told."""
    return {
        key: entry
        for message in outputs(plan)
        if message.topic == TOPICS.partials
        for key, entry in entries_of(messages.decode_partials(message.value).entries).items()
    }


def committed(position: int, wants: int = 0) -> dict[tuple[str, int], int]:
    """What is committed of both topics that are read."""
    return {(TOPICS.usage, 0): position, (TOPICS.wants, 0): wants}


def wide(rows: dict[messages.Key, Entry]) -> dict[messages.Key, Entry]:
    """Without those of agents, which are told where they are wanted."""
    return {key: entry for key, entry in rows.items() if not is_agent_key(key[0])}


def used(agent_id: str = "a") -> bytes:
    return encode_usage([usage(NOON, agent_id=agent_id)])


def want(agent_id: str, offset: int, *, wanted: bool = True) -> bytes:
    """What the totals send when a request at an offset makes a budget, or takes it away."""
    wish = Want(agent_key("acme", agent_id), offset, wanted)
    return messages.encode(WantsMessage(0, [wish]))


def wanting(*agent_ids: str) -> Batch:
    """The first of the wants: some agents are wanted."""
    values = [want(agent_id, n) for n, agent_id in enumerate(agent_ids)]
    records = [Record(n, None, value, 0) for n, value in enumerate(values)]
    return Batch(TOPICS.wants, 0, records, 0, len(records))


def saved_plan(partials: Partials) -> Flush:
    """The flush that saves a first message."""
    partials.apply(batch((used(), NOON)))
    return flushed(partials, START_MS)


def saved_partials() -> Partials:
    """With a message counted and saved at START_MS."""
    partials = begun(new_partials())
    assert offsets(saved_plan(partials)) == committed(1)
    return partials


def test_an_owner_commits_at_once_also_where_nothing_is() -> None:
    """Else messages that come and go while nobody owns the partition would not be missed."""
    assert offsets(flushed(begun(new_partials()), START_MS)) == committed(0)


def test_an_idle_partition_saves_every_hour() -> None:
    """Brokers forget a transactional id that is not used for days."""
    partials = saved_partials()
    ticks = range(START_MS, START_MS + 24 * IDLE_SAVE_INTERVAL_MS, 10 * SAVE_INTERVAL_MS)
    commits = [offsets(flushed(partials, now_ms)) for now_ms in ticks[1:]]
    assert [each for each in commits if each] == [committed(1)] * 23


def test_without_an_interval_each_flush_saves() -> None:
    """On brokers without transactions, where a crash is to find nothing told and not saved."""
    partials = begun(new_partials(save_interval_ms=0))
    for position in range(3):
        partials.apply(batch((used(), NOON), start=position))
        plan = flushed(partials, START_MS + position)
        assert offsets(plan) == committed(position + 1)
        assert wide(rows_of(changelog(plan))) == told_entries(plan) != {}


def test_a_flush_between_saves_only_tells_and_the_next_save_writes_it_once() -> None:
    """Each entry as it is by then, and how far it was read."""
    partials = saved_partials()
    for position in (1, 2):
        partials.apply(batch((used(), NOON), start=position))
        plan = flushed(partials, START_MS + position)
        assert len(told_entries(plan)) == 2
        assert [(each.size, each.offsets) for each in plan.transactions] == [(0, {})]
        assert partials.flush(START_MS + position) is None
    plan = flushed(partials, START_MS + SAVE_INTERVAL_MS)
    rows = rows_of(changelog(plan))
    assert len(rows) == 4
    assert rows[KEY] == Entry(2, 3 * 10**9, 3)
    assert [(m.key, m.value is None) for m in changelog(plan)] == [
        (b"2026-03 0 1", False),
        (b"2026-03 0 0", True),  # which holds old values alone
    ]
    assert offsets(plan) == committed(3)
    plan = flushed(partials, START_MS + 2 * SAVE_INTERVAL_MS)  # a heartbeat
    assert (changelog(plan), offsets(plan)) == ([], {})


@pytest.mark.parametrize("last", [False, True])
def test_what_a_save_counts_itself_is_saved_with_it(last: bool) -> None:
    """Beside what waits for it, or alone."""
    partials = saved_partials()
    if last:
        partials.apply(batch((used("b"), NOON), start=1))
        flushed(partials, START_MS + 1)
    partials.apply(batch((used("c"), NOON), start=partials.position))
    plan = flushed(partials, START_MS + (2 if last else SAVE_INTERVAL_MS), last=last)
    rows = rows_of(changelog(plan))
    assert {scope.rpartition(":")[2] for scope, _ in rows} == (
        {"acme", "b", "c"} if last else {"acme", "c"}
    )
    assert told_entries(plan).items() <= rows.items()
    assert offsets(plan) == committed(partials.position)


def test_the_last_flush_has_nothing_to_save_twice() -> None:
    """Where all is saved and told, there is nothing to say."""
    assert saved_partials().flush(START_MS + 1, last=True) is None


def test_too_much_that_waits_is_saved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the flush after it was told, whatever the time is."""
    monkeypatch.setattr(partials_module, "UNSAVED_MAX", 8)
    partials = saved_partials()
    saved = []
    for position, agent_id in enumerate("abcd", 1):
        partials.apply(batch((used(agent_id), NOON), start=position))
        saved.append(offsets(flushed(partials, START_MS + position)))
    # The organization and the agent have two entries each.
    assert saved == [{}, {}, committed(4), {}]


def test_a_window_that_is_forgotten_before_it_is_saved_leaves_its_tombstones_alone() -> None:
    """No row of it comes after them, or the next owner would have it again."""
    partials = saved_partials()
    partials.apply(batch((used(), NOON), start=1))
    flushed(partials, START_MS + 1)
    later = NOON + timedelta(days=41)
    partials.apply(batch((encode_usage([usage(later)]), later), start=2))
    plan = flushed(partials, START_MS + 2)
    assert WINDOW not in {window for _, window in told_entries(plan)}
    assert changelog(plan) == []
    plan = flushed(partials, START_MS + SAVE_INTERVAL_MS)
    windows = {window for _, window in rows_of(changelog(plan))}
    assert windows == {f"{NOON:%Y-%m}", f"{later:%Y-%m}", f"{later:%Y-%m-%d}"}
    assert WINDOW not in {window for _, window in entries(partials)}


def test_a_new_owner_forgets_what_was_to_be_forgotten() -> None:
    """A crash may have come between the floor and its tombstones; no message has to come first."""
    partials = new_partials()
    floor = (messages.FLOOR_KEY, messages.encode((NOON + timedelta(days=41)).toordinal()))
    partials.load("changelog", as_records([COUNTED, floor]))
    begun(partials, 10)
    plan = flushed(partials, START_MS)
    assert [(m.key, m.value) for m in changelog(plan)] == [floor, (COUNTED[0], None)]
    assert not entries(partials)


def test_what_is_forgotten_since_a_replay_counted_it_is_not_told() -> None:
    """Nobody keeps it, and the next save takes it away."""
    partials = new_partials()
    partials.load("changelog", as_records([COUNTED]))
    begun(partials, 7)
    partials.apply(batch((used(), NOON), start=7))
    assert offsets(flushed(partials, START_MS)) == committed(8)
    later = NOON + timedelta(days=41)
    partials.apply(batch((used(), NOON), (encode_usage([usage(later)]), later), start=8))
    plan = flushed(partials, START_MS + 1)
    assert {window for _, window in told_entries(plan)} == {
        f"{NOON:%Y-%m}",
        f"{later:%Y-%m}",
        f"{later:%Y-%m-%d}",
    }


def test_what_a_replay_skips_is_told_again() -> None:
    """Should it have been cut off: nobody else would tell it."""
    partials = new_partials()
    partials.load("changelog", as_records([COUNTED]))
    begun(partials, 9)
    partials.apply(wanting("a"))
    partials.apply(batch((used(), NOON), start=9))
    agent = agent_key("acme", "a")
    told = told_entries(flushed(partials, START_MS))
    assert told[KEY] == Entry(9, 1, 1)
    assert told[agent, WINDOW] == Entry(9, 10**9, 1)
    saved = changelog(saved_plan(begun(new_partials())))
    partials = new_partials()
    partials.load("changelog", as_records([(m.key, m.value) for m in saved]))
    begun(partials, 0)
    partials.apply(wanting("a"))
    partials.apply(batch((used(), NOON)))
    assert told_entries(flushed(partials, START_MS)).keys() == entries(partials).keys()


def test_a_full_state_is_emptied_by_any_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also between saves: nobody would read on before the next one."""
    monkeypatch.setattr(counting, "SUMS_MAX", 1)
    partials = saved_partials()
    assert not partials.is_full
    partials.apply(batch((used(), NOON), start=1))
    assert partials.is_full
    flushed(partials, START_MS + 1)
    assert not partials.is_full
    letters = b"[" + b",".join([b"1"] * dead_letters.REJECTED_MAX) + b"]"
    partials.apply(batch((letters, NOON), start=2))
    assert partials.is_full
    plan = flushed(partials, START_MS + 2)
    assert sum(m.topic == TOPICS.rejected for m in outputs(plan)) == dead_letters.REJECTED_MAX
    assert offsets(plan) == {}
    assert not partials.is_full
    again = new_partials()
    again.load("changelog", as_records([COUNTED]))
    monkeypatch.setattr(partials_module, "DIRTY_MAX", 1)
    begun(again, 8)
    again.apply(batch((used(), NOON), start=8))
    flushed(again, START_MS)
    assert again.apply(batch((used(), NOON), start=9)) is None
    assert again.is_full  # a replay
    flushed(again, START_MS + 1)
    assert not again.is_full


class Log:
    """A usage partition, what was told of it, and the changelog and offset that a crash leaves.

    The last of its messages makes it forget the days of the first ones.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.values = [self._message(n) for n in range(12)]
        self.rows: list[Message] = []
        self.told: dict[messages.Key, Entry] = {}
        self.ever_told: set[tuple[messages.Key, Entry]] = set()
        self.wants = wanting(*"abc").records
        self.committed = self.committed_wants = 0

    def _message(self, number: int) -> tuple[bytes, datetime]:
        at = NOON + timedelta(days=self.rng.choice((0, 1)) + 21 * (number // 4))
        some = [usage(at, agent_id=self.rng.choice("abc")) for _ in range(self.rng.randint(1, 3))]
        return encode_usage(some), at

    def owner(self) -> Partials:
        """A newcomer: what the changelog holds, from the committed offset on."""
        owner = new_partials()
        owner.load("changelog", as_records(self.rows))
        return begun(owner, self.committed, self.committed_wants)

    def read(self, owner: Partials, count: int) -> None:
        start = owner.positions[TOPICS.wants]
        some = self.wants[start:][:count]
        owner.apply(Batch(TOPICS.wants, 0, some, start, start + len(some)))
        for value in self.values[owner.position :][:count]:
            owner.apply(batch(value, start=owner.position))

    def write(self, plan: Flush | None, steps: int) -> None:
        """Some steps of a flush: what is told, the changelog and offsets, of each transaction."""
        for each in [] if plan is None else plan.transactions:
            alone = Flush([each])
            for do in (self._tell, self._save):
                if not steps:
                    return
                do(alone)
                steps -= 1

    def _tell(self, plan: Flush) -> None:
        self.told |= told_entries(plan)
        self.ever_told.update(told_entries(plan).items())

    def _save(self, plan: Flush) -> None:
        rows = wide(rows_of(changelog(plan)))
        assert rows.items() <= self.ever_told, "saved before it was told"
        self.rows += [(m.key, m.value) for m in changelog(plan)]
        self.committed = offsets(plan).get((TOPICS.usage, 0), self.committed)
        self.committed_wants = offsets(plan).get((TOPICS.wants, 0), self.committed_wants)


@given(st.integers(0, 2**32))
def test_a_crash_between_saves_is_exact(seed: int) -> None:
    """A newcomer that reads again comes to what one owner would have, and all of it is told."""
    rng = random.Random(seed)
    log, whole = Log(rng), Log(random.Random(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush_module, "TRANSACTION_MESSAGES_MAX", rng.choice((3, 50_000)))
        now_ms = START_MS
        for _ in range(rng.randint(1, 5)):
            owner = log.owner()
            for _ in range(rng.randint(1, 6)):
                now_ms += rng.choice((1, 100, 400, SAVE_INTERVAL_MS))
                log.read(owner, rng.randint(0, 3))
                log.write(owner.flush(now_ms, last=rng.random() < 0.1), 1_000)
            log.write(owner.flush(now_ms + 1_000), rng.randint(0, 3))  # cut off by a crash
        owner = log.owner()
        log.read(owner, 100)
        log.write(owner.flush(now_ms, last=True), 1_000)
    only = whole.owner()
    whole.read(only, 100)
    only.flush(now_ms, last=True)
    assert log.committed == owner.position == len(log.values)
    assert log.committed_wants == len(log.wants)
    assert entries(owner) == entries(log.owner()) == entries(only)
    for (scope, window), (cost_nano, executions) in entries(only).items():
        told = log.told[scope, window]
        assert (told.cost_nano, told.executions) == (cost_nano, executions)
