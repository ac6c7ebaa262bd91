"""The list of budgets: filtered, sorted, in pages that changes do not upset."""

import pytest

from api import budget_listing
from api.callers import Caller
from api.paging import PAGE_ITEMS_MAX, cursor_after, position_of
from api.problems import ProblemError
from outlay import Budget, Scope
from outlay.testing import InMemoryStream
from tests.api.budget_world import BUDGETS, NOON, serving

SCOPES = [
    Scope("acme"),
    Scope("acme", agent_id="a1"),
    Scope("acme", agent_id="a2"),
    Scope("acme", team_id="search"),
    Scope("acme", team_id="search", user_id="u7"),
    Scope("acme", user_id="u7"),
    Scope("acme2"),
    Scope("other", team_id="search"),
]
KEYS = [scope.key for scope in SCOPES]


@pytest.fixture
def api():
    with InMemoryStream(NOON) as stream, serving(stream) as api:
        for scope in reversed(SCOPES):
            stream.budgets.put(scope, Budget(monthly_execution_limit=4))
        yield api


def page(api, **params):
    body = api.client.get(BUDGETS, params=params).json()
    return [item["scope"] for item in body["items"]], body["next_cursor"]


def pages(api, **params):
    found, cursor = page(api, **params)
    yield found
    while cursor is not None:
        found, cursor = page(api, **params, cursor=cursor)
        yield found


def test_all_are_listed_by_key(api):
    """Each as it is read by itself."""
    assert page(api) == (sorted(KEYS), None)
    item = api.client.get(BUDGETS).json()["items"][1]
    assert item == api.client.get(f"{BUDGETS}/{item['scope']}").json()


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"organization_id": "acme"}, KEYS[:6]),
        ({"organization_id": "nobody"}, []),
        ({"kind": "organization"}, ["organization:acme", "organization:acme2"]),
        ({"kind": "agent"}, KEYS[1:3]),
        ({"kind": "member"}, ["organization:acme/team:search/user:u7"]),
        ({"kind": "user", "organization_id": "acme"}, ["organization:acme/user:u7"]),
        ({"state": "ok"}, KEYS[2:3] + KEYS[6:]),
        ({"state": "warning"}, ["organization:acme/agent:a1"]),
        ({"state": "exceeded", "kind": "team"}, ["organization:acme/team:search"]),
        ({"state": "degraded"}, []),
    ],
)
def test_filters(api, params, expected):
    """By organization, kind and state; together they all have to fit."""
    for agent, count in (("a1", 3), ("x", 1)):
        for _ in range(count):
            api.stream.emitter.emit(
                organization_id="acme",
                team_id="search",
                user_id="u7",
                agent_id=agent,
                cost_usd="0.01",
            )
    assert [key for found in pages(api, **params, limit=2) for key in found] == sorted(expected)


def test_a_state_is_that_of_now(api):
    """Also where a new month began and no decision was published since."""
    for _ in range(4):
        api.stream.emitter.emit(organization_id="acme", agent_id="a2", cost_usd=0)
    assert page(api, state="exceeded")[0] == ["organization:acme", "organization:acme/agent:a2"]
    api.stream.stall()
    api.stream.clock.advance(days=20)
    assert page(api, state="exceeded") == ([], None)


@pytest.mark.parametrize("limit", [1, 3, 8, 9])
def test_pages_hold_all_once(api, limit):
    """In the order of the keys, no page longer than asked for."""
    found = list(pages(api, limit=limit))
    assert [key for keys in found for key in keys] == sorted(KEYS)
    assert [len(keys) for keys in found[:-1]] == [limit] * (len(found) - 1)
    assert found[-1]  # the last one is known to be the last


def test_pages_are_stable_under_changes(api):
    """What was there all the time is listed once, whatever comes, goes or is the cursor's own."""
    found, cursor = page(api, limit=3)
    assert found == sorted(KEYS)[:3]
    api.stream.budgets.delete(found[0])
    api.stream.budgets.delete(found[2])  # the one that the next page begins behind
    api.stream.budgets.put(Scope("acme", agent_id="a0"), Budget())  # before it
    api.stream.budgets.put(Scope("acme", agent_id="a3"), Budget())  # behind it
    rest, cursor = page(api, limit=100, cursor=cursor)
    assert (rest, cursor) == (["organization:acme/agent:a3", *sorted(KEYS)[3:]], None)


