"""The API while its broker stands still, and when it was killed and comes back: without a restart.

One broker of its own, one worker, one API; what a request may take is a bound, not a measurement.
"""

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import pytest

from api.app import create_app
from outlay.embedded import EmbeddedError, KafkaBroker, find_broker
from outlay.scope import Scope
from outlay.stack import Stack
from schemas.settings import Settings
from tests.api.fakes import FakeHistory
from tests.api.live_api import EventClient

BUDGETS = "/api/v1/budgets"
ALLOWS, BLOCKS = Scope("acme", agent_id="allows"), Scope("acme", agent_id="blocks")
NEW = Scope("acme", team_id="new")
DEADLINE_S = 1.0
GRACE_S = 2.0
"""How much longer than its deadline a request may take on a machine that has more to do."""

RECOVERY_S = 60.0
STALE_AFTER_S = 2.5
NOW = datetime.now(UTC).isoformat()


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A broker that nobody else needs, and a worker."""
    try:
        broker = find_broker(tmp_path_factory.mktemp("broker"))
        if not isinstance(broker, KafkaBroker):
            pytest.skip(f"{broker.name} cannot be killed and started again with its messages")
        broker.start()
    except EmbeddedError as error:
        pytest.skip(f"no broker: {error}")
    settings = {
        "OUTLAY_TOPIC_PREFIX": "outage",
        "OUTLAY_APP_ID": "outage",
        "OUTLAY_WRITE_TIMEOUT_S": "120",  # it outlives the outage, too
    }
    try:
        with Stack(broker=broker, owns_broker=False, api=False, settings=settings) as stack:
            stack.wait_ready()
            yield stack
    finally:
        broker.stop()


class _Api:
    """An API in this event loop, and a client that waits for nothing longer than it may take."""

    def __init__(self, app, client):
        self.app = app
        self._client = client

    async def ask(self, method, path, **options):
        """The status, the kind of problem, and the body."""
        async with asyncio.timeout(DEADLINE_S + GRACE_S):
            answer = await self._client.request(method, path, **options)
        body = answer.json()
        return answer.status_code, str(body.get("type", "")).rpartition(":")[2], body

    async def check(self, scope):
        """Whether a call of an agent is allowed, and whether that is of old decisions."""
        asked = {"organization_id": "acme", "agent_id": scope.agent_id}
        status, _, body = await self.ask("POST", "/api/v1/check", json=asked)
        assert status == 200
        return body["allowed"], body["stale"]

    async def put(self, scope, key, **fields):
        """Set a budget, under a key."""
        headers = {"Idempotency-Key": key}
        return await self.ask("PUT", f"{BUDGETS}/{scope.key}", json=fields, headers=headers)

    async def report(self, key):
        """Report usage, under a key."""
        body = {"organization_id": "acme", "agent_id": "a", "cost_usd": "0.1", "occurred_at": NOW}
        return await self.ask("POST", "/api/v1/usage", json=body, headers={"Idempotency-Key": key})

    async def until_put(self, scope, key="k", **fields):
        """The version that the budget has once it is set, however often that must be asked for."""

        async def is_set():
            status, _, body = await self.put(scope, key, **fields)
            versions.append(body.get("version"))
            return status in (200, 201)

        versions = []
        await self.until(is_set)
        return versions[-1]

    async def until_reported(self, key):
        """Report usage until it is accepted."""

        async def is_reported():
            return (await self.report(key))[0] == 202

        await self.until(is_reported)

    async def until_fresh(self, scope):
        """Wait until a call is allowed, by decisions that are not old."""

        async def is_fresh():
            return await self.check(scope) == (True, False)

        await self.until(is_fresh)

    async def until(self, look):
        """Wait until what `look` awaits is true."""
        async with asyncio.timeout(RECOVERY_S):
            while not await look():  # noqa: ASYNC110  # there is no event for it
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _api(stack):
    settings = Settings(
        kafka_bootstrap_servers=stack.bootstrap_servers,
        topic_prefix=stack.topics.prefix,
        api_budget_timeout_s=DEADLINE_S,
        stale_after_s=STALE_AFTER_S,
    )
    app = create_app(settings, history=FakeHistory())
    async with app.router.lifespan_context(app):
        app.state.usage.delivery_timeout_s = DEADLINE_S
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield _Api(app, client)


async def _in_order(api):
    return (await api.ask("GET", "/readyz"))[0] == 200


async def _while_it_is_away(api, name):
    """Nothing hangs, and each answer says what is so."""

    async def are_stale():
        found = [await api.ask("GET", f"{BUDGETS}/{scope.key}") for scope in (ALLOWS, BLOCKS)]
        assert [status for status, _, _ in found] == [200, 200]
        return all(body["stale"] for _, _, body in found)

    await api.until(are_stale)
    assert await api.check(ALLOWS) == (True, True)
    assert await api.check(BLOCKS) == (False, True)
    assert (await api.ask("GET", f"{BUDGETS}/{ALLOWS.key}/explain"))[0] == 200
    answers = await asyncio.gather(
        api.put(NEW, name, daily_token_limit=5),
        api.report(f"{name}-1"),
        api.report(f"{name}-2"),
        api.ask("GET", "/readyz"),
    )
    assert [status for status, _, _ in answers] == [503] * 4
    written, *reported, ready = [kind for _, kind, _ in answers]
    assert written == "budget-timeout"
    assert set(reported) <= {"broker-unavailable", "usage-unconfirmed"}
    assert ready == "not-ready"
    parts = answers[3][2]["checks"]
    assert not parts["feed"]["ok"]
    assert not parts["budgets"]["ok"]
    assert parts["clickhouse"]["ok"]


async def _when_it_is_back(api, names, version):
    """The same requests under the same keys are answered, and were carried out once each."""
    await api.until(lambda: _in_order(api))
    await api.until_fresh(BLOCKS)
    for name in names:
        await api.until_put(NEW, name, daily_token_limit=5)
        for key in (f"{name}-1", f"{name}-2"):
            await api.until_reported(key)
    (last,) = {await api.until_put(NEW, name, daily_token_limit=5) for name in names}
    assert last == version + len(names)


def test_the_api_outlives_its_broker(stack):
    """Checks follow `on_stale`, writes answer 503, nothing hangs, and all recovers by itself."""

    async def run():
        async with _api(stack) as api:
            await api.until(lambda: _in_order(api))
            for scope, on_stale in ((ALLOWS, "allow"), (BLOCKS, "block")):
                await api.until_put(scope, daily_execution_limit=1_000, on_stale=on_stale)
            await api.until_reported("before")
            await api.until_fresh(BLOCKS)
            version = await api.until_put(NEW, "before", daily_token_limit=9)
            async with EventClient(api.app) as stream:
                await stream.until_synced()
                os.kill(stack.broker.pid, signal.SIGSTOP)  # it takes connections, and says nothing
                try:
                    await _while_it_is_away(api, "stopped")
                finally:
                    await asyncio.to_thread(stack.broker.kill)
                try:
                    await _while_it_is_away(api, "killed")  # now it refuses them
                finally:
                    await asyncio.to_thread(stack.broker.start)
                assert not stream._task.done()
                await _when_it_is_back(api, ("stopped", "killed"), version)
                while stream.last_id is None or stream.data.get("version", 0) <= version:
                    assert await stream.event() is not None

    asyncio.run(run())
