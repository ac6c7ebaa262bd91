"""The connection: one for all services of a process, however they are made and forgotten."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import pytest

from outlay import FeedNotReady, Scope, TopicNames
from outlay.environment import Environment
from outlay.governance.connection import Connections, ConnectionSettings
from outlay.governance.service import GovernanceService
from tests.governance_stream.conftest import World, monthly
from tests.library.library_fakes import eventually

WHO = {"external_agent_id": "a", "organization_id": "acme"}
SERVICES = 200


@pytest.fixture
def world():
    """Topics in memory; what services left open is closed at the end."""
    world = World()
    yield world
    world.connections.close_all(5)


async def record(service, cost=1):
    return await service.record_invocation_cost(**WHO, actual_cost=cost, execution_success=True)


def test_services_that_are_never_closed_share_one_connection(world):
    """As seed 001's endpoint makes them, one for each request: one reader, one thread, no rest."""
    world.decisions.decide(Scope("acme", agent_id="a"), monthly(1_000))

    async def request():
        service = world.service()
        await service.initialize()
        assert (await service.check_budget(**WHO, estimated_cost=1)).remaining_budget_usd
        await record(service)
        return weakref.ref(service)

    async def run():
        first = await request()
        threads = threading.active_count()
        others = [await request() for _ in range(SERVICES - 1)]
        gc.collect()
        assert [each() for each in (first, *others)] == [None] * SERVICES
        assert threading.active_count() == threads

    asyncio.run(run())
    assert (world.made, len(world.connections)) == (1, 1)
    eventually(lambda: world.usage.senders == 1)
    assert world.decisions.readers == 1
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("outlay-background") == 1


def test_services_that_are_never_closed_take_no_memory(world):
    """What a forgotten one leaves is a number that is one higher."""

    async def run(count):
        for _ in range(count):
            await world.service().initialize()
        gc.collect()
        return len(gc.get_objects())

    asyncio.run(run(20))
    before, after = (asyncio.run(run(count)) for count in (20, SERVICES))
    assert after - before < SERVICES / 4


def test_one_connection_serves_threads_and_loops_at_once(world):
    """It is not bound to the loop that was first."""

    def work():
        async def run():
            service = world.service()
            await service.initialize()
            await record(service)
            return await service.close()

        assert asyncio.run(run())

    holder = world.service()
    asyncio.run(holder.initialize())
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert world.made == 1
    assert sum(value.count(b'"acme"') for _, _, value in world.usage.messages()) == 8
    asyncio.run(holder.close())
    assert len(world.connections) == 0


def test_the_last_that_closes_ends_the_connection(world):
    """Each delivers what is buffered; closing twice counts once."""

    async def run():
        first, second = world.service(), world.service()
        await first.initialize()
        await first.initialize()  # taken once
        await second.initialize()
        await record(first)
        assert await first.close() is True
        assert len(world.usage.messages()) == 1
        assert await first.close() is True
        assert (len(world.connections), world.decisions.readers) == (1, 1)
        await record(second)
        assert await second.close() is True

    asyncio.run(run())
    assert len(world.usage.messages()) == 2
    assert (len(world.connections), world.decisions.readers, world.usage.senders) == (0, 0, 0)
    asyncio.run(world.service().initialize())
    assert world.made == 2


def test_closing_is_bounded(world):
    """What cannot be delivered in time is told with False."""
    world.usage.away = True

    async def run():
        service = world.service()
        await service.initialize()
        await record(service)
        began_s = time.monotonic()
        delivered = await service.close(timeout_s=0.1)
        return delivered, time.monotonic() - began_s

    delivered, took_s = asyncio.run(run())
    assert delivered is False
    assert took_s < 5


