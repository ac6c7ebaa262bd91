"""External agents: run inside their budgets, and recorded once whatever becomes of them."""

import asyncio
import contextlib
import functools
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from outlay import BudgetExceededError, CheckResult, FeedNotReady, OutlayError, Scope
from outlay.governance import agents
from outlay.governance.agents import ExternalAgentService, set_default_invoker
from outlay.governance.connection import shared
from outlay.governance.service import GovernanceService
from outlay.testing import InMemoryStream
from tests.governance_stream.conftest import NOW, World, monthly
from tests.library.library_fakes import eventually

AGENT = Scope("org-001", agent_id="agent-001")
CALL = {
    "agent_id": "agent-001",
    "user_id": "user-001",
    "organization_id": "org-001",
    "request_data": {"input": "Process document"},
}


@pytest.fixture(autouse=True)
def no_default_invoker():
    """No test leaves an invoker to others."""
    yield
    set_default_invoker(None)


def costs(usd, **more):
    """An invoker whose calls cost this much, as a mapping says it."""
    return lambda agent_id, request_data: {"actual_cost": usd, "output": request_data} | more


def invoke(service, **more):
    return asyncio.run(service.invoke(**CALL | more))


def test_a_call_runs_and_is_recorded(stream, service):
    """Its result comes back as it is, and all that it tells arrives, with the user."""
    told = {"input_tokens": 5, "output_tokens": 6, "provider": "p", "model": "m"}
    agents = ExternalAgentService(costs(0.1, **told), governance=service)
    result = invoke(agents, team_id="t")
    assert result["output"] == {"input": "Process document"}
    (record,) = stream.records
    assert (record.agent_id, record.user_id, record.team_id) == ("agent-001", "user-001", "t")
    assert (record.cost_usd, record.success, record.executions) == ("0.10", True, 1)
    assert (record.input_tokens, record.output_tokens) == (5, 6)
    assert (record.provider, record.model) == ("p", "m")
    assert stream.gateway.stats.reservations == 0


def test_a_blocked_call_is_not_made(stream, service):
    """The error is a ValueError with "budget" in its text, as seed 001 wants it."""
    made = []
    stream.budgets.put(AGENT, monthly(5))
    agents = ExternalAgentService(lambda *call: made.append(call), governance=service, estimate=10)
    with pytest.raises(ValueError, match="budget") as caught:
        invoke(agents)
    assert isinstance(caught.value, BudgetExceededError)
    assert "monthly budget exceeded: $0.00 used + $10.00 asked > $5.00 limit" in str(caught.value)
    assert isinstance(caught.value.result, CheckResult)
    assert not made
    assert not stream.records


def test_the_text_says_budget_whatever_limit_blocks(stream, service):
    """Executions, too; and no other error of a call does."""
    stream.budgets.put(AGENT, monthly(5, daily_execution_limit=0))
    with pytest.raises(ValueError, match=r"budget.*daily execution limit exceeded"):
        invoke(ExternalAgentService(costs(1), governance=service))
    with pytest.raises(OutlayError) as caught:
        invoke(ExternalAgentService(governance=service))
    assert "budget" not in str(caught.value)


def test_without_an_invoker_it_says_so(stream, service):
    """Before anything is asked; with one for the process it runs."""
    agents = ExternalAgentService(governance=service)
    with pytest.raises(OutlayError, match="set_default_invoker"):
        invoke(agents)
    set_default_invoker(costs(2))
    assert invoke(agents)["actual_cost"] == 2
    assert invoke(ExternalAgentService(costs(3), governance=service))["actual_cost"] == 3


class Async:
    """An object whose call is a coroutine."""

    async def __call__(self, agent_id, request_data):
        await asyncio.sleep(0)
        return SimpleNamespace(actual_cost=1)


async def coroutine(agent_id, request_data):
    return await Async()(agent_id, request_data)


@pytest.mark.parametrize(
    "invoker",
    [
        lambda *call: SimpleNamespace(actual_cost=1),
        lambda *call: coroutine(*call),
        coroutine,
        functools.partial(coroutine),
        Async(),
    ],
    ids=["sync", "returns one", "coroutine", "partial", "object"],
)
def test_invokers_may_be_of_any_kind(stream, service, invoker):
    """Sync or async; a cost may be an attribute."""
    assert invoke(ExternalAgentService(invoker, governance=service)).actual_cost == 1
    assert [record.cost_usd for record in stream.records] == ["1.00"]


