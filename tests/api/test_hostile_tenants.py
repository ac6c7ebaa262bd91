"""What one tenant, or a key that was revoked, could do to others: memory, time, and reach."""

import asyncio
import json
import os
import stat
import threading
import time
from urllib.parse import quote

import pytest
from starlette.requests import ClientDisconnect

from api import checking
from api.bodies import read_body
from api.decision_hub import DecisionHub
from api.decision_teller import Teller
from api.encoded_bodies import BodyRoom
from api.etags import condition_of
from api.keys import Keyring
from api.problems import ProblemError
from outlay import feed
from outlay.asking import checked_keys
from outlay.keyfile import KeyFile
from outlay.scope import scope_keys, wide_scope_keys
from tests.api.live_api import EventClient, key_of, last_event_id, live_api, run_scenario
from tests.api.usage_parts import make_app, post, record, serving
from tests.library.library_fakes import FakeTopic

CACHES = (checked_keys, scope_keys, wide_scope_keys)


def test_a_condition_takes_no_time_however_many_spaces_it_has():
    """In the square of them, one header of 60 kB would stop the whole process for a minute."""
    started_s = time.perf_counter()
    with pytest.raises(ProblemError):
        condition_of(['"1",' + " " * 20_000 + "x"], None)
    assert time.perf_counter() - started_s < 1


def test_spaces_around_tags_are_still_read():
    """Those of RFC 9110, on both sides, and elements that are empty."""
    text = ' \t"1" \t, ,W/"2" ,\t"3"'
    assert condition_of([text], None).versions == (1, 3)


class _Request:
    def __init__(self, *chunks):
        self._chunks = chunks

    async def stream(self):
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            if isinstance(chunk, float):
                await asyncio.sleep(chunk)
            else:
                yield chunk


@pytest.mark.parametrize("chunks", [(b"{", 5.0, b"}"), (b"{", ClientDisconnect())])
def test_a_body_that_does_not_come_is_not_waited_for(chunks):
    """As that of usage; one that breaks off is no bug, and not logged as one."""
    with pytest.raises(ProblemError) as caught:
        asyncio.run(read_body(_Request(*chunks), timeout_s=0.05))
    assert caught.value.kind == "request-timeout"


def test_bodies_of_one_organization_leave_room_for_others():
    """A few small gzip bodies that unfold to megabytes, and never end, would refuse all others'."""
    room = BodyRoom(1_000, 500)
    room.take(500, "globex")
    with pytest.raises(ProblemError):
        room.take(1, "globex")
    room.take(500, "acme")
    for owner in ("acme", "globex"):
        room.give_back(500, owner)
    assert room.held_bytes == 0
    room.take(500, "globex")


@pytest.mark.parametrize(("organization_id", "status"), [("globex", 503), ("acme", 202)])
def test_a_body_is_held_for_the_organization_of_its_key(organization_id, status):
    """So that it is the one whose share is full that is refused."""

    async def scenario():
        app = make_app(FakeTopic(), key_of(organization_id, "emitter"))
        async with serving(app, timeout_s=5) as client:
            app.state.usage.room.take(16 * 2**20, "globex")
            app.state.usage.room.take(16 * 2**20, "globex")
            return await post(client, record(organization_id=organization_id))

    assert asyncio.run(scenario()).status_code == status


def test_ids_that_are_long_do_not_fill_the_memory(monkeypatch):
    """65,536 calls with such ids would leave over a gigabyte of keys of scopes."""
    monkeypatch.setattr(checking, "UNUSUAL_ASKS_MAX", 10)
    monkeypatch.setattr(checking, "_unusual_asks", checking._UnusualAsks())
    for cache in CACHES:
        cache.cache_clear()
    ids = {"organization_id": "acme", "team_id": "t" * 200}
    with live_api() as api:
        for number in range(35):
            body = ids | {"user_id": f"{number:03}" + "\N{GRINNING FACE}" * 250}
            assert api.client.post("/api/v1/check", json=body).status_code == 200
        assert all(cache.cache_info().currsize <= 10 for cache in CACHES)
        for number in range(35):
            usual = {"organization_id": "acme", "user_id": f"u{number}"}
            assert api.client.post("/api/v1/check", json=usual).status_code == 200
        assert scope_keys.cache_info().currsize >= 35


