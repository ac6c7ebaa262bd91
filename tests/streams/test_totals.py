"""Totals and partials by themselves: merging, forgetting, what the changelog gives back."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.decision import BudgetRequest, encode
from outlay.framing import encode_frame
from outlay.scope import is_agent_key
from outlay.topics import TopicNames
from outlay.usage import UsageRecord, decode_records, encode_usage
from schemas.messages import Block, DeadLetter, PartialsMessage
from streams import messages, totals_state
from streams.audit import decode_audit
from streams.batch import Batch, GapError
from streams.decisions import AT_ONCE_MAX
from streams.flush import Flush, Message
from streams.partials import Partials
from streams.saving import SAVE_INTERVAL_MS
from streams.totals import Totals
from streams.totals_state import TotalsState
from tests.streams.flat import (
    Entry,
    as_records,
    block_of,
    changelog,
    entries,
    entries_of,
    held,
    outputs,
    total_of,
)
from tests.streams.simulated_broker import Record

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = ("organization:acme", "2026-03-01")


def new_partials(partition: int = 0, save_interval_ms: int = SAVE_INTERVAL_MS) -> Partials:
    return Partials(
        partition,
        topics=TopicNames(),
        changelog="changelog",
        totals_partitions=1,
        save_interval_ms=save_interval_ms,
    )


def new_totals(
    at_once_max: int = AT_ONCE_MAX, refresh_ms: int = 1_000, usage_partitions: int = 1
) -> TotalsState:
    return TotalsState(
        0,
        topics=TopicNames(),
        totals_changelog="T",
        budgets_changelog="B",
        alerts_changelog="A",
        partition_of=lambda scope: 0,
        partitions=1,
        usage_partitions=usage_partitions,
        refresh_ms=refresh_ms,
        at_once_max=at_once_max,
    )


def usage(at: datetime, cost_usd: str = "1", **fields: str) -> UsageRecord:
    everything: dict[str, Any] = {"organization_id": "acme", "agent_id": "a"} | fields
    return UsageRecord.new(cost_usd=cost_usd, occurred_at=at, **everything)


def batch(*values: tuple[bytes, datetime], start: int = 0) -> Batch:
    records = [
        Record(start + i, None, value, int(at.timestamp() * 1000))
        for i, (value, at) in enumerate(values)
    ]
    return Batch("outlay.usage", 0, records, start, start + len(records))


def written(totals: Totals) -> list[Message]:
    """What a flush writes of totals to their changelog."""
    return list(totals.take_changes())


def begun(partials: Partials, position: int = 0, wants: int = 0) -> Partials:
    topics = TopicNames()
    positions = {topics.usage: position, topics.wants: wants}
    partials.begin(positions, dict.fromkeys(positions, 10**6))
    return partials


def read_back(flush: Flush) -> Partials:
    """What a new owner recovers from the changelog that a flush writes."""
    copy = new_partials()
    copy.load("changelog", as_records((m.key, m.value) for m in changelog(flush)))
    return copy


@given(st.data())
def test_a_total_is_the_newest_part_of_each_partition_in_any_order(data: st.DataObject) -> None:
    """A duplicate, a re-ordering or a replay of partials changes nothing."""
    newest = {p: data.draw(st.integers(0, 9)) for p in range(3)}
    told = [
        PartialsMessage(p, 0, at, block_of({KEY[1]: {KEY[0]: Entry(at, 100 * p + at, at, 1, 1)}}))
        for p, last in newest.items()
        for at in range(last + 1)
    ]
    told += data.draw(st.lists(st.sampled_from(told), max_size=10))
    totals = Totals()
    for message in data.draw(st.permutations(told)):
        totals.merge(message)
    total = total_of(totals, *KEY)
    assert total is not None
    assert total[0].cost_nano == sum(100 * p + at for p, at in newest.items())
    assert total[1] == newest
    assert totals.progress == newest


@given(st.integers(0, 2**16), st.integers(1, 12))
def test_the_grouping_of_batches_does_not_matter(seed: int, size: int) -> None:
    """A partial is a function of the log's prefix, not of how it was fetched."""
    rng = random.Random(seed)
    packs = [
        [usage(NOON, f"0.{rng.randrange(1, 10**6):06d}", agent_id=rng.choice("ab")) for _ in "123"]
        for _ in range(12)
    ]
    values = [
        ((rng.choice((True, False)) and encode_frame(pack)) or encode_usage(pack), NOON)
        for pack in packs
    ]
    whole = begun(new_partials())
    whole.apply(batch(*values))
    pieces = begun(new_partials())
    for start in range(0, len(values), size):
        pieces.apply(batch(*values[start : start + size], start=start))
    for partials in (whole, pieces):
        partials.flush(0)
    assert entries(whole) == entries(pieces)
    assert entries(whole)[KEY][1] == 36


