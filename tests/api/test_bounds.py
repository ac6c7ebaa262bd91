"""How much one may take: room that is shared, requests a second, and connections."""

import asyncio
import contextlib
import json

import pytest
import uvicorn
from fastapi.testclient import TestClient
from starlette.responses import Response
from starlette.routing import Route

from api import connections
from api.app import create_app
from api.connections import server_config
from api.rates import RequestRate
from api.shares import Shares
from outlay.keyfile import KeyFile
from schemas.settings import Settings
from tests.api.fakes import FakeBudgets, FakeFeed, FakeHistory

WAIT_S = 5.0


def test_room_is_shared_and_never_full_for_a_newcomer():
    """Whoever came first takes no more than is left; the last one gives all of it back."""
    shares = Shares(100)
    for owner, most in (("a", 50), ("b", 25), ("c", 13)):
        while shares.fits(1, owner):
            shares.take(1, owner)
        assert shares._held[owner] == most
    assert not shares.fits(1, "a")
    assert shares.fits(12, "newcomer")
    assert not shares.fits(13, "newcomer")
    for owner, count in list(shares._held.items()):
        shares.give_back(count, owner)
    assert (shares.total, shares._held) == (0, {})
    assert shares.fits(100, "a")


def test_a_rate_lets_bursts_through_and_no_more():
    """Two seconds' worth at once, then as many as the time allows; each key for itself."""
    now_s = [0.0]
    rate = RequestRate(5, keys_max=2, clock=lambda: now_s[0])
    assert [rate.take("k") for _ in range(11)] == [None] * 10 + [1]
    assert rate.take("other") is None
    now_s[0] = 0.4
    assert [rate.take("k") for _ in range(3)] == [None, None, 1]
    now_s[0] = 100.0
    assert [rate.take("k") for _ in range(11)] == [None] * 10 + [1]
    rate.take("third")
    assert len(rate) == 2


def test_a_slow_rate_says_how_long_to_wait():
    """One request a minute: whole seconds, and true."""
    now_s = [0.0]
    rate = RequestRate(1 / 60, clock=lambda: now_s[0])
    assert (rate.take("k"), rate.take("k")) == (None, 60)
    now_s[0] = 58.5
    assert rate.take("k") == 2
    now_s[0] = 60.5
    assert rate.take("k") is None


def _app(**settings):
    feed = FakeFeed()
    made = Settings(**settings)
    return create_app(made, feed=feed, budgets=FakeBudgets(feed), history=FakeHistory()), made


def test_a_key_that_asks_too_often_is_told_when_to_come_back(tmp_path, assert_problem):
    """Another key is answered meanwhile, and so is what needs none."""
    file = KeyFile(tmp_path / "keys.json")
    keys = [file.create(name, "acme", ("viewer",))[1] for name in ("fast", "other")]
    app, _ = _app(api_keys_file=str(file.path), api_requests_per_second_max=0.5)
    with TestClient(app, "http://localhost") as client:

        def ask(key):
            headers = {"Authorization": f"Bearer {key}"}
            return client.get("/api/v1/budgets/organization:acme", headers=headers)

        assert ask(keys[0]).status_code == 404
        refused = ask(keys[0])
        assert_problem(refused, 429, "too-many-requests")
        assert refused.headers["retry-after"] == "2"
        assert ask(keys[1]).status_code == 404
        assert client.get("/healthz").status_code == 200


def test_a_preflight_that_is_refused_is_a_problem(tmp_path, assert_problem):
    """As all others, with what a cache must know; one that is not is answered as ever."""
    app, _ = _app(api_cors_origins="https://a.example", api_keys_file=str(tmp_path / "keys.json"))
    with TestClient(app, "http://localhost") as client:
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "TRACE"}
        refused = client.options("/api/v1/check", headers=asked)
        problem = assert_problem(refused, 400, "cors-refused")
        assert problem["detail"] == "Disallowed CORS origin, method"
        assert "access-control-allow-origin" not in refused.headers
        assert refused.headers["vary"].startswith("Origin")
        asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"}
        assert client.options("/api/v1/check", headers=asked).status_code == 200


def _served(scenario, large=b"", **settings):
    """Run a scenario with the port of a real server, and the server; `/large` answers that."""
    app, made = _app(api_port=0, **settings)
    app.router.routes.insert(0, Route("/large", lambda request: Response(large)))

    async def run():
        server = uvicorn.Server(server_config(app, made))
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  # uvicorn offers no event
            await asyncio.sleep(0.005)
        try:
            async with asyncio.timeout(WAIT_S):
                port = server.servers[0].sockets[0].getsockname()[1]
                return await scenario(port, server)
        finally:
            server.should_exit = True
            await serving

    return asyncio.run(run())