def test_a_sync_invoker_does_not_hold_up_the_loop(stream, service):
    """It runs on a thread."""
    seen = []

    def invoker(agent_id, request_data):
        seen.append(threading.current_thread())
        return {"actual_cost": 0}

    invoke(ExternalAgentService(invoker, governance=service))
    assert seen != [threading.main_thread()]


class Failed(Exception):
    """What an invoker raises; it may know a cost."""

    def __init__(self, **told):
        super().__init__("it failed")
        self.__dict__.update(told)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("told", "cost"),
    [
        ({}, "0.00"),
        ({"actual_cost": 0.25, "input_tokens": 3}, "0.25"),
        ({"actual_cost": 0.25, "model": 7}, "0.25"),  # the cost is not lost with what is wrong
        ({"actual_cost": -1}, "0.00"),
    ],
)
def test_a_call_that_fails_is_recorded(stream, service, told, cost, is_async):
    """As one execution without success, and its own error comes through."""

    def fails(agent_id, request_data):
        raise Failed(**told)

    async def afails(agent_id, request_data):
        fails(agent_id, request_data)

    with pytest.raises(Failed):
        invoke(ExternalAgentService(afails if is_async else fails, governance=service))
    (record,) = stream.records
    assert (record.success, record.executions, record.cost_usd) == (False, 1, cost)
    assert record.input_tokens == told.get("input_tokens", 0)
    assert stream.gateway.stats.reservations == 0


@pytest.mark.parametrize(
    "result",
    [None, {}, {"actual_cost": None}, {"actual_cost": -1}, {"actual_cost": math.nan}, object()],
    ids=["None", "empty", "cost-None", "negative", "nan", "object"],
)
def test_a_result_without_a_cost_is_an_error_and_is_recorded(stream, service, result):
    """The call was made: one execution, and that its cost is not known."""
    agents = ExternalAgentService(lambda *call: result, governance=service)
    with pytest.raises(OutlayError, match="cost") as caught:
        invoke(agents)
    assert not isinstance(caught.value, ValueError)  # which a caller would take for a full budget
    (record,) = stream.records
    assert (record.success, record.executions, record.cost_usd) == (True, 1, "0.00")
    assert json.loads(bytes(record.metadata)) == {"cost": "unknown"}


def test_details_that_cannot_be_do_not_take_the_cost_with_them(stream, service):
    """The cost is recorded, and the error says what was wrong."""
    agents = ExternalAgentService(costs(2, input_tokens=-5), governance=service)
    with pytest.raises(OutlayError, match="negative"):
        invoke(agents)
    assert [record.cost_usd for record in stream.records] == ["2.00"]


def test_the_cost_may_be_told_by_a_function(stream, service):
    """A number, or a mapping; where it fails that is recorded, too."""
    for actual in (lambda r: r.price, lambda r: {"actual_cost": r.price, "model": "m"}):
        result = SimpleNamespace(price="0.3")
        agents = ExternalAgentService(lambda *call: result, governance=service, actual=actual)  # noqa: B023
        invoke(agents)
    assert [(record.cost_usd, record.model) for record in stream.records] == [
        ("0.30", None),
        ("0.30", "m"),
    ]
    agents = ExternalAgentService(lambda *call: 1, governance=service, actual=lambda r: r.price)
    with pytest.raises(OutlayError, match="price"):
        invoke(agents)
    assert stream.records[2].executions == 1


def test_of_calls_at_once_no_more_run_than_there_is_room_for(stream, service):
    """50 calls of $1 on a budget of $10: ten run, forty are blocked."""
    stream.budgets.put(AGENT, monthly(10))
    stream.hold()  # no decision contains any of it meanwhile
    ran = []

    async def invoker(agent_id, request_data):
        ran.append(agent_id)
        await asyncio.sleep(0.01)
        return {"actual_cost": 1}

    async def run():
        agents = ExternalAgentService(invoker, governance=service, estimate=1)
        calls = [agents.invoke(**CALL) for _ in range(50)]
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = asyncio.run(run())
    assert len(ran) == 10
    assert sum(isinstance(each, BudgetExceededError) for each in outcomes) == 40
    assert len(stream.records) == 10


def test_the_same_on_threads(stream, service):
    """With sync invokers, called from many loops."""
    stream.budgets.put(AGENT, monthly(10))
    stream.hold()
    agents = ExternalAgentService(costs(1), governance=service, estimate=lambda *call: 1)
    blocked = []

    def work():
        for _ in range(5):
            try:
                invoke(agents)
            except BudgetExceededError as error:
                blocked.append(error)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(stream.records), len(blocked)) == (10, 40)