def test_one_page_looks_at_a_bounded_number(api, monkeypatch):
    """A filter that fits few has short pages, even empty ones, and finds all in the end."""
    monkeypatch.setattr(budget_listing, "SEARCHED_MAX", 3)
    found = list(pages(api, kind="team"))
    assert [len(keys) for keys in found] == [0, 1, 1]
    assert [key for keys in found for key in keys] == [
        "organization:acme/team:search",
        "organization:other/team:search",
    ]


def test_a_caller_sees_its_own_organization(api, assert_problem):
    """Nothing of others, not through a filter, and not through somebody else's cursor."""
    api.be(Caller("eyes", "acme", frozenset({"viewer"})))
    assert page(api)[0] == sorted(KEYS[:6])
    assert page(api, organization_id="acme")[0] == sorted(KEYS[:6])
    for name in ("other", "nobody"):
        response = api.client.get(BUDGETS, params={"organization_id": name})
        assert_problem(response, 404, "not-found")
    assert page(api, cursor=cursor_after("budgets", "organization:acme1")) == ([], None)
    assert page(api, cursor=cursor_after("budgets", ""))[0] == sorted(KEYS[:6])
    api.be(Caller("emits", "acme", frozenset({"emitter"})))
    assert_problem(api.client.get(BUDGETS), 403, "forbidden")


@pytest.mark.parametrize(
    ("params", "location"),
    [
        ({"limit": 0}, "query.limit"),
        ({"limit": PAGE_ITEMS_MAX + 1}, "query.limit"),
        ({"kind": "planet"}, "query.kind"),
        ({"state": "fine"}, "query.state"),
        ({"organization_id": ""}, "query.organization_id"),
        ({"cursor": ""}, "query.cursor"),
        ({"cursor": "?"}, "query.cursor"),
        ({"cursor": "ä"}, "query.cursor"),
        ({"cursor": "bnVsbA"}, "query.cursor"),
        ({"cursor": cursor_after("audit", "organization:acme")}, "query.cursor"),
        ({"cursor": "x" * 16_385}, "query.cursor"),
    ],
)
def test_what_cannot_be_asked_is_refused(api, assert_problem, params, location):
    """Naming the parameter."""
    problem = assert_problem(api.client.get(BUDGETS, params=params), 422, "invalid-request")
    assert problem["errors"][0]["location"] == location


def test_a_cursor_goes_round():
    """For every position, the longest key of a scope among them; in characters that a URL takes."""
    longest = Scope("𝄞" * 256, team_id="𝄞" * 256, user_id="𝄞" * 256).key
    for position in ("", "organization:acme/agent:a%2F1", longest, "ä/?&"):
        cursor = cursor_after("budgets", position)
        assert position_of("budgets", cursor) == position
        assert set(cursor) <= set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        )
        assert len(cursor) <= 16_384
    with pytest.raises(ProblemError):
        position_of("audit", cursor_after("budgets", "x"))


def test_a_search_beside_the_feed_that_goes_on():
    """A budget that is gone between the look at the keys and the look at it is left out."""

    class Vanishing(dict):
        def get(self, key, default=None):
            return default if key.endswith("a1") else super().get(key, default)

    with InMemoryStream(NOON) as stream:
        for scope in SCOPES:
            stream.budgets.put(scope, Budget())
        decisions = Vanishing(stream.feed.decisions)
        search = budget_listing.Search(
            lambda organization_id: True, None, None, None, "", 100, NOON.toordinal()
        )
        found, after = search.run(decisions)
    assert [known.decision.scope for known in found] == sorted(set(KEYS) - {KEYS[1]})
    assert after is None


def test_a_search_shows_what_its_caller_sees():
    """Organization by organization, also for one who is not bound to a single one."""
    with InMemoryStream(NOON) as stream:
        for scope in SCOPES:
            stream.budgets.put(scope, Budget())
        sees = {"acme2", "other"}.__contains__
        search = budget_listing.Search(sees, None, None, None, "", 100, NOON.toordinal())
        found, _ = search.run(stream.feed.decisions)
    assert [known.decision.scope for known in found] == sorted(KEYS[6:])