def test_scopes_that_are_asked_about_at_random_do_not_fill_the_memory():
    """Their keys have up to 6 kB, and 65,536 partitions of scopes without a budget are kept."""
    with live_api() as api:
        before = feed._partition_of.cache_info().currsize
        for number in range(5):
            agent = f"{number}" + "\N{GRINNING FACE}" * 250
            path = f"/api/v1/external-agents/{quote(agent)}/budget?organization_id=acme"
            assert api.client.get(path).status_code == 200
        assert feed._partition_of.cache_info().currsize == before
        path = "/api/v1/external-agents/of-a-usual-length/budget?organization_id=acme"
        assert api.client.get(path).status_code == 200
        assert feed._partition_of.cache_info().currsize == before + 1


@pytest.mark.parametrize("path", ["usage", "check", "audit"])
def test_nothing_is_redirected_to_the_host_that_a_request_names(keyed, path):
    """Behind a proxy that ends TLS it would say http, and the key would go there in the open."""
    answer = keyed.ask(
        keyed.key["acme", "admin"],
        f"/api/v1/{path}/",
        "GET" if path == "audit" else "POST",
        headers={"Host": "evil.example"},
        follow_redirects=False,
    )
    assert answer.status_code == 404
    assert "location" not in answer.headers


def test_a_revoked_key_is_told_nothing_more_at_once(tmp_path):
    """Not what changes before the next sign of life, nor the rest of what it was being told."""
    file = KeyFile(tmp_path / "keys.json")
    made, _ = file.create("reader", "acme", ("viewer",))
    ring = Keyring(file.path)
    assert ring.is_in_force(made.id)

    class Hub:
        complete_ms = 1_000
        decisions = {}

        def all_of(self, subscription):
            return []

    class News:
        prefix, ended, overflowed = None, False, False

        def matches(self, key):
            return True

        async def news(self, timeout_s):
            return True

        def take(self):
            return {"organization:acme": None}

    async def told():
        blocks = Teller(Hub(), News(), lambda: ring.is_in_force(made.id)).blocks(None)
        seen = [await anext(blocks) for _ in range(4)]
        assert json.loads(seen[-1].split(b"\n")[1].removeprefix(b"data: ")) == {
            "scope": "organization:acme"
        }
        file.revoke(made.id)
        ring.check()
        return [block async for block in blocks]

    assert asyncio.run(told()) == []


@pytest.mark.parametrize(("before", "after"), [(0o640, 0o640), (0o644, 0o600), (0o660, 0o640)])
def test_a_revoked_key_does_not_stay_in_force_where_a_group_reads_the_file(tmp_path, before, after):
    """An API that may not read the new file would go on with the keys of the old one."""
    file = KeyFile(tmp_path / "keys.json")
    file.create("a", None, ("admin",))
    os.chmod(file.path, before)
    file.revoke("a")
    assert stat.S_IMODE(file.path.stat().st_mode) == after


def test_who_connects_again_and_again_stops_nobody(monkeypatch):
    """To find what one client lacks all budgets are gone through: beside the event loop."""
    calls = []

    def noting(method):
        def noted(hub, *arguments):
            calls.append((method.__name__, threading.current_thread()))
            return method(hub, *arguments)

        return noted

    for name in ("missed", "all_of"):
        monkeypatch.setattr(DecisionHub, name, noting(getattr(DecisionHub, name)))

    async def scenario(stream, app):
        async with EventClient(app) as client:
            await client.until_synced()
        async with EventClient(app, headers=last_event_id(client.last_id)) as again:
            await again.until_synced()
        assert {name for name, _ in calls} == {"missed", "all_of"}
        assert all(thread is not threading.current_thread() for _, thread in calls)

    run_scenario(scenario, key_of("acme", "viewer"))
