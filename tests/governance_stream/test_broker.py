"""The seeds' samples on a real broker with a real worker; what they record is in its totals."""

import ast
import asyncio
import importlib
import inspect
import logging
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from outlay import Budget, BudgetClient, DecisionFeed, Scope, UsageEmitter, Window
from outlay.governance import (
    BudgetExceededError,
    BudgetScope,
    ExternalAgentBudget,
    ExternalAgentBudgetEnforcer,
    GovernanceService,
    StreamBudgetStore,
    set_default_invoker,
)
from outlay.governance.connection import shared
from outlay.money import to_decimal
from outlay.stack import Stack
from tests.governance_stream import samples
from tests.governance_stream.conftest import monthly

PREFIX = "governance"
AGENT = Scope("org-001", agent_id="agent-001")
COST_USD = Decimal("9.50")
SEEN_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 10.0


@pytest.fixture(scope="module")
def worker(kafka):
    """One broker and one worker for all tests here."""
    settings = {"OUTLAY_TOPIC_PREFIX": PREFIX, "OUTLAY_APP_ID": PREFIX}
    with Stack(broker=kafka, owns_broker=False, api=False, settings=settings) as stack:
        stack.wait_ready()
        yield stack


@dataclass
class World:
    """What the stream says of the sample's agent, and its budget."""

    feed: DecisionFeed
    budgets: BudgetClient

    def allow(self, usd, scope=AGENT):
        """Give it this much above what it has used: a new test goes on with the old totals."""
        if scope.key not in self.feed.decisions:
            self.budgets.put(scope, Budget(monthly_budget_usd=0))
        put = self.budgets.put(scope, monthly(self.used(scope) + Decimal(usd)))
        for connection in shared:  # what a sample left open hears of it when its own feed does
            _wait_for(connection.feed, scope.key, put.version)

    def used(self, scope=AGENT):
        """The month's USD in the stream's totals."""
        known = self.feed.decisions[scope.key]
        month = Window.month(known.decision.published_at).name
        return to_decimal(known.amounts[month].cost_nano if month in known.amounts else 0)

    def see(self, usd, scope=AGENT):
        """Wait until the month's total is this."""
        self.feed.wait_until(lambda: self.used(scope) == usd or None, SEEN_TIMEOUT_S)


def _wait_for(feed, key, version):
    def look():
        known = feed.decisions.get(key)
        return (known is not None and known.decision.version >= version) or None

    feed.wait_until(look, SEEN_TIMEOUT_S)


@pytest.fixture
def world(worker, monkeypatch):
    """The environment that names the broker, and a look at the stream from outside."""
    monkeypatch.setenv("OUTLAY_KAFKA_BOOTSTRAP_SERVERS", worker.bootstrap_servers)
    monkeypatch.setenv("OUTLAY_TOPIC_PREFIX", PREFIX)
    with DecisionFeed(worker.bootstrap_servers, topics=worker.topics) as feed:
        feed.wait_ready()
        with BudgetClient(worker.bootstrap_servers, feed) as budgets:
            yield World(feed, budgets)
            shared.close_all(CLOSE_TIMEOUT_S)  # the samples do not close what they make
            set_default_invoker(None)


class Calls:
    """What a sample's user runs; `made` are its calls, each of which costs $9.50."""

    def __init__(self):
        self.made = []

    async def __call__(self, *call):
        self.made.append(call)
        return Outcome(output="done", actual_cost=9.50)


class Outcome(BaseModel):
    """What an invocation returns."""

    output: str
    actual_cost: float


def test_with_governance_service(world):
    """Seed 000: a call that fits is made and recorded, one that does not is not made."""
    for room, made in ((1_000, 1), (1, 0)):
        world.allow(room)
        used, calls = world.used(), Calls()
        names, _ = samples.run(samples.WITH_GOVERNANCE_SERVICE, execute_invocation=calls)
        assert names["result"].allowed == bool(made)
        assert names["result"].remaining_budget_usd == room
        assert len(calls.made) == made
        world.see(used + COST_USD * made)


def test_pre_invocation_check(world):
    """Seed 001: run by the process's invoker; blocked, it is told in a ValueError."""
    calls = Calls()
    set_default_invoker(calls)
    for room, text in ((1_000, ""), (0, "Budget exceeded: the budget does not allow this call")):
        world.allow(room)
        used = world.used()
        names, printed = samples.run(samples.PRE_INVOCATION_CHECK)
        assert printed.startswith(text)
        assert ("result" in names) == (not text) == (not printed)
        world.see(used + (0 if text else COST_USD))
    assert calls.made == [("agent-001", {"input": "Process document"})]