def test_records_of_one_message_count_together_in_a_replay() -> None:
    """All records of a packed message share its offset, and none is taken for a repetition."""
    partials = new_partials()
    counted = messages.encode(block_of({KEY[1]: {KEY[0]: Entry(4, 10**9, 1)}}))
    partials.load("changelog", [Record(0, b"2026-03 0 0", counted, 0)])
    begun(partials, 4)
    packed = encode_usage([usage(NOON, agent_id="a"), usage(NOON, agent_id="b")])
    partials.apply(batch((packed, NOON), (packed, NOON), start=4))
    partials.flush(0)
    assert entries(partials)[KEY][0] == 3 * 10**9  # offset 4 was contained
    assert entries(partials)["organization:acme/agent:b", KEY[1]][0] == 2 * 10**9


def test_what_does_not_count_in_a_frame_is_a_dead_letter_by_itself() -> None:
    """As JSON, so that it can be read, mended and sent again; the others count."""
    partials = begun(new_partials())
    ahead = usage(NOON + timedelta(days=2), agent_id="b")
    frame = encode_frame([usage(NOON), ahead, usage(NOON)])
    assert frame is not None
    partials.apply(batch((frame, NOON), (frame[:-1], NOON)))
    flush = partials.flush(0)
    assert flush is not None
    letters = [
        msgspec.json.decode(m.value, type=DeadLetter)
        for m in outputs(flush)
        if m.topic == TopicNames().rejected and m.value is not None
    ]
    assert [(letter.offset, letter.index) for letter in letters] == [(0, 1), (1, None)]
    assert letters[0].record is not None
    assert decode_records(letters[0].record.encode()) == [ahead]
    assert "not a frame" in letters[1].reason
    assert entries(partials)[KEY] == (2 * 10**9, 2)


def test_a_gap_in_the_source_is_an_error_and_a_repetition_is_not() -> None:
    """What was never seen is lost; what was seen is dropped."""
    partials = begun(new_partials())
    partials.apply(batch((encode_usage([usage(NOON)]), NOON)))
    partials.apply(batch((encode_usage([usage(NOON)]), NOON)))
    partials.flush(0)
    assert entries(partials)[KEY][1] == 1
    with pytest.raises(GapError, match="expected offset 1"):
        partials.apply(batch((encode_usage([usage(NOON)]), NOON), start=2))


def test_the_changelog_gives_back_what_was_written() -> None:
    """Everything that the flush writes is read back to the same state."""
    partials = begun(new_partials())
    partials.apply(batch((encode_usage([usage(NOON, team_id="t/1", user_id="ü ber")]), NOON)))
    flush = partials.flush(0)
    assert flush is not None
    copy = read_back(flush)
    assert held(copy.entries) == held(partials.entries)
    assert len(entries(copy)) == 10


