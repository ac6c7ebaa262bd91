"""Reservations: room for a call from its check on, given back or spent exactly once."""

import asyncio
import contextlib
import functools
import threading
from decimal import Decimal

import pytest
from library_fakes import NANO, Clock, dollars
from test_gateway import CALL, ORGANIZATION, TEAM, Setup, monthly
from test_holds import StubEmitter

from outlay import (
    Budget,
    BudgetExceededError,
    ReservationClosed,
    TooManyReservations,
    UsageRecord,
)
from outlay import holds as holds_module
from outlay.gateway import RESERVATION_EXPIRES_S


def make(**options):
    """A gateway over a budget of ten dollars of which five are used, and its emitter."""
    emitter = StubEmitter(Clock(0))
    setup = Setup(emitter=emitter, **options)
    emitter.clock = setup.clock
    setup.decide(
        ORGANIZATION, monthly(10, warning_threshold=1, degradation_threshold=1), month=dollars(5)
    )
    return setup, emitter


def left(setup):
    return setup.check(estimated_cost_usd=0).remaining_usd


def reserve(setup, usd=3, **options):
    return setup.gateway.reserve(**CALL, estimated_cost_usd=usd, **options)


def test_what_is_reserved_counts_until_it_is_settled():
    """And then what was really spent does."""
    setup, emitter = make()
    with reserve(setup) as call:
        assert (call.state, left(setup)) == ("open", 2)
        assert not setup.check(estimated_cost_usd="2.000000001").allowed
        assert call.settle("0.25", input_tokens=7, output_tokens=8, model="m", success=False)
        assert (call.state, left(setup)) == ("settled", Decimal("4.75"))
    assert (call.state, left(setup)) == ("settled", Decimal("4.75"))
    (record,) = emitter.undelivered
    assert record == UsageRecord.new(
        **CALL,
        cost_usd="0.25",
        input_tokens=7,
        output_tokens=8,
        model="m",
        success=False,
        id=record.id,
        occurred_at=record.occurred_at,
    )
    assert record.occurred_at.timestamp() == setup.clock()


def test_it_may_cost_more_than_was_reserved():
    """The money is spent: the next call is blocked."""
    setup, _ = make()
    with reserve(setup) as call:
        call.settle(6)
    assert left(setup) == -1
    assert not setup.check(estimated_cost_usd=0).allowed


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_a_block_that_is_left_unsettled_gives_it_back(error):
    """However it is left, and nothing is reported."""
    setup, emitter = make()

    with pytest.raises(error) if error else contextlib.nullcontext(), reserve(setup) as call:
        assert left(setup) == 2
        if error:
            raise error
    assert call.state == "released"
    assert left(setup) == 5
    assert emitter.undelivered == []


def test_it_is_settled_or_released_once():
    """A second time is an error, or nothing."""
    setup, emitter = make()
    call = reserve(setup)
    assert call.release()
    assert not call.release()
    with pytest.raises(ReservationClosed, match="released before"):
        call.settle(1)
    call = reserve(setup)
    call.settle(1)
    assert not call.release()
    with pytest.raises(ReservationClosed, match="settled before"):
        call.settle(1)
    assert left(setup) == 4
    assert len(emitter.undelivered) == 1


def test_it_expires():
    """So that a call that never ends does not hold its room for ever; it can still be settled."""
    setup, emitter = make()
    call, other = reserve(setup), reserve(setup, 1, expires_s=RESERVATION_EXPIRES_S + 2)
    setup.monotonic.now_s += RESERVATION_EXPIRES_S
    setup.watermark()
    assert (call.state, other.state, left(setup)) == ("expired", "open", 4)
    assert setup.gateway.stats.reservations == 1
    assert not call.release()
    assert call.settle(2)
    assert (call.state, left(setup)) == ("settled", 2)
    assert len(emitter.undelivered) == 1
    other.release()


def test_a_check_alone_notices_what_has_expired():
    """Nobody has to ask for it."""
    setup, _ = make()
    reserve(setup, 5, expires_s=1)
    assert not setup.check(estimated_cost_usd=1).allowed
    setup.monotonic.now_s += 1
    assert setup.check(estimated_cost_usd=1).allowed


