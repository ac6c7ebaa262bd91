"""The feed: what the decisions topic says, in memory, and how old it is."""

import asyncio
import time

import pytest
from library_fakes import NOW, NOW_S, Clock, FakeReader, FakeTopic, dollars, eventually

from outlay import (
    Budget,
    BudgetRequest,
    BudgetRequestTimeout,
    Decision,
    DecisionFeed,
    FeedNotReady,
    Outcome,
    Scope,
    Watermark,
)
from outlay.decision import OUTCOME_PREFIX, WATERMARK_KEY, encode, window_usage
from outlay.embedded import TansuBroker
from outlay.embedded.ports import free_port
from outlay.feed import LISTENERS_MAX
from outlay.feed_state import OUTCOMES_MAX, FeedState
from outlay.reading import Message
from outlay.topics import partition_of

ACME, OTHER = Scope("acme"), Scope("other")


def over(topic, **options):
    return DecisionFeed(
        reader_factory=lambda: FakeReader(topic), **{"wall": Clock(NOW_S)} | options
    )


def request(scope=ACME, request_id="r1"):
    return BudgetRequest(request_id=request_id, scope=scope.key, action="patch")


def test_it_is_ready_with_what_the_topic_held():
    """All partitions, the last message of each key, tombstones included."""
    topic = FakeTopic(3)
    topic.decide(ACME, Budget(daily_execution_limit=1), version=1)
    topic.decide(OTHER, version=1)
    topic.decide(Scope("gone"), version=4)
    last = topic.decide(ACME, Budget(daily_execution_limit=2), version=2, day=dollars(5))
    topic.forget(Scope("gone"))
    topic.forget(Scope("never"))
    with over(topic) as feed:
        feed.wait_ready()
        assert set(feed.decisions) == {ACME.key, OTHER.key}
        known = feed.decisions[ACME.key]
        assert known.decision == last
        assert known.rules.budget == last.budget
        assert known.amounts == {"2026-11-21": dollars(5)}
        assert known.partition == partition_of(ACME.key.encode(), 3)
        assert feed.partitions == 3


def test_an_empty_topic_is_ready_at_once():
    """There is nothing to wait for."""
    with over(FakeTopic(2)) as feed:
        feed.wait_ready(5)
        assert dict(feed.decisions) == {}


def test_it_is_ready_behind_offsets_that_nobody_is_given():
    """A transaction's marker at the end is passed by the position, not by any message."""
    topic = FakeTopic()
    topic.decide(ACME)
    topic.append_marker()
    with over(topic) as feed:
        feed.wait_ready(5)
        assert ACME.key in feed.decisions


def test_changes_are_followed_and_told():
    """Listeners hear of what was loaded and of each change; one that fails harms nobody."""
    topic = FakeTopic()
    topic.decide(ACME)
    heard = []

    def fails(key, decision):
        raise RuntimeError("mistake in a listener")

    feed = over(topic)
    feed.add_listener(fails)
    feed.add_listener(lambda key, decision: heard.append((key, decision and decision.version)))
    with feed:
        feed.wait_ready()
        topic.decide(OTHER, version=7)
        topic.forget(ACME)
        eventually(lambda: len(heard) == 3)
        feed.remove_listener(fails)
    assert heard == [(ACME.key, 1), (OTHER.key, 7), (ACME.key, None)]


def test_listeners_have_a_bound():
    """Somebody who adds one for each request hears of it."""
    feed = over(FakeTopic())
    for _ in range(LISTENERS_MAX):
        feed.add_listener(lambda key, decision: None)
    with pytest.raises(ValueError, match="listeners"):
        feed.add_listener(lambda key, decision: None)


def test_what_cannot_be_read_is_skipped_and_counted(caplog):
    """One line in the log, and the rest is followed."""
    topic = FakeTopic()
    topic.append(b"organization:acme", b"{")
    topic.append(None, b"{}")
    topic.append(b"\xff", b"{}")
    topic.append(WATERMARK_KEY, b"[]")
    topic.append(OUTCOME_PREFIX + b"x", b"1")
    decision = Decision(OTHER.key, 1, "ok", Budget(), {}, "r", NOW)
    topic.append(ACME.key.encode(), encode(decision))  # another scope's
    topic.append(WATERMARK_KEY, None)
    topic.append(OUTCOME_PREFIX + b"x", None)
    topic.decide(OTHER)
    with over(topic) as feed:
        feed.wait_ready()
        assert feed.skipped == 6
        assert list(feed.decisions) == [OTHER.key]
    assert len([r for r in caplog.records if "skipped" in r.message]) == 1


