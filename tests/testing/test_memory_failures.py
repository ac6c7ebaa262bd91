"""The in-memory stream: what may go wrong, and can be made to."""

import asyncio
from decimal import Decimal

import pytest

from outlay import (
    Budget,
    BudgetRequestTimeout,
    FeedNotReady,
    Scope,
)
from outlay.reading import Message
from outlay.testing import (
    InMemoryStream,
)
from outlay.testing.memory_topic import MemoryTopic
from tests.library.conftest import nothing_is_left  # noqa: F401 - it watches over every test here
from tests.testing.world import ACME, DOLLAR, NOON, REPORT


def test_a_stalled_stream_makes_the_feed_stale(stream):
    """After its bound on the clock; then budgets that block while it is say so."""
    stream.budgets.put(ACME, Budget(monthly_budget_usd=Decimal(1), on_stale="block"))
    stream.stall()
    stream.clock.advance(seconds=10)
    assert stream.gateway.check(organization_id="acme").allowed
    stream.clock.advance(seconds=0.5)
    result = stream.gateway.check(organization_id="acme")
    assert (result.allowed, result.stale) == (False, True)
    assert stream.gateway.check(organization_id="other").allowed
    stream.resume()
    result = stream.gateway.check(organization_id="acme")
    assert (result.allowed, result.stale) == (True, False)


def test_a_request_while_the_stream_is_stalled_is_carried_out_later(stream):
    """Who asked is told that its outcome was not seen, at once."""
    stream.stall()
    with pytest.raises(BudgetRequestTimeout) as error:
        stream.budgets.put(ACME, DOLLAR)
    assert ACME.key not in stream.feed.decisions
    stream.resume()
    assert stream.feed.decisions[ACME.key].decision.budget == DOLLAR
    assert stream.feed.wait_outcome(error.value.request_id).accepted


def test_while_the_broker_is_away_usage_is_buffered(stream):
    """And delivered in few messages when it is back, in order."""
    told = []
    emitter = stream.new_emitter(on_delivered=told.append)
    stream.broker_away = True
    for number in range(1_100):
        assert emitter.emit(organization_id="acme", agent_id="a", cost_usd=0, input_tokens=number)
    assert (emitter.stats.buffered, emitter.stats.sent) == (1_100, 0)
    assert not emitter.flush()
    assert not asyncio.run(emitter.aflush())
    assert stream.records == ()
    stream.broker_away = False
    assert [details.offset for details in told] == [0, 1]  # a message holds 1,000 at most
    assert [record.input_tokens for record in stream.records] == list(range(1_100))
    assert emitter.flush()
    assert emitter.stats.buffered == 0


def test_large_records_travel_in_several_messages(stream):
    """None is larger than a broker takes."""
    told = []
    emitter = stream.new_emitter(on_delivered=told.append)
    stream.broker_away = True
    for _ in range(100):
        emitter.emit(**REPORT, metadata={"k": "x" * 16_000})
    stream.broker_away = False
    assert len(told) == 2
    assert len(stream.records) == 100


def test_while_the_broker_is_away_nothing_is_decided(stream):
    """A request cannot be sent, and the feed grows stale with what it knows."""
    stream.budgets.put(ACME, DOLLAR)
    stream.broker_away = True
    with pytest.raises(BudgetRequestTimeout, match="could not be sent: the broker is away"):
        stream.budgets.delete(ACME)
    stream.clock.advance(seconds=11)
    result = stream.gateway.check(organization_id="acme")
    assert (result.allowed, result.stale) == (True, True)
    stream.broker_away = False
    assert stream.feed.decisions[ACME.key].decision.version == 1
    assert not stream.gateway.check(organization_id="acme").stale


def test_a_full_buffer_drops_the_newest():
    """And counts them."""
    with InMemoryStream(NOON, buffer_records_max=2) as stream:
        stream.broker_away = True
        taken = [stream.emitter.emit(**REPORT, input_tokens=n) for n in range(4)]
        assert taken == [True, True, False, False]
        assert stream.emitter.stats.dropped == 2
        stream.broker_away = False
        assert [record.input_tokens for record in stream.records] == [0, 1]
        assert stream.emitter.emit(**REPORT)


def test_what_fails_to_arrive_is_not_sent_again(stream):
    """It counts nowhere, for the gateway neither."""
    stream.budgets.put(ACME, DOLLAR)
    stream.deliveries_fail = True
    assert stream.emitter.emit(**REPORT)
    assert stream.emitter.flush()
    stream.deliveries_fail = False
    assert (stream.emitter.stats.failed, stream.emitter.stats.sent) == (1, 0)
    assert stream.records == ()
    assert stream.gateway.check(organization_id="acme").remaining_usd == 1


