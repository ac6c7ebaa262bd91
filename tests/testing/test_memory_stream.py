"""The in-memory stream: what it is, its time, and what came in."""

import asyncio
import inspect
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from outlay import (
    Amounts,
    Budget,
    BudgetClient,
    DecisionFeed,
    UsageEmitter,
    UsageRecord,
)
from outlay.testing import (
    InMemoryBudgets,
    InMemoryEmitter,
    InMemoryFeed,
    InMemoryStream,
    Rejected,
    memory_usage,
)
from tests.library.conftest import nothing_is_left  # noqa: F401 - it watches over every test here
from tests.testing.world import ACME, DOLLAR, NANO, NOON, REPORT, used

# -- what it is


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        (UsageEmitter, InMemoryEmitter),
        (BudgetClient, InMemoryBudgets),
        (DecisionFeed, InMemoryFeed),
    ],
)
def test_the_interfaces_are_the_real_ones(real, fake):
    """Each public method is there, with the same arguments; and a user's annotations hold."""
    assert issubclass(fake, real)
    for name, member in inspect.getmembers(real, inspect.isfunction):
        if not name.startswith("_"):
            ours = inspect.signature(getattr(fake, name))
            assert str(ours) == str(inspect.signature(member)), name


def test_the_emitter_leaves_nothing_to_the_real_ones_connection():
    """All that the real one does with its background is done otherwise here."""
    public = {name for name in vars(UsageEmitter) if not name.startswith("_")}
    assert public - vars(InMemoryEmitter).keys() == set()


def test_there_is_no_thread_and_no_wait():
    """All is done when a call returns, in the thread that calls."""
    before = threading.enumerate()
    seen = []
    with InMemoryStream(NOON) as stream:
        stream.feed.add_listener(lambda *change: seen.append(threading.current_thread()))
        stream.budgets.put(ACME, DOLLAR)
        stream.emitter.emit(**REPORT)
        asyncio.run(stream.budgets.apatch(ACME, {"on_stale": "block"}))
        assert threading.enumerate() == before
    assert seen == [threading.current_thread()] * 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"usage_partitions": 0},
        {"decisions_partitions": -1},
        {"buffer_records_max": 0},
        {"now": NOON.replace(tzinfo=None)},
    ],
)
def test_what_it_cannot_be_is_an_error(arguments):
    """When it is made."""
    with pytest.raises(ValueError):
        InMemoryStream(**arguments)


# -- time