def test_an_unknown_estimate_lets_through_as_long_as_anything_is_left(stream, service):
    """The least there is is asked for."""
    stream.budgets.put(AGENT, monthly(1))
    agents = ExternalAgentService(costs(1), governance=service)
    invoke(agents)
    with pytest.raises(BudgetExceededError):
        invoke(agents)


def test_a_cancelled_call_is_recorded(stream, service):
    """An async one as failed; a sync one goes on, and is recorded with its cost when it ends."""
    release, began = threading.Event(), threading.Event()

    def waits(agent_id, request_data):
        began.set()
        release.wait(10)
        return {"actual_cost": 4}

    async def cancel(invoker):
        call = asyncio.create_task(ExternalAgentService(invoker, governance=service).invoke(**CALL))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        release.set()

    asyncio.run(cancel(lambda *call: asyncio.sleep(10)))
    assert [(record.success, record.cost_usd) for record in stream.records] == [(False, "0.00")]
    release.clear()
    asyncio.run(cancel(waits))
    eventually(lambda: len(stream.records) == 2)
    assert (stream.records[1].success, stream.records[1].cost_usd) == (True, "4.00")


def test_a_call_that_is_cancelled_before_its_thread_was_free_is_given_back(stream, service):
    """It was never made: nothing is recorded, nothing stays reserved."""
    free = threading.Event()

    async def run():
        agents = ExternalAgentService(lambda *call: free.wait(10), governance=service)
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, free.wait, 10)
        call = asyncio.create_task(agents.invoke(**CALL))
        await asyncio.sleep(0.05)
        assert stream.gateway.stats.reservations == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert stream.gateway.stats.reservations == 0
        free.set()
        await busy

    asyncio.run(run())
    assert not stream.records


def test_the_manual_check_tells_numbers(stream, service):
    """Which can be formatted, whether there is a limit or not."""

    async def run(estimate):
        return await ExternalAgentService(governance=service).check_budget(
            agent_id="agent-001", organization_id="org-001", estimated_cost=estimate
        )

    allowed, info = asyncio.run(run(10.0))
    assert allowed is True
    assert (info["reason"], info["remaining_budget_usd"]) == ("", math.inf)
    assert f"{info['remaining_budget_usd']:.2f}" == "inf"
    stream.budgets.put(AGENT, monthly(5))
    allowed, info = asyncio.run(run(10.0))
    assert allowed is False
    assert f"Remaining: ${info['remaining_budget_usd']:.2f}" == "Remaining: $5.00"
    assert info["result"].reason == info["reason"] != ""


@pytest.mark.parametrize("wrong", [{"agent_id": ""}, {"organization_id": None}, {"user_id": ""}])
def test_ids_that_cannot_be_are_refused(stream, service, wrong):
    """Before anything runs."""
    with pytest.raises(ValueError, match=r"_id|organization"):
        invoke(ExternalAgentService(costs(1), governance=service), **wrong)
    assert not stream.records


@pytest.mark.parametrize("estimate", [-1, math.nan, "much", lambda *call: math.inf])
def test_estimates_that_cannot_be_are_refused(stream, service, estimate):
    """Before anything runs."""
    agents = ExternalAgentService(costs(1), governance=service, estimate=estimate)
    with pytest.raises(ValueError) as caught:
        invoke(agents)
    assert not isinstance(caught.value, BudgetExceededError)
    assert not stream.records


def test_what_cannot_be_called_is_refused():
    """When it is given."""
    for wrong in ({"invoker": "me"}, {"actual": 5}):
        with pytest.raises(ValueError, match="must be callable"):
            ExternalAgentService(**wrong)
    with pytest.raises(ValueError, match="must be callable"):
        set_default_invoker("me")


def test_it_connects_at_first_use_and_goes_by_the_policy_when_it_cannot(caplog):
    """It waits once, and warns; later calls do not wait."""
    with InMemoryStream(NOW, broker_away=True) as stream:
        governance = GovernanceService(
            gateway=stream.gateway, emitter=stream.emitter, ready_timeout_s=0.2
        )
        agents = ExternalAgentService(costs(1), governance=governance)
        assert invoke(agents)["actual_cost"] == 1
        assert invoke(agents)["actual_cost"] == 1
        (warning,) = caplog.messages
        assert "not ready after 0.2 s" in warning
        stream.broker_away = False
        assert len(stream.records) == 2
    with InMemoryStream(NOW, broker_away=True, on_not_ready="block") as stream:
        governance = GovernanceService(
            gateway=stream.gateway, emitter=stream.emitter, ready_timeout_s=0.01
        )
        with pytest.raises(BudgetExceededError, match="not ready"):
            invoke(ExternalAgentService(costs(1), governance=governance))