def test_what_is_blocked_is_not_reserved():
    """The error has the answer, and is a ValueError about a budget."""
    setup, _ = make()
    with pytest.raises(BudgetExceededError, match="monthly budget exceeded") as caught:
        reserve(setup, "5.01")
    assert isinstance(caught.value, ValueError)
    assert caught.value.result == setup.check(estimated_cost_usd="5.01")
    assert (left(setup), setup.gateway.stats.reservations) == (5, 0)


def test_no_more_calls_are_let_through_than_there_is_room_for():
    """Of threads that ask at the same moment."""
    setup, _ = make()
    begin, through = threading.Barrier(16), []

    def ask():
        begin.wait()
        for _ in range(5):
            with contextlib.suppress(BudgetExceededError):
                through.append(reserve(setup, "0.5"))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(through) == 10
    assert left(setup) == 0


def test_each_scope_holds_it_and_each_kind():
    """Executions and tokens, too."""
    setup, _ = make()
    setup.decide(TEAM, Budget(daily_execution_limit=2, daily_output_token_limit=100))
    asked = {"estimated_cost_usd": 0, "estimated_output_tokens": 60}
    with setup.gateway.reserve(**CALL, **asked):
        assert setup.check(estimated_output_tokens=40).allowed
        assert not setup.check(estimated_output_tokens=41).allowed
        with setup.gateway.reserve(**CALL, estimated_cost_usd=0):
            assert not setup.check().allowed


def test_it_passes_midnight():
    """It counts for the day on which it will be settled."""
    setup, emitter = make()
    budget = Budget(daily_budget_usd=Decimal(4))
    setup.decide(ORGANIZATION, budget, day=dollars(4), **{"2026-11-22": dollars(0)})
    setup.clock.now_s += 86_400
    with reserve(setup) as call:
        assert left(setup) == 1
        setup.clock.now_s += 86_400
        assert left(setup) == 1
        call.settle(2)
        assert left(setup) == 2
    assert emitter.undelivered[0].occurred_at.day == 23


def test_without_an_emitter_settling_ends_it():
    """Reporting is then somebody else's, and it counts when a decision contains it."""
    setup = Setup()
    setup.decide(ORGANIZATION, monthly(10))
    with setup.gateway.reserve(organization_id="acme", estimated_cost_usd=4) as call:
        assert left(setup) == 6
        assert call.settle(1)
    assert left(setup) == 10


def test_what_the_emitter_does_not_take_is_said():
    """Its room is given back: no total will contain it."""
    setup, emitter = make()
    emitter.takes = False
    with reserve(setup) as call:
        assert call.settle(1) is False
    assert left(setup) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"cost_usd": -1},
        {"cost_usd": float("nan")},
        {"cost_usd": True},
        {"cost_usd": 1, "input_tokens": -1},
        {"cost_usd": 1, "executions": 1.5},
        {"cost_usd": 1, "model": ""},
        {"cost_usd": 1, "metadata": {"a": object()}},
    ],
)
def test_a_wrong_amount_is_refused_and_the_call_goes_on(wrong):
    """It can be said again, right."""
    for setup, emitter in (make(), (Setup(), None)):
        with setup.gateway.reserve(**CALL, estimated_cost_usd=3) as call:
            with pytest.raises(ValueError):
                call.settle(**wrong)
            assert call.state == "open"
            call.settle(1)
        assert emitter is None or len(emitter.undelivered) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"estimated_cost_usd": -1},
        {"estimated_cost_usd": "many"},
        {"executions": -1},
        {"executions": True},
        {"organization_id": ""},
        {"agent_id": None},
        {"expires_s": 0},
        {"expires_s": float("nan")},
        {"expires_s": float("inf")},
        {"expires_s": True},
        {"expires_s": None},
        {"expires_s": "soon"},
        {"expires_s": 10**400},
    ],
)
def test_wrong_arguments_are_refused(wrong):
    """Before anything is held."""
    setup, _ = make()
    with pytest.raises(ValueError):
        setup.gateway.reserve(**CALL | wrong)
    assert setup.gateway.stats.reservations == 0
    assert left(setup) == 5


def test_it_may_last_any_number_of_seconds():
    """A `Decimal`, too."""
    setup, _ = make()
    reserve(setup, expires_s=Decimal("2.5"))
    setup.monotonic.now_s += 2.5
    assert setup.gateway.stats.reservations == 0
    assert left(setup) == 5