def test_other_settings_are_another_connection(world):
    """Another broker, other topics, another bound or another policy."""

    async def run():
        for options in (
            {},
            {"bootstrap_servers": "b:1"},
            {"topics": TopicNames("t")},
            {"stale_after_s": 3},
            {"on_not_ready": "block"},
            {"ready_timeout_s": 3},  # is the service's own
        ):
            await world.service(**options).initialize()

    asyncio.run(run())
    assert len(world.connections) == world.made == 5


def test_what_is_recorded_counts_at_once_for_every_service(world):
    """Before any decision contains it, whichever service of the process it was."""
    world.decisions.decide(Scope("acme", agent_id="a"), monthly(10))

    async def run():
        first, second = world.service(), world.service()
        await first.initialize()
        await second.initialize()
        await record(first, 9.5)
        return await second.check_budget(**WHO, estimated_cost=1)

    result = asyncio.run(run())
    assert not result.allowed
    assert (result.remaining_budget_usd, result.usage_percentage) == (0.5, 0.95)


def test_a_stale_feed_goes_by_each_budgets_policy(world):
    """Once the connection was ready and is silent."""
    world.decisions.watermark()
    world.decisions.decide(Scope("acme", agent_id="a"), monthly(10, on_stale="block"))

    async def run():
        service = world.service(stale_after_s=0.05)
        await service.initialize()
        await asyncio.sleep(0.1)
        blocked = await service.check_budget(**WHO, estimated_cost=1)
        allowed = await service.check_budget("b", "acme", estimated_cost=1)
        return blocked, allowed

    blocked, allowed = asyncio.run(run())
    assert (blocked.allowed, allowed.allowed) == (False, True)
    assert "no decisions for over 0.05 s" in blocked.reason


def test_without_a_broker_initialize_ends_in_time_and_says_so():
    """With what is missing; afterwards checks are answered, and it may be tried again."""
    connections = Connections()

    async def run(service):
        for _ in range(2):
            began_s = time.monotonic()
            with pytest.raises(FeedNotReady, match=r"not ready after 0\.5 s: .*127\.0\.0\.1', 1\)"):
                await service.initialize()
            assert time.monotonic() - began_s < 2
        return await service.check_budget(**WHO, estimated_cost=1)

    for policy in ("allow", "block"):
        service = GovernanceService(
            bootstrap_servers="127.0.0.1:1",
            ready_timeout_s=0.5,
            on_not_ready=policy,
            connections=connections,
        )
        result = asyncio.run(run(service))
        assert (result.allowed, "not ready" in result.reason) == (policy == "allow", True)
        assert asyncio.run(service.close(timeout_s=0.1)) is True
    assert len(connections) == 0


def test_a_broker_that_comes_back_is_found(world):
    """By the connection of the service whose `initialize` failed."""
    world.decisions.away = True

    async def run():
        service = world.service(ready_timeout_s=0.05)
        with pytest.raises(FeedNotReady):
            await service.initialize()
        world.decisions.away = False
        later = world.service()
        await later.initialize()
        return (await service.check_budget(**WHO, estimated_cost=1)).reason

    assert asyncio.run(run()) == ""
    assert world.made == 1


def test_releasing_more_than_was_taken_does_not_close_anothers_connection(world):
    """A connection that is gone from the list is not the one that took its place."""
    settings = ConnectionSettings(Environment())
    first = world.connections.acquire(settings)
    world.connections.close_all(1)
    second = world.connections.acquire(settings)
    world.connections.release(first, 1)
    assert len(world.connections) == 1
    assert world.connections.acquire(settings) is second