class _Connection:
    """A client that writes what it is told, byte by byte if need be."""

    def __init__(self, port):
        self._port = port

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    async def ask(self, path):
        """The status, the headers as one text, and the body."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r")[0])
        return int(head.split()[1]), head, await self.reader.readexactly(length)


def test_connections_have_a_bound():
    """One more is told so, but may ask whether it lives; far more are cut off."""

    async def scenario(port, server):
        async with _Connection(port) as first, _Connection(port) as second:
            assert (await first.ask("/nowhere"))[0] == 404
            assert (await second.ask("/healthz"))[0] == 200
            async with _Connection(port) as third:
                assert (await third.ask("/healthz"))[0] == 200
                status, head, body = await third.ask("/nowhere")
                assert (status, json.loads(body)["type"]) == (
                    503,
                    "urn:outlay:problem:too-many-connections",
                )
                assert "retry-after: " in head
                assert await third.reader.read() == b""  # it is ended
            async with _Connection(port) as fourth:
                assert (await first.ask("/healthz"))[0] == 200
                connections.REFUSED_CONNECTIONS_MAX = 0
                async with _Connection(port) as fifth:
                    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                        await fifth.ask("/healthz")
                assert (await fourth.ask("/healthz"))[0] == 200

    kept = connections.REFUSED_CONNECTIONS_MAX
    try:
        _served(scenario, api_connections_max=2)
    finally:
        connections.REFUSED_CONNECTIONS_MAX = kept


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: lo", b"whole"])
def test_who_says_nothing_is_not_waited_for(monkeypatch, sent):
    """Neither at the first byte, nor in the midst of a head, also of a second request."""
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.05)

    async def scenario(port, server):
        async with _Connection(port) as client:
            if sent == b"whole":
                assert (await client.ask("/healthz"))[0] == 200
                client.writer.write(b"GET")
            client.writer.write(sent)
            assert await client.reader.read() == b""

    _served(scenario)


def test_a_head_has_a_bound():
    """Whatever comes in it: 400, and the end of the connection."""

    async def scenario(port, server):
        async with _Connection(port) as client:
            client.writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * connections.HEAD_BYTES_MAX * 2)
            answer = await client.reader.read()
            assert answer.startswith(b"HTTP/1.1 400 ")

    _served(scenario)


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * connections.HEAD_BYTES_MAX),
    ],
)
def test_what_is_no_request_is_answered_with_a_problem(sent):
    """Also a head that is too long and comes whole, at once."""

    async def scenario(port, server):
        async with _Connection(port) as client:
            client.writer.write(sent)
            head, _, body = (await client.reader.read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 ")
            assert b"application/problem+json" in head
            assert b"x-content-type-options: nosniff" in head.lower()
            assert json.loads(body)["type"] == "urn:outlay:problem:malformed-request"

    _served(scenario)


def test_a_body_that_breaks_the_rules_ends_a_connection_that_was_answered(caplog):
    """Without a trace of a bug in the log: it can no more be answered."""

    async def scenario(port, server):
        async with _Connection(port) as client:
            head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            client.writer.write(head)
            await client.reader.readuntil(b'{"status":"ok"}')
            client.writer.write(b"no chunk\r\n")
            assert await client.reader.read() == b""

    _served(scenario)
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_the_rest_of_a_body_is_not_waited_for_when_it_was_answered(monkeypatch):
    """However often a byte of it comes."""
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.05)

    async def scenario(port, server):
        async with _Connection(port) as client:
            client.writer.write(
                b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n"
            )
            await client.reader.readuntil(b'{"status":"ok"}')
            ended = asyncio.create_task(client.reader.read())
            while not ended.done():
                client.writer.write(b"x")
                await asyncio.wait({ended}, timeout=0.02)
            with contextlib.suppress(ConnectionError):
                assert await ended == b""

    _served(scenario)


@pytest.mark.parametrize("asked", [1, 9])
def test_who_takes_nothing_of_an_answer_is_cut_off(monkeypatch, asked):
    """One answer that is not taken, and several, of which the last ones wait for room."""
    monkeypatch.setattr(connections, "TAKE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(connections, "KEEP_ALIVE_TIMEOUT_S", 0.05)
    large = b"x" * 20_000_000  # more than the system keeps for a client that reads nothing

    async def scenario(port, server):
        async with _Connection(port) as client:
            client.writer.transport.pause_reading()
            client.writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n" * asked)
            state = server.server_state
            while not state.tasks and not state.total_requests:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.005)
            while state.connections:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.005)

    _served(scenario, large=large)


def test_a_request_that_a_stop_does_not_wait_for_is_told_so(monkeypatch, caplog):
    """With a problem that is worth another try, and no trace of a bug in the log."""
    monkeypatch.setattr(connections, "SHUTDOWN_TIMEOUT_S", 0.05)

    async def scenario(port, server):
        async with _Connection(port) as client:
            path = "/api/v1/external-agents/a1/budget/config?organization_id=acme"
            head = f"PATCH {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n"
            client.writer.write(head.encode())
            while not server.server_state.tasks:  # noqa: ASYNC110  # uvicorn offers no event
                await asyncio.sleep(0.005)
            server.should_exit = True
            head, _, body = (await client.reader.read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: " in head.lower()
            assert json.loads(body)["type"] == "urn:outlay:problem:stopping"

    _served(scenario)
    assert "Traceback" not in caplog.text