def test_closing_while_the_broker_is_away_fails_what_is_left():
    """And says so, as often as it is asked."""
    stream = InMemoryStream(NOON, broker_away=True)
    stream.emitter.emit(**REPORT)
    assert not stream.emitter.close()
    assert not stream.emitter.close()
    assert stream.emitter.stats.failed == 1
    stream.broker_away = False
    assert stream.records == ()
    assert not asyncio.run(stream.aclose())


def test_what_is_left_when_the_emitter_closes_counts_no_more(stream):
    """For the gateway neither, that has added it so far."""
    stream.budgets.put(ACME, DOLLAR)
    stream.broker_away = True
    stream.emitter.emit(**REPORT)
    assert stream.gateway.check(organization_id="acme").remaining_usd == Decimal("0.5")
    stream.emitter.close()
    assert stream.gateway.check(organization_id="acme").remaining_usd == 1


def test_before_the_broker_was_there_the_feed_is_not_ready():
    """`wait_ready` says why, at once; the gateway answers as it is told to."""
    with InMemoryStream(NOON, broker_away=True, on_not_ready="block") as stream:
        with pytest.raises(FeedNotReady, match="the broker is away"):
            stream.feed.wait_ready()
        with pytest.raises(FeedNotReady, match="the broker is away"):
            asyncio.run(stream.gateway.await_ready())
        with pytest.raises(FeedNotReady):
            stream.budgets.put(ACME, DOLLAR)
        result = stream.gateway.check(organization_id="acme")
        assert (result.allowed, result.stale) == (False, True)
        stream.broker_away = False
        stream.feed.wait_ready()
        assert stream.gateway.check(organization_id="acme").allowed


def test_another_feed_catches_up_when_it_is_started(stream):
    """With the last decision of each scope, as old as they are."""
    stream.budgets.put(ACME, DOLLAR)
    stream.budgets.put(Scope("gone"), DOLLAR)
    stream.budgets.delete(Scope("gone"))
    stream.emitter.emit(**REPORT)
    stream.stall()
    stream.clock.advance(seconds=20)
    with stream.new_feed() as feed:
        assert feed.ready
        assert feed.decisions.keys() == {ACME.key}
        assert feed.decisions[ACME.key].decision == stream.feed.decisions[ACME.key].decision
        assert feed.is_stale(ACME.key)
        stream.resume()
        assert not feed.is_stale(ACME.key)


def test_a_feed_that_is_closed_hears_no_more(stream):
    """What it knows stays; started again it catches up."""
    feed = stream.new_feed()
    with pytest.raises(FeedNotReady, match="not started"):
        feed.wait_ready()
    feed.start()
    feed.close()
    feed.close()
    stream.budgets.put(ACME, DOLLAR)
    assert ACME.key not in feed.decisions
    with pytest.raises(FeedNotReady, match="it was closed"):
        feed.wait_ready()
    told = []
    feed.add_listener(lambda key, decision: told.append((key, decision.version)))
    feed.start()
    assert told == [(ACME.key, 1)]
    assert ACME.key in feed.decisions
    asyncio.run(feed.aclose())


def test_the_decisions_topic_is_compacted():
    """So that it holds no more than there are keys, however long a test runs."""
    topic = MemoryTopic(2)
    for value in (b"1", b"2", None, b"3"):
        topic.append(0, b"a", value)
        topic.append(1, b"b", value)
    topic.append(1, b"b", None)
    assert topic.messages() == [Message(0, 3, b"a", b"3")]


def test_a_feed_does_not_wait_for_what_is_not_there(stream):
    """It says so at once, whatever the bound."""
    with pytest.raises(TimeoutError):
        stream.feed.wait_until(lambda: None, timeout_s=3600)
    with pytest.raises(BudgetRequestTimeout):
        stream.feed.wait_outcome("no such request")


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
    """As with the real emitter."""
    with InMemoryStream() as stream:
        stream.emitter.watch(BrokenWatcher())
        assert stream.emitter.emit(organization_id="acme", agent_id="a", cost_usd=1)
        assert stream.emitter.emit(organization_id="acme", agent_id="a", cost_usd=-1)
        stream.deliveries_fail = True
        assert stream.emitter.emit(organization_id="acme", agent_id="a", cost_usd=1)
        stats = stream.emitter.stats
        assert (stats.sent, stats.invalid, stats.failed) == (1, 1, 1)
    assert len(stream.records) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"usage_partitions": 0},
        {"decisions_partitions": 1.5},
        {"buffer_records_max": 1.5},
        {"buffer_records_max": True},
        {"stale_after_s": float("nan")},
        {"on_not_ready": "deny"},
    ],
)
def test_wrong_settings_are_refused(wrong):
    """When it is made."""
    with pytest.raises(ValueError):
        InMemoryStream(**wrong)