def test_a_window_is_forgotten_by_the_log_and_never_starts_again() -> None:
    """Retention follows the broker's timestamps; a late record touches no forgotten window."""
    partials = begun(new_partials())
    partials.apply(batch((encode_usage([usage(NOON)]), NOON)))
    partials.flush(0)
    later = NOON + timedelta(days=41)
    partials.apply(batch((encode_usage([usage(later)]), later), start=1))
    flush = partials.flush(0, last=True)
    assert flush is not None
    assert KEY not in entries(partials)
    assert KEY not in entries(read_back(flush))
    partials.apply(batch((encode_usage([usage(NOON)]), later), start=2))
    partials.flush(0)
    assert KEY not in entries(partials)
    assert entries(partials)["organization:acme", "2026-03"][1] == 2  # its month is kept
    assert partials.take_counts()["late"] == 1


def test_the_floor_survives_a_restart() -> None:
    """A new owner knows what was forgotten, also before it has read a new message."""
    partials = begun(new_partials())
    later = NOON + timedelta(days=41)
    partials.apply(batch((encode_usage([usage(later)]), later)))
    flush = partials.flush(0)
    assert flush is not None
    copy = read_back(flush)
    begun(copy, 1)
    copy.apply(batch((encode_usage([usage(NOON)]), NOON), start=1))
    copy.flush(0)
    assert KEY not in entries(copy)


def test_totals_forget_with_tombstones() -> None:
    """What the partials' floor has passed goes from the totals too, and stays away."""
    totals = Totals()
    told = block_of({KEY[1]: {KEY[0]: Entry(0, 5, 1, 0, 0)}})
    totals.merge(PartialsMessage(0, date(2026, 3, 1).toordinal(), 0, told))
    written(totals)
    totals.merge(PartialsMessage(1, date(2026, 4, 20).toordinal(), 0, Block()))
    assert dict(written(totals))[b"2026-03 0 0"] is None
    totals.merge(PartialsMessage(0, 0, 1, block_of({KEY[1]: {KEY[0]: Entry(1, 5, 1, 0, 0)}})))
    assert total_of(totals, *KEY) is None
    assert totals.late == 1


def test_partials_messages_are_split_and_tell_their_progress_last() -> None:
    """No message is larger than a topic takes, and a watermark never passes a part unseen."""
    partials = begun(new_partials())
    long = "x" * 250
    records = [usage(NOON, agent_id=f"{long}{i}", user_id=f"{long}{i}") for i in range(2_000)]
    partials.apply(
        batch(*[(encode_usage(records[i : i + 500]), NOON) for i in range(0, 2_000, 500)])
    )
    flush = partials.flush(0)
    assert flush is not None
    told = [m.value for m in outputs(flush)]
    assert len(told) > 1
    assert all(value is not None and len(value) < 600_000 for value in told)
    parsed = [messages.decode_partials(value) for value in told]
    assert [m.progress for m in parsed] == [None] * (len(parsed) - 1) + [3]
    counted = [scope for scope, _ in entries(partials) if not is_agent_key(scope)]
    assert sum(len(entries_of(m.entries)) for m in parsed) == len(counted)


def test_a_message_of_bad_records_is_not_multiplied() -> None:
    """Each dead letter holds its own record, not the whole message."""
    partials = begun(new_partials())
    value = b"[" + b",".join([b'{"id":"%04d"}' % n for n in range(5_000)]) + b"]"
    partials.apply(batch((value, NOON)))
    flush = partials.flush(0)
    assert flush is not None
    letters = [m for m in outputs(flush) if "rejected" in m.topic]
    assert len(letters) == 5_000
    assert sum(len(m.value or b"") for m in letters) < 12 * len(value) * 2


def test_a_timestamp_beyond_the_calendar_raises_no_floor() -> None:
    """A producer's nonsense, where the broker lets it through, must not stop the worker."""
    partials = begun(new_partials())
    record = Record(0, None, encode_usage([usage(NOON)]), 2**62)
    partials.apply(Batch("outlay.usage", 0, [record], 0, 1))
    assert partials.flush(0) is not None
    assert KEY in entries(partials)