def test_open_reservations_are_bounded(monkeypatch):
    """More is a leak of the caller's; what is given back makes room."""
    monkeypatch.setattr(holds_module, "RESERVATIONS_MAX", 3)
    setup, _ = make()
    calls = [reserve(setup, 0) for _ in range(3)]
    with pytest.raises(TooManyReservations):
        reserve(setup, 0)
    for _ in range(1_000):
        calls.pop().release()
        calls.append(reserve(setup, 0))
    assert len(setup.gateway._holds._expiries) < 200


def test_in_async_code():
    """The same words."""

    async def call():
        setup, emitter = make()
        async with reserve(setup) as call:
            await asyncio.sleep(0)
            call.settle(1)
        async with reserve(setup):
            assert left(setup) == 1
        assert left(setup) == 4
        assert len(emitter.undelivered) == 1

    asyncio.run(call())


# -- a function that spends


def spent(result):
    return {"cost_usd": result, "input_tokens": 5}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_guarded_function_reserves_and_settles(kind):
    """By what it is called with, and what it returns."""
    setup, emitter = make()
    seen = []
    guard = setup.gateway.guard(
        organization_id="acme",
        agent_id=lambda agent, usd: agent,
        estimated_cost_usd=lambda agent, usd: usd,
        actual=spent,
    )
    if kind == "sync":

        @guard
        def ask(agent, usd):
            seen.append(left(setup))
            return usd / 2

        call = ask
    else:

        @guard
        async def aask(agent, usd):
            seen.append(left(setup))
            return usd / 2

        @functools.wraps(aask)
        def call(*args):
            return asyncio.run(aask(*args))

    assert call("a1", 4) == 2
    assert (seen, left(setup)) == ([1], 3)
    with pytest.raises(BudgetExceededError):
        call("a1", 4)
    assert seen == [1]
    (record,) = emitter.undelivered
    assert (record.agent_id, record.cost_usd, record.input_tokens) == ("a1", "2.00", 5)
    assert record.success
    assert call.__name__ in ("ask", "aask")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_guarded_call_that_fails_is_reported(kind):
    """As a failure, at the cost that its error tells, or at none."""
    for actual_on_error, cost in ((None, 0), (lambda error: error.args[0], 3 * NANO)):
        setup, emitter = make()
        guard = setup.gateway.guard(**CALL, actual=spent, actual_on_error=actual_on_error)
        if kind == "sync":

            @guard
            def ask():
                raise RuntimeError(3)

            call = ask
        else:

            @guard
            async def aask():
                raise RuntimeError(3)

            def call(aask=aask):
                return asyncio.run(aask())

        with pytest.raises(RuntimeError):
            call()
        (record,) = emitter.undelivered
        assert (record.success, record.executions) == (False, 1)
        assert Decimal(record.cost_usd) * NANO == cost
        assert setup.gateway.stats.reservations == 0


def test_a_guarded_call_without_a_cost_is_reported_as_a_failure():
    """What it has cost is not made up, and the mistake is not hidden."""
    setup, emitter = make()
    ask = setup.gateway.guard(**CALL, actual=lambda answer: answer["cost"])(dict)
    with pytest.raises(KeyError):
        ask()
    assert [record.success for record in emitter.undelivered] == [False]


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError, ValueError])
@pytest.mark.parametrize("tells", [lambda error: error.args[0], lambda error: float("nan")])
def test_a_cost_that_cannot_be_told_does_not_hide_what_ended_the_call(error, tells, caplog):
    """A cancellation stays one; the call is reported, and the log says what is wrong."""
    setup, emitter = make()

    async def ask():
        raise error

    def call():
        raise error

    guard = setup.gateway.guard(**CALL, actual=spent, actual_on_error=tells)
    with pytest.raises(error):
        guard(call)()
    with pytest.raises(error):
        asyncio.run(guard(ask)())
    assert [(r.cost_usd, r.success) for r in emitter.undelivered] == [("0.00", False)] * 2
    assert caplog.text.count("actual_on_error failed") == 2