def test_manual_budget_check(world):
    """Seed 001: goes on with the service of the sample before it."""
    both = samples.PRE_INVOCATION_CHECK + samples.MANUAL_BUDGET_CHECK
    set_default_invoker(Calls())
    for room, allowed in ((1_000, True), (9.5, False)):
        world.allow(room)
        used = world.used()
        names, printed = samples.run(both)
        assert names["allowed"] is allowed
        if allowed:
            assert printed == ""
        else:
            assert "Budget check failed: " in printed
            assert "monthly budget exceeded" in printed
            assert printed.endswith("Remaining: $0.00\n")
        world.see(used + COST_USD)


def test_direct_governance_service_usage(world):
    """Seed 001: with a user, whose budget counts as well as the agent's."""
    user = Scope("org-001", user_id="user-001")
    world.allow(1_000)
    for room, made in ((1_000, 1), (1, 0)):
        world.allow(room, user)
        used, calls = world.used(), Calls()
        names, printed = samples.run(
            samples.DIRECT_GOVERNANCE_SERVICE_USAGE, execute_operation=calls
        )
        assert names["result"].allowed == bool(made)
        assert len(calls.made) == made
        if not made:
            assert printed.startswith("Blocked: organization:org-001/user:user-001 in ")
        world.see(used + COST_USD * made)
    world.budgets.delete(user)


class InvokeRequest(BaseModel):
    """The body of the sample's endpoint."""

    input: str


class User(BaseModel):
    """Who calls it."""

    organization_id: str = "org-001"


def post(router, count):
    """The answers of the sample's endpoint to so many requests, one after the other."""
    app = FastAPI()
    app.include_router(router)

    async def run():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [
                await client.post("/invoke/agent-001", json={"input": "Process"})
                for _ in range(count)
            ]

    return asyncio.run(run())


def test_fastapi_integration(world):
    """Seed 001: a service for each request, never closed; 402 with the reason when blocked."""
    calls = Calls()
    names, _ = samples.run(
        samples.FASTAPI_INTEGRATION,
        InvokeRequest=InvokeRequest,
        User=User,
        get_current_user=User,
        estimate_cost=lambda data: 10.0,
        execute_invocation=calls,
    )
    world.allow(28)
    used = world.used()
    answers = post(names["router"], 4)  # 9.50 each, of which it learns at once
    assert [answer.status_code for answer in answers] == [200, 200, 402, 402]
    assert answers[0].json() == {"output": "done", "actual_cost": 9.5}
    assert "monthly budget exceeded" in answers[2].json()["detail"]
    assert len(calls.made) == 2
    assert len(shared) == 1
    world.see(used + 2 * COST_USD)


def test_integration_testing(world, pytestconfig):
    """Seed 001: its fixture and its test, driven as an asyncio plugin does."""
    pytestconfig.addinivalue_line("markers", "asyncio: run in an event loop; such a plugin's own")
    names, _ = samples.run(samples.INTEGRATION_TESTING)
    test = names["test_governance_service_integration"]
    drive(test, names)
    assert len(shared) == 0
    scope = Scope("test-org", agent_id="test-agent")
    world.allow(1, scope)
    with pytest.raises(AssertionError):
        drive(test, names)
    world.budgets.delete(scope)


def test_the_status_follows_what_was_recorded(world):
    """The REST shape, with the stream's totals."""

    async def run():
        async with GovernanceService() as service:
            await service.record_invocation_cost("agent-001", "org-001", 0.5, True)
            await service.close()  # delivers
            await service.initialize()
            async with asyncio.timeout(SEEN_TIMEOUT_S):
                while True:
                    status = await service.get_governance_status("agent-001", "org-001")
                    if status["budget"]["monthly_spent_usd"] != float(used):
                        return status
                    await asyncio.sleep(0.05)

    world.allow(100)
    used = world.used()
    status = asyncio.run(run())["budget"]
    assert status["monthly_spent_usd"] == float(used) + 0.5
    assert status["remaining_monthly_usd"] == 99.5