def test_it_is_stale_without_watermarks():
    """Each partition for itself, by a clock that only runs forward."""
    topic, clock = FakeTopic(2), Clock(1_000.0)
    scopes = {partition_of(s.key.encode(), 2): s for s in (Scope(f"o{n}") for n in range(20))}
    with over(topic, monotonic=clock) as feed:
        assert feed.is_stale(ACME.key)
        feed.wait_ready()
        assert feed.is_stale(scopes[0].key)
        assert feed.age_s(0) == float("inf")
        topic.watermark(0)
        eventually(lambda: feed.watermark(0) is not None)
        assert not feed.is_stale(scopes[0].key)
        assert feed.is_stale(scopes[1].key)
        clock.now_s += 10.0
        assert feed.age_s(0) == 10.0
        assert not feed.is_stale(scopes[0].key)
        clock.now_s += 0.1
        assert feed.is_stale(scopes[0].key)
        topic.watermark(0)
        eventually(lambda: not feed.is_stale(scopes[0].key))


def test_an_old_watermark_that_is_loaded_is_old():
    """What lay in the topic since yesterday does not make its decisions fresh."""
    topic, clock = FakeTopic(), Clock(1_000.0)
    topic.watermark(at=NOW)
    with over(topic, monotonic=clock, wall=Clock(NOW_S + 86_400)) as feed:
        feed.wait_ready()
        assert feed.age_s(0) == 86_400
        assert feed.is_stale(ACME.key)
    with over(topic, monotonic=clock, wall=Clock(NOW_S + 2)) as feed:
        feed.wait_ready()
        assert feed.age_s(0) == 2
    with over(topic, monotonic=clock, wall=Clock(NOW_S - 500)) as feed:
        feed.wait_ready()
        assert feed.age_s(0) == 0  # a clock that is behind makes nothing younger than now


def test_a_topic_that_is_away_is_a_clear_error_and_is_tried_on():
    """Bounded, with the reason; the feed goes on trying."""
    topic = FakeTopic()
    topic.away = True
    with over(topic) as feed:
        with pytest.raises(FeedNotReady, match="nobody listens"):
            feed.wait_ready(0.3)
        topic.away = False
        feed.wait_ready()


def test_it_survives_the_loss_of_its_connection():
    """What is known stays known meanwhile, and what changed is told when it is back."""
    topic, heard = FakeTopic(), []
    topic.decide(ACME)
    topic.decide(OTHER)
    with over(topic) as feed:
        feed.wait_ready()
        topic.away = True
        eventually(lambda: topic.readers == 0)
        assert set(feed.decisions) == {ACME.key, OTHER.key}
        feed.add_listener(lambda key, decision: heard.append((key, decision and decision.version)))
        topic.logs[0].clear()  # compaction took the tombstone along
        topic.decide(ACME, version=2)
        topic.away = False
        eventually(lambda: feed.decisions[ACME.key].decision.version == 2)
        assert set(feed.decisions) == {ACME.key}
    assert heard == [(ACME.key, 2), (OTHER.key, None)]
    assert topic.readers == 0


def test_more_partitions_are_read_anew():
    """Keys may have moved to them."""
    topic = FakeTopic(1)
    with over(topic) as feed:
        feed.wait_ready()
        topic.logs.append([])
        topic.ends.append(0)
        topic.decide(ACME, partition=1)
        eventually(lambda: ACME.key in feed.decisions)
        assert feed.partitions == 2


def test_outcomes_are_waited_for():
    """In sync and async code, within a bound."""
    topic = FakeTopic()
    topic.answer(request(request_id="old"), 1)
    with over(topic) as feed:
        feed.wait_ready()
        assert feed.wait_outcome("old", 5).version == 1
        with pytest.raises(BudgetRequestTimeout) as error:
            feed.wait_outcome("none", 0.05)
        assert error.value.request_id == "none"

        async def wait():
            waiting = asyncio.create_task(feed.await_outcome("new", 5))
            await asyncio.sleep(0.05)
            topic.answer(request(request_id="new"), 2, reason="no")
            with pytest.raises(BudgetRequestTimeout):
                await feed.await_outcome("none", 0.05)
            await feed.await_ready(1)
            return await waiting

        outcome = asyncio.run(wait())
        assert (outcome.accepted, outcome.reason) == (False, "no")


