"""A forked child: what it makes works, and what it inherits ends within its bounds."""

import os
import subprocess
import sys

import pytest

FORKS = """
import asyncio, os, signal, sys, time
from concurrent.futures import ThreadPoolExecutor
from outlay import background
from outlay.emitter import UsageEmitter
from outlay.errors import FeedNotReady
from outlay.feed import DecisionFeed
from outlay.gateway import BudgetGateway

NOBODY = "127.0.0.1:1"

async def answer():
    return 42

def threaded(function, **arguments):
    return ThreadPoolExecutor(1).submit(function, **arguments).result(5)

def emit(emitter):
    return emitter.emit(organization_id="o", agent_id="a", cost_usd="1")

inherited, feed = UsageEmitter(NOBODY), DecisionFeed(NOBODY)
feed.start()
gateway = BudgetGateway(feed=feed, emitter=inherited)
assert emit(inherited)
locks = (background._lock, gateway._holds.lock)
for lock in locks:
    lock.acquire()  # as another thread may hold them
pid = os.fork()
if pid:
    for lock in locks:
        lock.release()
else:
    signal.alarm(20)  # no child is left should it hang
    began_s = time.monotonic()
    for _ in range(3):
        emit(inherited)
    assert inherited.flush(0.2) is False
    assert asyncio.run(inherited.aflush(0.2)) is False
    assert inherited.close(0.2) is False
    try:
        feed.wait_ready(0.2)
    except FeedNotReady:
        pass
    else:
        raise AssertionError("ready")
    feed.close()
    new = UsageEmitter(NOBODY)
    assert new.flush(5) is True  # nothing was emitted
    assert new._background.run(answer(), 5) == 42
    assert emit(new)
    assert new.close(0.2) is False
    assert new.stats.failed == 1
    another = DecisionFeed(NOBODY)
    another.start()
    another.close()
    assert background._shared is None
    assert threaded(gateway.reserve, organization_id="o", agent_id="a").release()
    assert time.monotonic() - began_s < 5
    sys.exit(7)  # in order: what is open is closed at exit
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert inherited._background.run(answer(), 5) == 42  # the parent goes on
inherited.close(0.2)
feed.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_a_background_of_its_own() -> None:
    """As under gunicorn with preload, and Celery."""
    command = (sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
