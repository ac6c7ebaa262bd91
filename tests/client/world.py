"""The real app on a real socket, and the two clients behind one face."""

import asyncio
import contextlib
import inspect
import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import uvicorn

from api.app import create_app
from api.live import end_streams
from outlay.budget import Amounts
from outlay.client import AsyncClient, Client, Retries
from outlay.keyfile import KeyFile
from outlay.testing import InMemoryStream
from schemas.settings import Settings
from streams.clickhouse_alerts import AlertLog, DeliveryLog
from streams.clickhouse_audit import AuditLog, AuditPlace, AuditRow
from streams.clickhouse_queries import ScopeUsage, SpendReport, SpendRow
from tests.api.alert_parts import AlertBudgets, FakeOwnAlerts
from tests.api.fakes import NOW
from tests.library.library_fakes import FakeSender, FakeTopic

NOW_MS = int(NOW.timestamp() * 1000)
ROLES = ("viewer", "emitter", "operator", "admin")
WAIT_S = 10.0


class History:
    """What ClickHouse would hold: one row of spend, and `audited` entries of each organization."""

    audited = 5

    async def ask(self, query):
        """Rows for a report and the audit, one sum for a scope."""
        if isinstance(query, ScopeUsage):
            return [Amounts(300_000_003, 3, 20, 10)]
        if isinstance(query, SpendReport):
            amounts = Amounts(300_000_003, 3, 20, 10)
            return [SpendRow("2026-11-21", query.organization_id, None, amounts, 3)]
        if isinstance(query, AlertLog | DeliveryLog):
            return []
        assert isinstance(query, AuditLog)
        places = [AuditPlace(NOW_MS, 0, n) for n in reversed(range(self.audited))]
        behind = [each for each in places if query.behind is None or each < query.behind]
        return [self._entry(query, place) for place in behind[: query.limit]]

    async def ping(self):
        """It is there."""

    def _entry(self, query, place):
        after = '{"monthly_budget_usd":"7.5","timezone":"UTC","of_tomorrow":1}'
        scope = query.scope or f"organization:{query.organization_id}"
        return AuditRow(
            organization_id=query.organization_id, scope=scope, request_id=f"r{place.offset}",
            requested_by="ops", action="put", accepted=True, reason="", version=1, before=None,
            after=after, place=place,
        )  # fmt: skip


def make_world(directory):
    """The app over outlay in memory, with keys of two organizations for each role, and of all."""
    file = KeyFile(directory / "keys.json")
    keys = {
        (organization, role): file.create(f"{organization}-{role}", organization, (role,))[1]
        for organization in ("acme", "globex", None)
        for role in ROLES
    }
    stream, topic = InMemoryStream(datetime.now(UTC)), FakeTopic(2)  # as the records are
    own_alerts, alerts = FakeOwnAlerts(), FakeTopic(2)
    app = create_app(
        Settings(api_keys_file=str(file.path)),
        feed=stream.feed,
        budgets=AlertBudgets(stream, own_alerts),
        history=History(),
        usage_sender=lambda: FakeSender(topic),
        gateway=stream.gateway,
        own_alerts=own_alerts,
        alert_sender=lambda: FakeSender(alerts),
        now=lambda: stream.clock.now,
    )
    return SimpleNamespace(app=app, stream=stream, topic=topic, keys=keys, file=file)


class Server:
    """uvicorn on a free port of loopback, in a thread; `seen` are the requests that came."""

    def __init__(self, app):
        self._app = app
        self.seen = []
        self._cuts = []
        config = uvicorn.Config(
            self._watched, port=0, log_config=None, lifespan="on", interface="asgi3"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(WAIT_S)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *error):
        self._server.should_exit = True
        end_streams(self._app)
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def cut_next_stream(self, messages):
        """End the next stream of events after so many messages of its body."""
        self._cuts.append(messages)

    def _run(self):
        async def main():
            serving = asyncio.create_task(self._server.serve())
            while not self._server.started and not serving.done():  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.005)
            self._started.set()
            await serving

        asyncio.run(main())

    async def _watched(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        self.seen.append((scope, headers))
        if not scope["path"].endswith("/decisions/stream") or not self._cuts:
            await self._app(scope, receive, send)
            return
        left = self._cuts.pop()

        async def cut(message):
            nonlocal left
            left -= message["type"] == "http.response.body"
            await send(message | {"more_body": left > 0} if "body" in message else message)
            if left == 0:
                raise OSError("cut by the test")

        with contextlib.suppress(Exception):
            await self._app(scope, receive, cut)


class Loop:
    """An event loop that runs what an `AsyncClient` returns, so that one test says both."""

    def __init__(self):
        self._runner = asyncio.Runner()
        self._is_closed = False

    def close(self):
        """End it."""
        self._is_closed = True
        self._runner.close()

    def wait(self, awaitable):
        """What it comes to."""

        async def waited():
            return await awaitable

        return self._runner.run(waited())

    def face(self, resource):
        """A resource of an `AsyncClient` that looks like one of `Client`."""
        return _Face(self, resource)

    def iterated(self, items):
        """An asynchronous generator as one that waits."""
        try:
            while True:
                try:
                    item = self.wait(anext(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if not self._is_closed:  # else the loop has closed it itself
                self.wait(items.aclose())


class _Face:
    def __init__(self, loop, resource):
        self._loop = loop
        self._resource = resource

    def __repr__(self):
        return repr(self._resource)

    def __getattr__(self, name):
        found = getattr(self._resource, name)
        if not callable(found):
            return _Face(self._loop, found)

        def called(*args, **kwargs):
            result = found(*args, **kwargs)
            if inspect.isawaitable(result):
                return self._loop.wait(result)
            return self._loop.iterated(result) if inspect.isasyncgen(result) else result

        return called


class Clients:
    """Makes clients of one kind; `pauses` are the seconds that they would have waited."""

    def __init__(self, kind):
        self.kind = kind
        self.pauses = []
        self.now_s = 0.0
        self._loop = Loop()
        self._open = []

    def __call__(self, url="http://api.example", *, clock=None, **options):
        options.setdefault("retries", Retries(jitter=lambda: 1.0))
        clock = clock or (lambda: self.now_s)
        if self.kind == "sync":
            client = Client(url, sleep=self._sleep, clock=clock, **options)
            self._open.append(client.close)
            return client
        client = AsyncClient(url, sleep=self._asleep, clock=clock, **options)
        self._open.append(lambda: self._loop.wait(client.aclose()))
        return self._loop.face(client)

    def close(self):
        """Close all of them."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._loop.close)
            for close in self._open:
                stack.callback(close)

    def _sleep(self, seconds):
        self.pauses.append(seconds)
        self.now_s += seconds

    async def _asleep(self, seconds):
        self._sleep(seconds)
