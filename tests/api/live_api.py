"""The app over an in-memory stream, and a client of its events."""

import asyncio
import contextlib
import json
from decimal import Decimal
from functools import partial
from types import SimpleNamespace

from fastapi.testclient import TestClient

from api.app import create_app
from api.callers import Caller
from outlay import Budget
from outlay.testing import InMemoryStream
from schemas.settings import Settings
from tests.api.fakes import NOW, FakeHistory

TIMEOUT_S = 5.0


def live_app(stream, caller=None, **more):
    """The app of a stream, asked by a caller (by anyone, unless one is named)."""
    app = create_app(
        Settings(),
        feed=stream.feed,
        budgets=stream.budgets,
        history=FakeHistory(),
        now=lambda: stream.clock.now,
        **more,
    )
    if caller is not None:
        app.state.authenticate = lambda request: caller
    return app


def key_of(organization_id, *roles, key_id="k1"):
    """A caller with a key."""
    return Caller("test", organization_id, frozenset(roles), key_id)


@contextlib.contextmanager
def live_api(caller=None, **more):
    """`client` and `stream`, at NOW; `ask` checks a call of acme, `spend` reports usage of a1."""
    with InMemoryStream(NOW, **more) as stream:
        app = live_app(stream, caller)
        with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:

            def ask(**fields):
                return client.post("/api/v1/check", json={"organization_id": "acme"} | fields)

            yield SimpleNamespace(
                app=app, client=client, stream=stream, ask=ask, spend=partial(spend, stream)
            )


class EventClient:
    """A client of the stream of decisions, straight on an app in this event loop."""

    def __init__(self, app, query="", headers=(), path="/api/v1/decisions/stream"):
        self._app = app
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"localhost"), *headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        self._chunks = asyncio.Queue()
        self._gone = asyncio.Event()
        self._blocks = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.status = self.headers = self.last_id = None
        self.comments = 0

    async def __aenter__(self):
        self._task = asyncio.create_task(self._app(self._scope, self._receive, self._send))
        return self

    async def __aexit__(self, *error):
        self.leave()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(self._task, TIMEOUT_S)

    def leave(self):
        """Close the connection."""
        self._gone.set()

    async def _receive(self):
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self._chunks.put_nowait(message["body"] if message.get("more_body") else None)

    async def ended(self):
        """Wait for the end of the answer."""
        while await asyncio.wait_for(self._chunks.get(), TIMEOUT_S) is not None:
            pass

    async def block(self):
        """The fields of the next block; None: the stream has ended."""
        while not self._blocks:
            chunk = await asyncio.wait_for(self._chunks.get(), TIMEOUT_S)
            if chunk is None:
                return None
            for text in chunk.decode().split("\n\n")[:-1]:
                lines = (line.partition(": ")[::2] for line in text.split("\n"))
                self._blocks.append(dict(lines))
        block = self._blocks.pop(0)
        self.last_id = block.get("id", self.last_id)
        return block

    async def event(self):
        """The next event: its name, and the scope that it is about (None: of none)."""
        block = await self.block()
        while block is not None and "event" not in block:
            self.comments += "" in block
            block = await self.block()
        if block is None:
            return None
        self.data = json.loads(block["data"])
        return block["event"], self.data.get("scope")

    async def until_synced(self):
        """All events up to and with the next `synced`."""
        events = [await self.event()]
        while events[-1][0] != "synced":
            events.append(await self.event())
        return events


def last_event_id(text):
    """The header of a client that comes back."""
    return ((b"last-event-id", text.encode()),)


def run_scenario(scenario, caller=None, **more):
    """Run a scenario with a stream and its app, in one event loop."""

    async def started():
        with InMemoryStream(NOW, **more) as stream:
            app = live_app(stream, caller)
            async with app.router.lifespan_context(app):
                await scenario(stream, app)

    asyncio.run(started())


def put(stream, *scopes):
    """Give scopes a budget of 10 USD."""
    for scope in scopes:
        stream.budgets.put(scope, Budget(monthly_budget_usd=Decimal(10)))


def spend(stream, cost_usd, **fields):
    """Usage of a1."""
    fields = {"organization_id": "acme", "agent_id": "a1", "cost_usd": cost_usd} | fields
    assert stream.emitter.emit(**fields)


def told(*scopes):
    """The events of decisions of scopes."""
    return {("decision", scope.key) for scope in scopes}