def test_calls_that_come_while_the_first_connects_are_checked_as_well():
    """They wait with it, and do not slip through by the policy for what is not known."""
    world = World()
    world.decisions.decide(AGENT, monthly(3))
    for _ in range(2):  # the watermark says that these are decided, not what the calls report
        world.usage.append(None, b"", 0)
    world.decisions.away = True

    async def run():
        agents = ExternalAgentService(costs(1), governance=world.service(), estimate=1)
        calls = [asyncio.create_task(agents.invoke(**CALL)) for _ in range(20)]
        await asyncio.sleep(0.1)
        world.decisions.away = False
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        await agents.governance.close()
        return outcomes

    outcomes = asyncio.run(run())
    blocked = sum(isinstance(each, BudgetExceededError) for each in outcomes)
    # Never do more than three run; a call that is being settled counts twice for a moment, by
    # intent (see `Reservation.settle`), and may block another.
    assert 17 <= blocked < 20
    world.connections.close_all(5)


def test_its_own_governance_is_closed_with_it_and_anothers_is_not(monkeypatch, service):
    """By `close`, and by the block."""
    monkeypatch.setenv("OUTLAY_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr(
        agents, "GovernanceService", lambda: GovernanceService(ready_timeout_s=0.05)
    )

    async def run():
        async with ExternalAgentService(costs(1)) as own:
            assert (await own.check_budget("a", "o", 1))[0]
            assert len(shared) == 1
        assert len(shared) == 0
        async with ExternalAgentService(costs(1), governance=service):
            assert service.initialized
        assert service.initialized
        lazy = ExternalAgentService(costs(1))
        assert await lazy.close() is True
        await lazy.invoke(**CALL)
        assert len(shared) == 1
        await lazy.close(timeout_s=0.05)
        assert len(shared) == 0

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_service_that_is_not_initialized_is_not_asked(service):
    """What the agents' service saves its users from."""
    with pytest.raises(FeedNotReady):
        service.reserve("agent-001", "org-001", 1)


@pytest.mark.parametrize("cost", [1, None])
def test_usage_that_is_not_taken_is_logged(caplog, cost):
    """The call has been made: it returns, or says what is wrong, and the loss is no secret."""
    with InMemoryStream(NOW) as stream:
        governance = GovernanceService(gateway=stream.gateway, emitter=stream.emitter)
        agents = ExternalAgentService(costs(cost), governance=governance)
        with contextlib.suppress(OutlayError):
            invoke(agents)
        assert not caplog.messages
        stream.emitter.close()
        with contextlib.suppress(OutlayError):
            invoke(agents)
        assert "is not recorded" in caplog.text


class Telling(Exception):
    """An error of somebody's library, which cannot always tell what it was."""

    @property
    def model(self):
        raise KeyError("no model")


@pytest.mark.parametrize("is_async", [True, False])
def test_an_error_that_cannot_be_read_is_recorded_and_comes_through(stream, service, is_async):
    """It is not lost behind the one of its attribute, and nothing stays reserved."""

    async def fails_later(agent_id, request_data):
        raise Telling("first")

    def fails(agent_id, request_data):
        raise Telling("first")

    agents = ExternalAgentService(fails_later if is_async else fails, governance=service)
    with pytest.raises(Telling, match="first"):
        invoke(agents)
    assert [(record.success, record.cost_usd) for record in stream.records] == [(False, "0.00")]
    assert stream.gateway.stats.reservations == 0


@pytest.mark.filterwarnings("error")
def test_a_coroutine_that_comes_after_the_cancellation_is_given_back(stream, service):
    """The thread goes on and hands over what nobody awaits any more: no call was made."""
    began, go_on = threading.Event(), threading.Event()

    def prepares(agent_id, request_data):
        began.set()
        go_on.wait(10)
        return coroutine(agent_id, request_data)

    async def run():
        agents = ExternalAgentService(prepares, governance=service)
        call = asyncio.create_task(agents.invoke(**CALL))
        await asyncio.to_thread(began.wait, 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert stream.gateway.stats.reservations == 1  # the thread may still make the call itself
        go_on.set()

    asyncio.run(run())
    assert stream.gateway.stats.reservations == 0
    assert not stream.records
