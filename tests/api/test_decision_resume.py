"""The stream of decisions after a client was away: what its `Last-Event-ID` is good for."""

import pytest

from api import decision_hub
from outlay import Scope
from tests.api.live_api import EventClient, key_of, last_event_id, live_app, put, run_scenario, told

ACME, TEAM = Scope("acme"), Scope("acme", team_id="search")
A1 = Scope("acme", agent_id="a1")
SYNCED, RESET = ("synced", None), ("reset", None)
LONG_S = 3_600


def test_who_comes_back_is_told_what_was_missed():
    """By any process: changes and deletions since the id, and nothing that is older."""

    async def scenario(stream, app):
        put(stream, ACME, TEAM, A1)
        stream.clock.advance(seconds=LONG_S)
        async with EventClient(app) as client:
            await client.until_synced()
        stream.clock.advance(seconds=LONG_S)
        put(stream, A1)
        stream.budgets.delete(TEAM)
        other = live_app(stream)  # its process has begun when the first one did
        async with other.router.lifespan_context(other):
            for each in (app, other):
                header = last_event_id(client.last_id)
                async with EventClient(each, headers=header) as back:
                    events = await back.until_synced()
                    if each is app:
                        assert events == [("deleted", TEAM.key), ("decision", A1.key), SYNCED]
                    else:  # it has not seen what was deleted before it began
                        assert events[0] == RESET
                        assert set(events[1:-1]) == told(ACME, A1)

    run_scenario(scenario)


def test_an_id_is_good_on_another_process_that_was_there():
    """What the id says is a time, not a place in one process."""

    async def scenario(stream, app):
        other = live_app(stream)
        async with other.router.lifespan_context(other):
            put(stream, ACME, TEAM)
            stream.clock.advance(seconds=LONG_S)
            async with EventClient(app) as client:
                await client.until_synced()
            stream.budgets.delete(TEAM)
            async with EventClient(other, headers=last_event_id(client.last_id)) as back:
                assert await back.until_synced() == [("deleted", TEAM.key), SYNCED]

    run_scenario(scenario)


def test_a_key_that_comes_back_sees_its_organization_alone():
    """In what it has missed, too: neither what changed of another's, nor what is gone."""
    other, gone = Scope("other"), Scope("other", agent_id="gone")

    async def scenario(stream, app):
        put(stream, ACME, other, gone)
        stream.clock.advance(seconds=LONG_S)
        async with EventClient(app) as client:
            await client.until_synced()
        put(stream, ACME, other)
        stream.budgets.delete(gone)
        async with EventClient(app, headers=last_event_id(client.last_id)) as back:
            assert await back.until_synced() == [("decision", ACME.key), SYNCED]

    run_scenario(scenario, key_of("acme", "viewer"))


def test_what_is_a_little_older_than_the_id_is_told_again():
    """Workers date decisions, and their clocks differ: by less than the overlap."""

    async def scenario(stream, app):
        stream.clock.advance(seconds=LONG_S)
        put(stream, ACME)
        stream.clock.advance(seconds=decision_hub.OVERLAP_S / 2)
        put(stream, TEAM)
        stream.clock.advance(seconds=decision_hub.OVERLAP_S * 3 / 4)
        async with EventClient(app) as client:
            await client.until_synced()
        async with EventClient(app, headers=last_event_id(client.last_id)) as back:
            assert await back.until_synced() == [("decision", TEAM.key), SYNCED]

    run_scenario(scenario)


@pytest.mark.parametrize("name", ["", "7", "x" * 5_000, "1795262400000-00000000", "of another"])
def test_an_id_that_says_nothing_begins_anew(name):
    """One of another filter, too: what that one has told is something else."""

    async def scenario(stream, app):
        put(stream, ACME)
        stream.clock.advance(seconds=LONG_S)
        async with EventClient(app, "organization_id=acme") as client:
            await client.until_synced()
        header = last_event_id(client.last_id if name == "of another" else name)
        async with EventClient(app, headers=header) as back:
            assert (await back.until_synced())[0] == RESET

    run_scenario(scenario)


def test_an_id_is_given_only_where_all_before_is_told():
    """A stream that breaks while it begins is begun anew; of several changes the last has it."""

    async def scenario(stream, app):
        put(stream, *(Scope("acme", agent_id=f"a{n}") for n in range(5)))
        async with EventClient(app) as client:
            for _ in range(6):
                await client.event()
                assert client.last_id is None
            assert await client.event() == SYNCED
            first = client.last_id
            stream.clock.advance(seconds=1)
            client.last_id = None
            put(stream, ACME, TEAM)
            await client.event()
            assert client.last_id is None
            await client.event()
            assert int(client.last_id.partition("-")[0]) == int(first.partition("-")[0]) + 1_000

    run_scenario(scenario)


def test_deletions_that_are_remembered_are_bounded(monkeypatch):
    """An id from before the oldest one begins anew."""
    monkeypatch.setattr(decision_hub, "DELETED_MAX", 1)

    async def scenario(stream, app):
        put(stream, ACME, TEAM, A1)
        stream.clock.advance(seconds=LONG_S)
        async with EventClient(app) as client:
            await client.until_synced()
        before = last_event_id(client.last_id)
        stream.clock.advance(seconds=LONG_S)
        stream.budgets.delete(ACME)
        async with EventClient(app, headers=before) as back:
            assert await back.until_synced() == [("deleted", ACME.key), SYNCED]
        stream.budgets.delete(TEAM)
        async with EventClient(app, headers=before) as back:
            assert await back.until_synced() == [RESET, ("decision", A1.key), SYNCED]

    run_scenario(scenario)
