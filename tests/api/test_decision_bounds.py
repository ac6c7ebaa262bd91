"""The stream of decisions where clients are slow, many or gone, and where the server stops."""

import asyncio

import uvicorn

from api import decision_events, decision_hub, decision_teller
from api.live import end_streams
from outlay import Scope
from tests.api.live_api import (
    EventClient,
    key_of,
    put,
    run_scenario,
    spend,
    told,
)

ACME, TEAM = Scope("acme"), Scope("acme", team_id="search")
A1 = Scope("acme", agent_id="a1")
SYNCED, RESET = ("synced", None), ("reset", None)
URL = "/api/v1/decisions/stream"


def test_a_slow_client_is_told_the_last_state_alone():
    """Nothing piles up: what lies between is skipped."""

    async def scenario(stream, app):
        put(stream, A1)
        async with EventClient(app) as client:
            await client.until_synced()
            client.reads.clear()
            put(stream, TEAM)
            await asyncio.sleep(0.05)  # the answer to this one waits for the client
            for _ in range(50):
                spend(stream, "0.10")
                await asyncio.sleep(0)
            client.reads.set()
            assert await client.event() == ("decision", TEAM.key)
            assert await client.event() == ("decision", A1.key)
            assert client.data["windows"]["2026-11"]["cost_usd"] == "5.00"
            put(stream, ACME)
            assert await client.event() == ("decision", ACME.key)

    run_scenario(scenario)


def test_a_client_that_lacks_too_much_is_told_everything_anew(monkeypatch):
    """What waits for it is bounded."""
    monkeypatch.setattr(decision_hub, "PENDING_MAX", 3)

    async def scenario(stream, app):
        put(stream, ACME)
        async with EventClient(app) as client:
            await client.until_synced()
            agents = [Scope("acme", agent_id=f"a{n}") for n in range(5)]
            put(stream, *agents)
            stream.budgets.delete(ACME)
            first, *events, last = await client.until_synced()
            assert (first, set(events), last) == (RESET, told(*agents), SYNCED)

    run_scenario(scenario)


def test_a_client_that_takes_nothing_is_left(monkeypatch):
    """Its place is free then."""
    monkeypatch.setattr(decision_events, "SEND_TIMEOUT_S", 0.05)

    async def scenario(stream, app):
        hub = app.state.services.live.hub
        async with EventClient(app) as client:
            await client.until_synced()
            assert hub.streams == 1
            client.reads.clear()
            put(stream, ACME)
            await asyncio.wait_for(client._task, 5)
            assert hub.streams == 0

    run_scenario(scenario)


def test_a_client_that_leaves_is_forgotten():
    """At once."""

    async def scenario(stream, app):
        hub = app.state.services.live.hub
        async with EventClient(app) as client:
            await client.until_synced()
            assert hub.streams == 1
        assert hub.streams == 0

    run_scenario(scenario)


def test_streams_are_bounded(monkeypatch):
    """Of a process, and of one key."""
    monkeypatch.setattr(decision_hub, "STREAMS_PER_KEY_MAX", 1)
    monkeypatch.setattr(decision_hub, "STREAMS_MAX", 2)

    async def status(app):
        async with EventClient(app) as client:
            await client.block()
            return client.status

    async def scenario(stream, app):
        async with EventClient(app) as first:
            await first.until_synced()
            assert await status(app) == 503
            app.state.authenticate = lambda request: key_of("acme", "viewer", key_id="k2")
            async with EventClient(app) as second:
                await second.until_synced()
                app.state.authenticate = lambda request: key_of("acme", "viewer", key_id="k3")
                assert await status(app) == 503
            assert await status(app) == 200

    run_scenario(scenario, key_of("acme", "viewer"))


def test_silence_is_broken(monkeypatch):
    """By a comment that moves the id, so that it does not grow old; and a key is looked at."""
    monkeypatch.setattr(decision_teller, "HEARTBEAT_S", 0.02)

    async def scenario(stream, app):
        class Guard:
            revoked = False

            def __call__(self, request):
                return key_of("acme", "viewer")

            def in_force(self, caller):
                return not self.revoked

        app.state.authenticate = guard = Guard()
        async with EventClient(app) as client:
            await client.until_synced()
            before = client.last_id
            stream.clock.advance(seconds=5)
            while client.last_id == before:
                assert (await client.block())[""] == "alive"
            guard.revoked = True
            async with asyncio.timeout(5):
                while await client.block() is not None:
                    pass

    run_scenario(scenario)


def test_a_server_that_stops_ends_its_streams():
    """They end whole, at once, and a stop waits for none; over a real connection."""

    async def scenario(stream, app):
        server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - it has nothing to wait for
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {URL} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await reader.readuntil(b"event: synced")
        put(stream, ACME)
        await reader.readuntil(b"event: decision")
        end_streams(app)
        server.should_exit = True
        await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), 5)  # the last chunk
        await asyncio.wait_for(serving, 5)
        writer.close()
        async with EventClient(app) as client:
            await client.ended()
            assert client.status == 503

    run_scenario(scenario)
