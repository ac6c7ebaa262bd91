"""A broker that is killed and comes back, seen by everything that the library has on it."""

import asyncio
import time

import pytest
from library_fakes import NOW, eventually, read_usages

from outlay import Budget, BudgetGateway, Decision, Scope, UsageEmitter, Watermark
from outlay.decision import WATERMARK_KEY, encode
from outlay.embedded import KafkaBroker

USAGE = {"organization_id": "acme", "cost_usd": "0.00123"}
AT_ONCE_S = 0.5  # no network timeout is shorter; a loaded machine needs some


def test_a_killed_broker_costs_nothing_but_time(kafka, topic_prefix):
    """While it is away nothing waits or raises, and closing is bounded; later all goes on."""
    if not isinstance(kafka, KafkaBroker):
        pytest.skip(f"{kafka.name} cannot be killed and started again with its messages")
    topic_prefix.create(usage=2, decisions=1)
    emitter = UsageEmitter(kafka.bootstrap_servers, topics=topic_prefix.names)
    hasty = UsageEmitter(kafka.bootstrap_servers, topics=topic_prefix.names)
    gateway = BudgetGateway(kafka.bootstrap_servers, topics=topic_prefix.names, stale_after_s=1.0)
    with emitter, gateway:
        gateway.wait_ready()
        for number in range(100):
            emitter.emit(**USAGE, agent_id=f"a{number % 5}")
        hasty.emit(**USAGE, agent_id="hasty")
        assert emitter.flush()
        assert hasty.flush()
        kafka.kill()
        try:
            hasty.emit(**USAGE, agent_id="hasty")
            check_while_it_is_away(emitter, gateway)
            started = time.monotonic()
            assert not hasty.close(0.5)  # with a message under way
            assert time.monotonic() - started < 10
            assert (hasty.stats.sent, hasty.stats.failed) == (1, 1)
            assert len(sender_tasks(emitter)) == 1  # the emitter's own
        finally:
            kafka.start()
        assert emitter.flush(30)
        assert emitter.stats.sent == 1_100
        follow_again(topic_prefix, gateway)
    usages, _ = read_usages(topic_prefix)
    mine = [usage.record for _, usage in usages if usage.record.source == emitter.source]
    assert sorted(record.sequence for record in mine) == list(range(1, 1_101))


def check_while_it_is_away(emitter, gateway):
    for number in range(1_000):
        started = time.monotonic()
        assert emitter.emit(**USAGE, agent_id=f"a{number % 5}")
        assert gateway.check(organization_id="acme").allowed
        assert time.monotonic() - started < AT_ONCE_S
        time.sleep(0.001)
    assert not emitter.flush(0.1)
    assert gateway.check(organization_id="acme").stale


def sender_tasks(emitter):
    """aiokafka's tasks that send, on the shared background loop."""
    tasks = asyncio.all_tasks(emitter._background.loop)
    return [task for task in tasks if "_sender_routine" in repr(task)]


def follow_again(topics, gateway):
    """The feed, which was not closed, sees what is published after the outage."""
    scope = Scope("acme")
    decision = Decision(scope.key, 1, "ok", Budget(daily_budget_usd=0), {}, "r", NOW)
    topics.send(
        topics.names.decisions,
        [(scope.key.encode(), encode(decision), 0), (WATERMARK_KEY, encode(Watermark({}, NOW)), 0)],
    )
    eventually(lambda: not gateway.check(organization_id="acme").allowed, 20)