FORKS = """
import asyncio, os, signal, sys, threading
from outlay.errors import FeedNotReady
from outlay.governance.connection import shared
from outlay.governance.service import GovernanceService

WHO = ("agent", "org", 1)

async def tried(service):
    try:
        await service.initialize()
    except FeedNotReady:
        return
    raise AssertionError("ready")

def new():
    return GovernanceService(bootstrap_servers="127.0.0.1:1", ready_timeout_s=0.2)

inherited = new()
asyncio.run(tried(inherited))
held, forked = threading.Event(), threading.Event()

def hold():
    with shared._lock:  # as another thread may, which is not in the child
        held.set()
        forked.wait(20)

thread = threading.Thread(target=hold)
thread.start()
held.wait(20)
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    assert len(shared) == 0
    assert not inherited.initialized
    try:
        asyncio.run(inherited.check_budget(*WHO))
    except FeedNotReady as error:
        assert "initialize" in str(error)
    else:
        raise AssertionError("checked by what the parent knew")
    assert asyncio.run(inherited.close()) is True
    asyncio.run(tried(inherited))  # afresh
    another = new()
    asyncio.run(tried(another))
    assert len(shared) == 1
    assert asyncio.run(another.check_budget(*WHO)).allowed
    asyncio.run(inherited.close(0.1))
    assert len(shared) == 1
    asyncio.run(another.close(0.1))
    assert len(shared) == 0
    sys.exit(7)
forked.set()
thread.join()
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert asyncio.run(inherited.check_budget(*WHO)).allowed
asyncio.run(inherited.close(0.1))
"""

FORGETS = """
import asyncio
from outlay.errors import FeedNotReady
from outlay.governance.service import GovernanceService

async def run():
    service = GovernanceService(bootstrap_servers="127.0.0.1:1", ready_timeout_s=0.2)
    try:
        await service.initialize()
    except FeedNotReady:
        print("not ready")

asyncio.run(run())
"""


def python(code):
    command = (sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", code)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_service_whose_connection_is_the_parents_connects_afresh(world):
    """By `initialize` alone, in the child of a fork."""
    service = world.service()
    asyncio.run(service.initialize())
    [inherited] = world.connections
    world.connections.orphan()
    assert not service.initialized
    asyncio.run(service.initialize())
    assert (service.initialized, world.made) == (True, 2)
    asyncio.run(service.close())
    assert len(world.connections) == 0
    inherited.close(0.1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_connects_afresh():
    """As under gunicorn with preload: a service that it inherits is as good as new."""
    ended = python(FORKS)
    assert ended.returncode == 0, ended.stderr


def test_a_forgotten_service_does_not_keep_the_process_from_ending():
    """Quietly, and soon, also when there is no broker."""
    began_s = time.monotonic()
    ended = python(FORGETS)
    assert (ended.returncode, ended.stdout) == (0, "not ready\n"), ended.stderr
    assert "Traceback" not in ended.stderr
    assert time.monotonic() - began_s < 15


def test_closing_while_another_task_waits_is_no_cancellation(world):
    """Who waits for a service that is closed is told so, and goes on; on the loop and off it."""
    world.decisions.away = True

    async def run():
        service = world.service(ready_timeout_s=30)
        waiting = asyncio.create_task(service.initialize())
        await asyncio.sleep(0.05)
        blocked = asyncio.create_task(asyncio.to_thread(service._link.gateway.wait_ready, 30))
        await asyncio.sleep(0.05)
        await service.close(timeout_s=0.1)
        for task in (waiting, blocked):
            with pytest.raises(FeedNotReady, match="closed before it was ready"):
                await asyncio.wait_for(task, 5)

    asyncio.run(run())


def test_a_cancelled_initialize_is_a_cancellation(world):
    """And leaves the service connected: it is waited for again, and closed."""
    world.decisions.away = True

    async def run():
        service = world.service(ready_timeout_s=30)
        waiting = asyncio.create_task(service.initialize())
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (service.initialized, service.waited) == (True, False)
        world.decisions.away = False
        await service.initialize()
        assert service.waited
        await service.close()

    asyncio.run(run())
    assert (world.made, len(world.connections)) == (1, 0)


def test_a_policy_that_is_none_is_refused():
    """Also one that is empty."""
    for policy in ("", "deny", 0):
        with pytest.raises(ValueError, match="allow or block"):
            GovernanceService(on_not_ready=policy)