class Asked:
    """What spends may be an object, or a method."""

    async def __call__(self, usd):
        await asyncio.sleep(0)
        return usd

    def method(self, usd):
        return usd

    @classmethod
    def of_class(cls, usd):
        return usd


def test_objects_partials_and_methods_can_be_guarded():
    """Those whose call is a coroutine are awaited before they are settled."""
    setup, emitter = make()
    guard = setup.gateway.guard(**CALL, actual=spent)
    assert asyncio.run(guard(Asked())(1)) == 1
    assert asyncio.run(guard(functools.partial(Asked().__call__, 1))()) == 1
    assert guard(Asked().method)(1) == 1
    assert guard(Asked.of_class)(1) == 1
    assert [record.input_tokens for record in emitter.undelivered] == [5] * 4
    with pytest.raises(ValueError, match="below @classmethod"):
        guard(Asked.__dict__["of_class"])


def test_a_call_that_has_only_begun_is_refused():
    """A plain function may return an awaitable or a generator: nothing is known of its cost."""
    setup, emitter = make()
    guard = setup.gateway.guard(**CALL, actual=lambda result: 1)
    for begun in (lambda: Asked()(1), lambda: (each for each in [1])):
        with pytest.raises(ValueError, match="goes on after it has returned"):
            guard(begun)()
    assert [record.success for record in emitter.undelivered] == [False] * 2
    assert setup.gateway.stats.reservations == 0


def test_a_generator_cannot_be_guarded():
    """Its call ends before it has spent anything."""
    setup, _ = make()

    def stream():
        yield 1

    async def astream():
        yield 1

    for function in (stream, astream):
        with pytest.raises(ValueError, match="reserve"):
            setup.gateway.guard(**CALL, actual=spent)(function)


# -- explaining


def test_an_explanation_has_the_numbers_of_each_scope():
    """Used, own, reserved and asked, against each limit, and the answer of `check`."""
    setup, emitter = make()
    setup.decide(TEAM, Budget(daily_token_limit=100, enforcement_mode="soft"))
    emitter.emit(**CALL, cost_usd=1, input_tokens=30)
    with reserve(setup, 2):
        asked = {"estimated_cost_usd": "2.5", "estimated_output_tokens": 80}
        explanation = setup.gateway.explain(**CALL, **asked)
        assert explanation.result == setup.check(**asked)
        organization, team, *others = explanation.scopes
        (money,) = organization.limits
        assert (money.window, money.kind, money.limit) == ("2026-11", "cost", 10)
        assert (money.used, money.own, money.reserved, money.asked) == (5, 1, 2, Decimal("2.5"))
        assert (money.remaining, money.fits, money.used_share) == (2, False, Decimal("0.8"))
        assert (organization.allowed, organization.version) == (False, 1)
        (tokens,) = team.limits
        assert (tokens.window, tokens.used, tokens.own, tokens.asked) == ("2026-11-21", 0, 30, 80)
        assert (team.allowed, team.degraded, team.enforcement_mode) == (True, True, "soft")
        assert [each.version for each in others] == [None] * 3
        text = str(explanation)
    assert "blocked" in text.splitlines()[0]
    assert "2026-11: 5.00 used + 1.00 own + 2.00 reserved + 2.50 asked > 10.00 USD" in text
    assert "2026-11-21: 0 used + 30 own + 80 asked > 100 tokens" in text
    assert "organization:acme/agent:a: no budget" in text


def test_an_explanation_says_how_old_it_is():
    """And whose budget blocks for it."""
    setup, _ = make()
    setup.decide(TEAM, Budget(on_stale="block"))
    setup.monotonic.now_s += 12
    explanation = setup.gateway.explain(**CALL)
    assert explanation.result.stale
    assert not explanation.result.allowed
    organization, team, *_ = explanation.scopes
    assert (organization.stale, organization.age_s, organization.allowed) == (True, 12, True)
    assert (team.allowed, team.on_stale) == (False, "block")
    assert "stale for 12 s" in str(explanation)


def test_before_the_feed_is_ready_everything_is_stale():
    """And nothing is known."""
    setup = Setup()
    setup.state.ready = False
    explanation = setup.gateway.explain(organization_id="acme")
    assert explanation.result.stale
    assert [scope.age_s for scope in explanation.scopes] == [float("inf")]
    assert "not ready" in str(explanation)
