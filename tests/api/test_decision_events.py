"""The stream of decisions: what a client is told, in which order."""

import threading
from decimal import Decimal

import pytest

from api import decision_hub
from outlay import Budget, Scope
from tests.api.live_api import EventClient, key_of, live_api, put, run_scenario, spend, told

ACME, TEAM, OTHER = Scope("acme"), Scope("acme", team_id="search"), Scope("acme-2")
MEMBER, A1 = Scope("acme", team_id="search", user_id="u7"), Scope("acme", agent_id="a1")
SYNCED, RESET = ("synced", None), ("reset", None)
URL = "/api/v1/decisions/stream"


def test_a_stream_begins_with_everything_and_goes_on_with_changes():
    """Reset, all there is, synced; then each change as it comes, and deletions."""

    async def scenario(stream, app):
        put(stream, A1, ACME)
        async with EventClient(app) as client:
            first, *events, last = await client.until_synced()
            assert (first, set(events), last) == (RESET, told(A1, ACME), SYNCED)
            put(stream, TEAM)
            assert await client.event() == ("decision", TEAM.key)
            stream.budgets.delete(A1)
            assert await client.event() == ("deleted", A1.key)
            assert client.data == {"scope": A1.key}
        assert client.status == 200
        assert client.headers["content-type"].startswith("text/event-stream")
        assert client.headers["cache-control"] == "no-store"

    run_scenario(scenario)


def test_a_decision_as_it_is_told():
    """Budget, state and usage, amounts as strings without an exponent; none of the insides."""

    async def scenario(stream, app):
        stream.budgets.put(A1, Budget(monthly_budget_usd=Decimal("0.00000001"), on_stale="block"))
        async with EventClient(app) as client:
            await client.until_synced()
            spend(stream, "0.000000009", input_tokens=3)
            await client.event()
        usage = {
            "cost_usd": "0.000000009",
            "executions": 1,
            "input_tokens": 3,
            "output_tokens": 0,
        }
        budget = client.data.pop("budget")
        assert client.data == {
            "scope": A1.key,
            "version": 1,
            "state": "degraded",
            "windows": {"2026-11": usage, "2026-11-21": usage},
            "published_at": "2026-11-21T12:00:00Z",
        }
        assert (budget["monthly_budget_usd"], budget["daily_budget_usd"]) == ("0.00000001", None)
        assert (budget["warning_threshold"], budget["on_stale"]) == ("0.75", "block")

    run_scenario(scenario)


@pytest.mark.parametrize(
    ("query", "scopes"),
    [
        ("", (ACME, TEAM, MEMBER, A1, OTHER)),
        ("organization_id=acme", (ACME, TEAM, MEMBER, A1)),
        ("scope=organization:acme/team:search", (TEAM, MEMBER)),
        ("scope=organization:acme/agent:a1&organization_id=acme", (A1,)),
        ("scope=organization:acme-2", (OTHER,)),
    ],
)
def test_filters(query, scopes):
    """A scope and all within it, in what is there and in what changes; no name's mere beginning."""

    async def scenario(stream, app):
        put(stream, ACME, TEAM, MEMBER, A1, OTHER)
        async with EventClient(app, query) as client:
            _, *events, _ = await client.until_synced()
            assert set(events) == told(*scopes)
            put(stream, ACME, TEAM, MEMBER, A1, OTHER)
            assert {await client.event() for _ in scopes} == told(*scopes)
            if OTHER not in scopes:
                stream.budgets.delete(OTHER)
            stream.budgets.delete(scopes[0])
            assert await client.event() == ("deleted", scopes[0].key)

    run_scenario(scenario)


def test_a_key_sees_its_organization_alone():
    """Also where it names none; another's is not found."""

    async def scenario(stream, app):
        put(stream, ACME, OTHER)
        async with EventClient(app) as client:
            assert await client.until_synced() == [RESET, ("decision", ACME.key), SYNCED]
            put(stream, OTHER, A1)
            assert await client.event() == ("decision", A1.key)
        for query in ("organization_id=acme-2", "scope=organization:acme-2"):
            async with EventClient(app, query) as client:
                await client.ended()
                assert client.status == 404

    run_scenario(scenario, key_of("acme", "viewer"))


def test_changes_come_from_the_feeds_thread(monkeypatch):
    """It tells the event loop, and never waits for it; clients are told on the loop alone."""
    threads, tell = set(), decision_hub.Subscription.tell

    def recorded(subscription, scope_keys):
        threads.add(threading.get_ident())
        tell(subscription, scope_keys)

    monkeypatch.setattr(decision_hub.Subscription, "tell", recorded)

    async def scenario(stream, app):
        async with EventClient(app) as client:
            await client.until_synced()
            scopes = [Scope("acme", agent_id=f"a{n}") for n in range(200)]
            thread = threading.Thread(target=put, args=(stream, *scopes))
            thread.start()
            seen = set()
            while len(seen) < len(scopes):
                seen.add(await client.event())
            thread.join()
            assert seen == told(*scopes)
            assert threads == {threading.get_ident()}

    run_scenario(scenario)


def test_what_cannot_be_followed(assert_problem):
    """A wrong scope, a key that views nothing, no feed."""
    with live_api() as api:
        for query in ({"scope": "acme"}, {"scope": "organization:a", "organization_id": "b"}):
            assert_problem(api.client.get(URL, params=query), 422, "invalid-request")
    with live_api(key_of("acme", "emitter")) as api:
        assert_problem(api.client.get(URL), 403, "forbidden")
    with live_api(broker_away=True) as api:
        assert_problem(api.client.get(URL), 503, "feed-unavailable")
