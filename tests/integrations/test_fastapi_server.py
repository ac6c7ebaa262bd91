"""Seed 001's endpoint as a dependency: in memory, and with a real server, broker and worker."""

import socket
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Annotated

import httpx
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Header
from pydantic import BaseModel

from outlay import BudgetClient, BudgetGateway, DecisionFeed, UsageEmitter
from outlay.integrations.fastapi import BudgetCall, require_budget
from outlay.stack import Stack
from tests.integrations.serving import ACME, Serving, monthly

EVENTUALLY_S = 60.0


class InvokeRequest(BaseModel):
    input: str


class InvokeResult(BaseModel):
    output: str
    actual_cost: Decimal


class User(BaseModel):
    organization_id: str


def get_current_user(organization: str = Header()):
    return User(organization_id=organization)


def estimate_cost(data: InvokeRequest):
    return Decimal("0.1") * len(data.input)


async def execute_invocation(agent_id: str, data: InvokeRequest):
    if data.input == "fail":
        raise RuntimeError("the agent is down")
    return InvokeResult(output=data.input.upper(), actual_cost=Decimal("0.09") * len(data.input))


def seeds_router():
    """The sample, its check and its record being those of the dependency."""
    router = APIRouter()
    budget = require_budget(who=get_current_user, estimate=estimate_cost)

    @router.post("/invoke/{agent_id}")
    async def invoke_agent(
        agent_id: str,
        data: InvokeRequest,
        call: Annotated[BudgetCall, Depends(budget)],
    ):
        # Execute invocation
        result = await execute_invocation(agent_id, data)

        # Record cost
        call.settle(result.actual_cost)

        return result

    return router


REQUEST = {"path": "/invoke/agent-001", "headers": {"organization": "acme"}}


def test_the_seeds_endpoint():
    """Checked, executed and recorded; failures too; blocked with 402 and the reason."""
    with Serving(monthly("0.85")) as serving:
        serving.app.state.outlay_gateway = serving.gateway
        serving.app.include_router(seeds_router())

        def ask(text):
            return serving.post(**REQUEST, json={"input": text})

        assert ask("hello").json() == {"output": "HELLO", "actual_cost": "0.45"}
        assert ask("fail").status_code == 500
        assert ask("abcd").status_code == 200
        assert serving.spent == [(Decimal("0.45"), True), (0, False), (Decimal("0.36"), True)]
        blocked = ask("a")
        assert blocked.status_code == 402
        assert "$0.81 used + $0.10 asked > $0.85 limit" in blocked.json()["detail"]
        assert {record.agent_id for record in serving.records} == {"agent-001"}


@contextmanager
def served(app):
    """A real server on a port of its own; its base URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            deadline_s = time.monotonic() + EVENTUALLY_S
            while not server.started:
                assert thread.is_alive()
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_the_seeds_endpoint_on_real_parts(kafka):
    """What the server's calls cost arrives in the stream's decisions, failed ones included."""
    settings = {"OUTLAY_TOPIC_PREFIX": "fastapi", "OUTLAY_APP_ID": "fastapi"}
    with Stack(broker=kafka, owns_broker=False, api=False, settings=settings) as stack:
        stack.wait_ready()
        with (
            DecisionFeed(stack.bootstrap_servers, topics=stack.topics) as feed,
            BudgetClient(stack.bootstrap_servers, feed) as budgets,
        ):
            budgets.put(ACME, monthly("0.85"))

        gateways = []

        @asynccontextmanager
        async def lifespan(app):
            async with (
                UsageEmitter(stack.bootstrap_servers, topics=stack.topics) as emitter,
                BudgetGateway(
                    stack.bootstrap_servers, topics=stack.topics, emitter=emitter
                ) as gateway,
            ):
                await gateway.await_ready(EVENTUALLY_S)
                app.state.outlay_gateway = gateway
                gateways.append(gateway)
                yield

        app = FastAPI(lifespan=lifespan)
        app.include_router(seeds_router())
        with served(app) as url:

            def ask(text):
                # A connection for each: the server closes that of a failed request.
                path, headers = REQUEST.values()
                return httpx.post(url + path, headers=headers, json={"input": text})

            assert ask("hello").json()["output"] == "HELLO"
            assert ask("fail").status_code == 500
            assert ask("abcd").status_code == 200
            blocked = ask("a")
            assert blocked.status_code == 402
            assert blocked.headers["content-type"] == "application/problem+json"
            assert blocked.json()["scope"] == ACME.key
            assert gateways[0].stats.reservations == 0
        with DecisionFeed(stack.bootstrap_servers, topics=stack.topics) as feed:
            feed.wait_ready(EVENTUALLY_S)

            def look():
                known = feed.decisions.get(ACME.key)
                windows = known.amounts if known is not None else {}
                months = [used for name, used in windows.items() if name.count("-") == 1]
                return next((used for used in months if used.executions == 3), None)

            assert feed.wait_until(look, timeout_s=EVENTUALLY_S).cost_nano == 810_000_000