def test_an_enforcer_over_the_stream(worker, world):
    """A budget is set, used and reported on through the store; another process's view agrees."""
    scope = BudgetScope("org-002")
    agent = Scope("org-002", agent_id="agent-002")

    async def run(emitter):
        store = StreamBudgetStore(world.feed, emitter, world.budgets)
        enforcer = ExternalAgentBudgetEnforcer(store=store)
        await store.update_budget("agent-002", scope, ExternalAgentBudget("agent-002", 10))
        budget = await store.get_budget("agent-002", scope)
        assert (await enforcer.check_budget(budget, estimated_cost=9.5)).allowed
        await enforcer.record_usage(budget, actual_cost=9.5, execution_success=True)
        await asyncio.to_thread(world.see, 9.5, agent)
        fresh = await store.get_budget("agent-002", scope)
        status = await enforcer.get_budget_status("agent-002", scope)
        return await enforcer.check_budget(fresh, estimated_cost=1), status

    with UsageEmitter(worker.bootstrap_servers, topics=worker.topics) as emitter:
        blocked, status = asyncio.run(run(emitter))
    assert not blocked.allowed
    assert blocked.remaining_budget_usd == 0.5
    assert (status.cost_used, status.cost_remaining, status.invocations) == (9.5, 0.5, 1)


FORGETS = """
import asyncio
from outlay.governance.service import GovernanceService

async def run():
    service = GovernanceService()
    await service.initialize()
    await service.record_invocation_cost("agent-001", "org-001", 2.5, True)

asyncio.run(run())
"""


def test_what_a_forgotten_service_recorded_is_delivered_at_exit(world):
    """Without `close`, and without a word about it."""
    world.allow(100)
    used = world.used()
    command = (sys.executable, "-W", "error", "-c", FORGETS)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    world.see(used + Decimal("2.5"))


# -- the samples as they are written, from a folder that a setting names


def seed_blocks(folder):
    """The Python blocks of each page in a folder, in order; names of pages without any are left."""
    pages = {}
    for page in sorted(folder.glob("*.txt")) + sorted(folder.glob("*.md")):
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
        if blocks:
            pages[page.name] = blocks
    return pages


class _Imports(ast.NodeTransformer):
    """Names of ours are imported from us, whatever package the sample has them from."""

    def visit_ImportFrom(self, node):
        wanted = {alias.name for alias in node.names}
        for module in ("outlay.governance.store", "outlay.governance"):
            if node.module.split(".")[-1] == "store" and module.endswith("governance"):
                continue
            if wanted <= set(dir(importlib.import_module(module))):
                return ast.copy_location(ast.ImportFrom(module, node.names, 0), node)
        return node


def with_our_imports(block):
    """The same sample; nothing else of it is changed."""
    changed = _Imports().visit(ast.parse(block))
    return ast.unparse(ast.fix_missing_locations(changed))


@pytest.mark.skipif("OUTLAY_SEEDS_DIR" not in os.environ, reason="OUTLAY_SEEDS_DIR is not set")
def test_the_samples_of_a_folder_run(world, pytestconfig, caplog):
    """Each Python block of its pages, with only its imports changed, in the order of the page."""
    pytestconfig.addinivalue_line("markers", "asyncio: run in an event loop; such a plugin's own")
    calls = Calls()
    set_default_invoker(calls)
    world.allow(10_000)
    world.allow(10_000, Scope("org-001", user_id="user-001"))
    used, ran, tests = world.used(), 0, 0
    for blocks in seed_blocks(Path(os.environ["OUTLAY_SEEDS_DIR"])).values():
        names = {
            "execute_invocation": calls,
            "execute_operation": calls,
            "estimate_cost": lambda data: 10.0,
            "get_current_user": User,
            "InvokeRequest": InvokeRequest,
            "User": User,
            "BudgetExceededError": BudgetExceededError,
            "log": logging.getLogger("sample"),
        }
        for block in blocks:
            names, _ = samples.run(with_our_imports(block), **names)
            ran += 1
        for name in [name for name in names if name.startswith("test_")]:
            drive(names[name], names)
            tests += 1
        if "router" in names:
            assert [answer.status_code for answer in post(names["router"], 2)] == [200, 200]
    assert (ran, tests) == (10, 2)
    assert len(calls.made) == 6
    world.see(used + 5 * COST_USD)  # the direct enforcer's budget is not the stream's


def drive(test, names):
    """Run an async test with the fixture that it asks for, as an asyncio plugin does."""
    (asked,) = inspect.signature(test).parameters
    fixture = names[asked].__wrapped__

    async def run():
        made = fixture()
        if not inspect.isasyncgen(made):
            await test(made)
            return
        await test(await anext(made))
        with pytest.raises(StopAsyncIteration):
            await anext(made)

    asyncio.run(run())
