"""The in-memory stream: callbacks and threads."""

import threading
from datetime import timedelta
from decimal import Decimal

from outlay import (
    Amounts,
    Budget,
    BudgetGateway,
)
from tests.library.conftest import nothing_is_left  # noqa: F401 - it watches over every test here
from tests.testing.world import ACME, DOLLAR, NANO, NOON, REPORT, used


def test_a_callback_may_emit(stream):
    """What it emits is delivered when the outer call returns; each once."""

    def again(details):
        if len(stream.records) < 10:
            stream.emitter.emit(**REPORT)

    emitter = stream.new_emitter(on_delivered=again)
    stream.budgets.put(ACME, DOLLAR)
    stream.feed.add_listener(lambda key, decision: again(decision))
    emitter.emit(**REPORT)
    assert len(stream.records) == 10
    assert used(stream, ACME) == Amounts(5 * NANO, 10)


def test_a_callback_may_move_the_stream(stream):
    """It is not waited for in its own thread: that it is delivered and decided comes after."""
    seen = []

    def go_on(details):
        stream.clock.advance(hours=1)
        stream.publish()
        seen.append(used(stream, ACME))

    stream.budgets.put(ACME, DOLLAR)
    stream.new_emitter(on_delivered=go_on).emit(**REPORT)
    assert seen == [Amounts()]
    assert used(stream, ACME) == Amounts(NANO // 2, 1)
    assert stream.clock.now == NOON + timedelta(hours=1)


def test_a_callback_that_never_ends_is_cut_short(stream, monkeypatch):
    """The call returns, and the next one goes on."""
    monkeypatch.setattr("outlay.testing.memory_broker.ROUNDS_MAX", 5)
    emitter = stream.new_emitter(on_delivered=lambda details: emitter.emit(**REPORT))
    emitter.emit(**REPORT)
    assert (emitter.stats.sent, emitter.stats.buffered) == (5, 1)
    assert emitter.close()


def test_a_callback_that_fails_harms_nobody(stream, caplog):
    """It is logged, as the real emitter logs it."""
    emitter = stream.new_emitter(on_delivered=lambda details: 1 / 0)
    assert emitter.emit(**REPORT)
    assert emitter.stats.sent == 1
    assert "on_delivered failed" in caplog.text


def test_threads_emit_and_settle_at_once(stream):
    """None waits for another for ever, and each amount counts once."""
    stream.budgets.put(ACME, Budget(monthly_budget_usd=Decimal(100)))
    call = {"organization_id": "acme", "agent_id": "a"}
    failures = []

    def work(number):
        try:
            for _ in range(100):
                if number % 2:
                    assert stream.emitter.emit(**call, cost_usd="0.01")
                else:
                    with stream.gateway.reserve(**call, estimated_cost_usd="0.02") as reservation:
                        assert reservation.settle("0.01")
                stream.gateway.check(**call)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    assert stream.emitter.flush()
    assert used(stream, ACME) == Amounts(6 * NANO, 600)
    limit = stream.gateway.explain(**call).scopes[0].limits[0]
    assert (limit.used, limit.own, limit.reserved) == (6, 0, 0)


def test_a_gateway_of_ones_own_is_made_as_usual(stream):
    """Another process: another emitter, another feed, other answers while nothing is known."""
    stream.budgets.put(ACME, DOLLAR)
    with (
        stream.new_feed(stale_after_s=60) as feed,
        stream.new_emitter() as emitter,
        BudgetGateway(feed=feed, emitter=emitter, clock=stream.clock.time) as gateway,
    ):
        stream.hold()
        emitter.emit(**REPORT)
        assert gateway.check(organization_id="acme").remaining_usd == Decimal("0.5")
        assert stream.gateway.check(organization_id="acme").remaining_usd == Decimal(1)
        stream.publish()
        assert stream.gateway.check(organization_id="acme").remaining_usd == Decimal("0.5")