def test_a_new_day_and_a_new_month_begin_at_nothing(stream):
    """The decisions are published anew, with the windows of then."""
    stream.budgets.put(ACME, Budget(daily_budget_usd=Decimal("0.5"), monthly_execution_limit=2))
    stream.emitter.emit(**REPORT)
    call = {"organization_id": "acme", "estimated_cost_usd": "0.1"}
    assert "daily budget exceeded" in stream.gateway.check(**call).reason
    stream.clock.advance(hours=12)
    assert stream.gateway.check(**call).allowed
    assert stream.feed.decisions[ACME.key].decision.published_at == NOON + timedelta(hours=12)
    assert (used(stream, ACME, "day"), used(stream, ACME)) == (Amounts(), Amounts(NANO // 2, 1))
    stream.clock.set(datetime(2026, 12, 1, tzinfo=UTC))
    assert used(stream, ACME) == Amounts()


def test_records_are_dated_by_the_clock(stream):
    """Where they have no date of their own."""
    stream.clock.advance(days=1)
    stream.emitter.emit(**REPORT)
    stream.emitter.emit(**REPORT, occurred_at=NOON)
    assert [record.occurred_at for record in stream.records] == [NOON + timedelta(days=1), NOON]


def test_what_is_long_past_is_forgotten(stream):
    """As the real totals forget: a day after 40 days."""
    stream.budgets.put(ACME, Budget(monthly_budget_usd=Decimal(9)))
    stream.emitter.emit(**REPORT)
    stream.clock.advance(days=500)
    stream.emitter.emit(**REPORT, occurred_at=NOON)
    stream.emitter.emit(**REPORT)
    stream.clock.set(NOON)  # a reader whose clock is far behind
    assert used(stream, ACME) == Amounts()


def test_while_time_passes_the_feed_stays_fresh(stream):
    """The workers live."""
    stream.clock.advance(days=3)
    assert not stream.feed.is_stale(ACME.key)
    assert not stream.gateway.check(organization_id="acme").stale


# -- between a delivery and its decision


def test_what_is_held_is_delivered_and_not_decided(stream):
    """The gateway adds its own spend meanwhile, and the feed stays fresh."""
    stream.budgets.put(ACME, DOLLAR)
    other = stream.new_emitter()
    stream.hold()
    stream.emitter.emit(**REPORT)
    other.emit(**REPORT)
    stream.clock.advance(minutes=5)
    assert (stream.emitter.stats.sent, len(stream.records)) == (1, 2)
    assert used(stream, ACME) == Amounts()
    result = stream.gateway.check(organization_id="acme", estimated_cost_usd="0.5")
    assert (result.allowed, result.stale) == (True, False)
    assert result.remaining_usd == Decimal("0.5")  # its own, and not the other's
    stream.publish()
    assert used(stream, ACME) == Amounts(NANO, 2)
    assert stream.gateway.check(organization_id="acme").remaining_usd == 0
    stream.emitter.emit(**REPORT)
    assert used(stream, ACME) == Amounts(3 * NANO // 2, 3)


def test_without_auto_publish_each_publication_is_asked_for():
    """Budgets are decided at once all the same, without the usage that is held."""
    with InMemoryStream(NOON, auto_publish=False) as stream:
        stream.emitter.emit(**REPORT)
        stream.budgets.put(ACME, DOLLAR)
        assert used(stream, ACME) == Amounts()
        stream.publish()
        stream.emitter.emit(**REPORT)
        assert used(stream, ACME) == Amounts(NANO // 2, 1)
        stream.publish()
        assert used(stream, ACME) == Amounts(NANO, 2)


def test_what_waits_to_be_counted_is_bounded(stream, monkeypatch):
    """Then deliveries fail, as on a topic that takes no more."""
    monkeypatch.setattr(memory_usage, "HELD_MESSAGES_MAX", 2)
    stream.hold()
    for _ in range(3):
        stream.emitter.emit(**REPORT)
    assert (stream.emitter.stats.sent, stream.emitter.stats.failed) == (2, 1)


# -- what came in


def test_what_is_rejected_is_told_with_its_reason(stream):
    """By the emitter what is invalid by itself, by the stream what is dated far ahead."""
    stream.emitter.emit(**REPORT | {"cost_usd": "-1"})
    stream.emitter.emit("text")
    stream.emitter.emit(1, 2)
    ahead = UsageRecord.new(**REPORT, occurred_at=NOON + timedelta(days=2), source="s")
    stream.emitter.emit(ahead)
    negative, text, several, dated = stream.rejected
    assert negative.reason == "a negative amount needs kind=correction"
    assert (negative.by, negative.given["cost_usd"]) == ("emitter", "-1")
    assert (text.given, several.given) == ("text", (1, 2))
    assert dated == Rejected(
        "occurred_at is more than 86400 s ahead of the message's timestamp", ahead, "stream"
    )
    assert stream.records == ()
    stats = stream.emitter.stats
    assert (stats.emitted, stats.invalid, stats.sent) == (4, 3, 1)


def test_of_many_records_one_that_is_invalid_is_told(stream):
    """Also when they are delivered together."""
    stream.broker_away = True
    for number in range(9):
        stream.emitter.emit(**REPORT | {"cost_usd": "?" if number == 4 else number})
    stream.broker_away = False
    assert [record.cost_usd for record in stream.records] == [
        f"{number}.00" for number in range(9) if number != 4
    ]
    assert [rejected.given["cost_usd"] for rejected in stream.rejected] == ["?"]


def test_metadata_is_taken_as_it_is_at_the_call(stream):
    """What becomes of the caller's dictionary later is not sent."""
    metadata = {"step": 1}
    stream.broker_away = True
    stream.emitter.emit(**REPORT, metadata=metadata)
    metadata["step"] = 2
    stream.broker_away = False
    assert bytes(stream.records[0].metadata) == b'{"step":1}'


def test_what_is_remembered_is_bounded(monkeypatch):
    """The last ones are."""
    monkeypatch.setattr(memory_usage, "RECORDS_MAX", 3)
    monkeypatch.setattr(memory_usage, "REJECTED_MAX", 2)
    with InMemoryStream(NOON) as stream:
        for number in range(5):
            stream.emitter.emit(**REPORT, input_tokens=number)
            stream.emitter.emit(**REPORT, input_tokens=number, id="x")
        assert [record.input_tokens for record in stream.records] == [2, 3, 4]
        assert [rejected.given["input_tokens"] for rejected in stream.rejected] == [3, 4]