def test_outcomes_have_a_bound():
    """The oldest are forgotten."""
    state = FeedState(1)
    for number in range(OUTCOMES_MAX + 5):
        outcome = Outcome(f"r{number}", ACME.key, True, 1, "", NOW)
        key = OUTCOME_PREFIX + ACME.key.encode()
        state.apply(Message(0, number, key, encode(outcome)), 0.0, 0.0)
    assert len(state.outcomes) == OUTCOMES_MAX
    assert "r4" not in state.outcomes
    assert "r5" in state.outcomes


def test_a_feed_that_is_not_started_says_so():
    """Rather than waiting for nothing."""
    feed = over(FakeTopic())
    with pytest.raises(FeedNotReady, match="not started"):
        feed.wait_ready(1)
    feed.close()
    feed.start()
    feed.start()
    feed.wait_ready()
    feed.close()
    feed.close()
    assert feed.ready  # what is known stays to be read


def test_a_callback_must_not_wait():
    """It runs on the thread that it would wait for."""
    topic, errors = FakeTopic(), []
    feed = over(topic)

    def waits(key, decision):
        try:
            feed.wait_outcome("x", 1)
        except RuntimeError as error:
            errors.append(str(error))

    feed.add_listener(waits)
    with feed:
        topic.decide(ACME)
        eventually(lambda: errors)
    assert "async" in errors[0]


# -- on a real broker


def decision(scope, version=1, **fields):
    return encode(
        Decision(
            scope.key,
            version,
            "ok",
            Budget(daily_execution_limit=5),
            {"2026-11-21": window_usage(dollars(3), {0: 9})},
            "r",
            NOW,
            **fields,
        )
    )


def test_a_compacted_topic_is_loaded_and_followed(topic_prefix):
    """On a real broker: tombstones, several partitions, and what comes later."""
    topic_prefix.create(decisions=3)
    name = topic_prefix.names.decisions
    places = {scope: partition_of(scope.key.encode(), 3) for scope in (ACME, OTHER, Scope("x"))}
    topic_prefix.send(
        name,
        [(scope.key.encode(), decision(scope, n), p) for n, (scope, p) in enumerate(places.items())]
        + [(ACME.key.encode(), None, places[ACME])],
    )
    with DecisionFeed(topic_prefix.bootstrap_servers, topics=topic_prefix.names) as feed:
        feed.wait_ready()
        assert set(feed.decisions) == {OTHER.key, "organization:x"}
        outcome = Outcome("r1", ACME.key, True, 8, "", NOW)
        topic_prefix.send(
            name,
            [
                (ACME.key.encode(), decision(ACME, 8), places[ACME]),
                (OUTCOME_PREFIX + ACME.key.encode(), encode(outcome), places[ACME]),
                *[(WATERMARK_KEY, encode(Watermark({0: 5}, NOW)), p) for p in range(3)],
            ],
        )
        assert feed.wait_outcome("r1") == outcome
        assert feed.decisions[ACME.key].decision.version == 8
        eventually(lambda: not any(feed.is_stale(scope.key) for scope in places))


def test_it_is_ready_behind_a_commit_marker(topic_prefix):
    """On a real broker the last offset of a transaction is its marker, which nobody is given."""
    if not topic_prefix.broker.transactions:
        pytest.skip(f"{topic_prefix.broker.name} has no transactions")
    topic_prefix.create(decisions=1)
    topic_prefix.send(
        topic_prefix.names.decisions,
        [(ACME.key.encode(), decision(ACME), 0)],
        transactional_id=topic_prefix.names.prefix,
    )
    with DecisionFeed(topic_prefix.bootstrap_servers, topics=topic_prefix.names) as feed:
        feed.wait_ready(15)
        assert list(feed.decisions) == [ACME.key]


def test_an_empty_topic_and_one_that_is_made_later(topic_prefix):
    """A missing topic is a clear error within the bound; once it is there, it is followed."""
    if isinstance(topic_prefix.broker, TansuBroker):
        pytest.skip(f"{topic_prefix.broker.name} makes any topic that is asked about")
    with DecisionFeed(topic_prefix.bootstrap_servers, topics=topic_prefix.names) as feed:
        with pytest.raises(FeedNotReady, match=f"no topic {topic_prefix.names.decisions}"):
            feed.wait_ready(1)
        topic_prefix.create(decisions=2)
        feed.wait_ready(15)
        assert feed.partitions == 2


def test_without_a_broker_the_error_is_clear():
    """Starting returns at once, waiting ends in its bound."""
    with DecisionFeed(f"127.0.0.1:{free_port()}") as feed:
        started = time.monotonic()
        with pytest.raises(FeedNotReady, match="Connect"):
            feed.wait_ready(0.5)
        assert time.monotonic() - started < 3