def test_the_totals_floor_survives_a_restart() -> None:
    """A partial that lags behind starts no forgotten window again, also at a new owner."""
    totals = Totals()
    totals.merge(PartialsMessage(1, date(2026, 4, 20).toordinal(), 0, Block()))
    copy = Totals()
    copy.load(as_records(written(totals)))
    copy.merge(PartialsMessage(0, 0, 1, block_of({KEY[1]: {KEY[0]: Entry(1, 5, 1, 0, 0)}})))
    assert total_of(copy, *KEY) is None


def test_a_new_owner_does_not_hold_what_was_forgotten() -> None:
    """A block may still have it, beside what is kept."""
    state, later = new_totals(), NOON + timedelta(days=41)
    old = {KEY[0]: Entry(1, 5, 1)}
    block = messages.encode(block_of({KEY[1]: old, KEY[1][:7]: old}))
    floor = (messages.FLOOR_KEY, messages.encode(later.toordinal()))
    state.load("T", as_records([(b"2026-03 0 0", block), floor]))
    topics = TopicNames()
    state.begin({topics.partials: 0, topics.budgets: 0}, {topics.partials: 0, topics.budgets: 0})
    assert total_of(state.totals, *KEY) is None
    assert total_of(state.totals, KEY[0], KEY[1][:7]) is not None


def test_a_deleted_budget_is_forgotten_while_the_stage_holds() -> None:
    """Nothing waits for it afterwards."""
    topics = TopicNames()
    state = new_totals()
    deleted = b'{"budget":null,"version":2,"offset":1,"day":700000}'
    state.load("B", as_records([(KEY[0].encode(), deleted)]))
    state.begin({topics.partials: 0, topics.budgets: 2}, {topics.partials: 2, topics.budgets: 2})
    windows = block_of({KEY[1]: {KEY[0]: Entry(1, 5, 1, 0, 0)}})
    told = messages.encode(PartialsMessage(0, NOON.toordinal(), 1, windows))
    for offset in range(2):
        record = Record(offset, None, told, 0)
        state.apply(Batch(topics.partials, 0, [record], offset, offset + 1))
        state.flush(offset * 5_000)
    assert not state.holds
    assert not state.budgets.states


def requests(count: int) -> Batch:
    """Budget requests of one scope, from offset 0 on."""
    values = [
        encode(BudgetRequest(request_id=f"r{n}", scope=KEY[0], action="put", requested_by="ann"))
        for n in range(count)
    ]
    records = [Record(n, None, value, 0) for n, value in enumerate(values)]
    return Batch(TopicNames().budgets, 0, records, 0, count)


def test_the_audit_is_published_with_the_changelog_also_while_the_stage_holds() -> None:
    """Once: after a take-over no decision goes out yet, but what was decided is on record."""
    topics, state = TopicNames(), new_totals()
    state.begin({topics.partials: 0, topics.budgets: 0}, {topics.partials: 1, topics.budgets: 0})
    state.apply(requests(2))
    assert state.holds
    flush = state.flush(0)
    assert flush is not None
    told = outputs(flush)
    assert [(m.topic, m.partition, m.key) for m in told] == [(topics.audit, 0, KEY[0].encode())] * 2
    records = [decode_audit(m.value or b"") for m in told]
    assert [(r.offset, r.version, r.requested_by) for r in records] == [
        (0, 1, "ann"),
        (1, 2, "ann"),
    ]
    assert [m.topic for m in changelog(flush)] == ["B"]
    assert flush.transactions[-1].offsets == {}
    state.apply(requests(2))  # a replay in this process
    assert state.flush(5_000) is None


def test_reading_pauses_while_too_many_audit_records_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on after a flush."""
    monkeypatch.setattr(totals_state, "AUDITS_MAX", 3)
    topics, state = TopicNames(), new_totals()
    state.begin({topics.partials: 0, topics.budgets: 0}, {topics.partials: 1, topics.budgets: 0})
    state.apply(requests(2))
    assert not state.is_full
    state.apply(requests(3))
    assert state.is_full
    state.flush(0)
    assert not state.is_full
