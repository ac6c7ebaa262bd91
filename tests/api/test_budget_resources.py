"""Budgets of all scopes over HTTP: read, set, changed, taken away."""

from decimal import Decimal

import pytest

from api import budget_resources
from api.callers import Caller
from outlay import Budget, Scope
from outlay.decision import decode_request
from outlay.testing import InMemoryStream
from tests.api.budget_world import ACME, BUDGETS, NOON, OPERATOR, SEARCH, serving, version_of

NO_LIMITS = dict.fromkeys(
    f"{window}_{kind}"
    for window in ("daily", "monthly")
    for kind in (
        "budget_usd",
        "execution_limit",
        "token_limit",
        "input_token_limit",
        "output_token_limit",
    )
)
DEFAULTS = {
    "warning_threshold": "0.75",
    "degradation_threshold": "0.90",
    "enforcement_mode": "hard",
    "on_stale": "allow",
    "timezone": "UTC",
}


@pytest.fixture
def api():
    with InMemoryStream(NOON) as stream, serving(stream) as api:
        yield api


def spend(api, cost_usd, **more):
    api.stream.emitter.emit(
        organization_id="acme", team_id="search", agent_id="a1", cost_usd=cost_usd, **more
    )


def test_a_budget_is_read_with_all_that_it_says(api):
    """Limits, state, version; used and left of each kind by day and month, USD as strings."""
    body = {
        "monthly_budget_usd": "10",
        "daily_budget_usd": 1.5,
        "monthly_execution_limit": 4,
        "daily_token_limit": 50,
        "on_stale": "block",
        "degradation_threshold": 0.95,
    }
    assert api.client.put(SEARCH, json=body).status_code == 201
    spend(api, "1.25", input_tokens=30, output_tokens=12)
    response = api.client.get(SEARCH)
    assert (response.status_code, response.headers["etag"]) == (200, '"1"')
    used = {
        "cost_usd": "1.25",
        "executions": 1,
        "tokens": 42,
        "input_tokens": 30,
        "output_tokens": 12,
    }
    nothing_limited = dict.fromkeys(used)
    assert response.json() == {
        "scope": "organization:acme/team:search",
        "kind": "team",
        "organization_id": "acme",
        "team_id": "search",
        "user_id": None,
        "agent_id": None,
        "version": 1,
        "state": "warning",
        "usage_percentage": "0.840000",
        "budget": NO_LIMITS
        | DEFAULTS
        | {
            "monthly_budget_usd": "10.00",
            "daily_budget_usd": "1.50",
            "monthly_execution_limit": 4,
            "daily_token_limit": 50,
            "on_stale": "block",
            "degradation_threshold": "0.95",
        },
        "windows": {
            "day": {
                "start": "2026-11-21T00:00:00Z",
                "end": "2026-11-22T00:00:00Z",
                "used": used,
                "remaining": nothing_limited | {"cost_usd": "0.25", "tokens": 8},
            },
            "month": {
                "start": "2026-11-01T00:00:00Z",
                "end": "2026-12-01T00:00:00Z",
                "used": used,
                "remaining": nothing_limited | {"cost_usd": "8.75", "executions": 3},
            },
        },
        "alerts": None,
        "stale": False,
    }


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("organization:acme", Scope("acme")),
        ("organization:acme/team:search", Scope("acme", team_id="search")),
        ("organization:acme/user:u7", Scope("acme", user_id="u7")),
        ("organization:acme/team:search/user:u7", Scope("acme", team_id="search", user_id="u7")),
        ("organization:acme/agent:a1", Scope("acme", agent_id="a1")),
        ("organization%3Aacme/agent:a%2Fb", Scope("acme", agent_id="a/b")),
        ("organization:acme/agent:team:x", Scope("acme", agent_id="team:x")),
        ("organization:acme/agent:a%252Fb", Scope("acme", agent_id="a%2Fb")),
        ("organization:a%2Fteam:b", Scope("a/team:b")),
        ("organization:%C3%A4%20b/user:%2E", Scope("ä b", user_id=".")),
        ("organization:acme/agent:x%2Fexplain", Scope("acme", agent_id="x/explain")),
    ],
)
def test_any_scope_is_a_path(api, path, scope):
    """All five kinds; an id may hold what separates parts, and nobody is taken for another."""
    made = api.client.put(f"{BUDGETS}/{path}", json={"daily_execution_limit": 3})
    assert (made.status_code, made.headers["location"]) == (201, f"{BUDGETS}/{scope.key}")
    assert list(api.stream.feed.decisions) == [scope.key]
    read = api.client.get(made.headers["location"]).json()
    assert (read["scope"], read["kind"], read["version"]) == (scope.key, scope.kind, 1)
    assert read["budget"]["daily_execution_limit"] == 3  # and not, say, its explanation
    explained = api.client.get(f"{made.headers['location']}/explain").json()
    assert (explained["scope"], "budget" in explained) == (scope.key, False)


@pytest.mark.parametrize(
    "path",
    [
        "acme",
        "organization:",
        "team:search",
        "team:search/organization:acme",
        "organization:acme/",
        "organization:acme//team:x",
        "organization:acme/user:u/team:t",
        "organization:acme/team:t/agent:a",
        "organization:acme/organization:acme",
        "organization:acme/planet:x",
        "organization:acme/team:%FF",
        f"organization:{'x' * 257}",
    ],
)
def test_a_path_that_is_no_scope_is_told(api, assert_problem, path):
    """With what to write instead; for reads and writes."""
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        problem = assert_problem(
            api.client.request(method, f"{BUDGETS}/{path}"), 422, "invalid-request"
        )
        assert problem["errors"][0]["location"] == "path.scope"


def test_without_a_budget_there_is_nothing(api, assert_problem):
    """Usage alone is no budget."""
    spend(api, "1")
    assert_problem(api.client.get(SEARCH), 404, "not-found")
    assert_problem(api.client.delete(SEARCH), 404, "not-found")


def test_put_sets_the_whole_budget(api):
    """What is not named is as by default; the first is new, the second is not."""
    first = api.client.put(SEARCH, json={"daily_token_limit": 5, "enforcement_mode": "soft"})
    assert (first.status_code, first.headers["etag"]) == (201, '"1"')
    second = api.client.put(SEARCH, json={"monthly_budget_usd": "0.000000001"})
    assert (second.status_code, second.headers["etag"]) == (200, '"2"')
    assert "location" not in second.headers
    assert second.json()["budget"] == NO_LIMITS | DEFAULTS | {"monthly_budget_usd": "0.000000001"}
    known = api.stream.feed.decisions["organization:acme/team:search"].decision.budget
    assert known == Budget(monthly_budget_usd=Decimal("0.000000001"))


def test_what_is_read_can_be_put_back(api):
    """`budget` of an answer is the body of a PUT, and changes nothing but the version."""
    api.client.put(SEARCH, json={"daily_budget_usd": "0.1", "warning_threshold": 0.333333})
    read = api.client.get(SEARCH).json()
    written = api.client.put(SEARCH, json=read["budget"]).json()
    assert (written["budget"], written["version"]) == (read["budget"], 2)


def test_patch_changes_what_it_names(api):
    """A limit of null is taken away, anything else of null is as by default; or it makes one."""
    first = api.client.patch(SEARCH, json={"daily_token_limit": 5, "warning_threshold": "0.5"})
    assert first.status_code == 201
    second = api.client.patch(SEARCH, json={"daily_token_limit": None, "daily_budget_usd": 2})
    assert (second.status_code, second.headers["etag"]) == (200, '"2"')
    assert second.json()["budget"] == NO_LIMITS | DEFAULTS | {
        "daily_budget_usd": "2.00",
        "warning_threshold": "0.50",
    }
    third = api.client.patch(SEARCH, json={"warning_threshold": None, "on_stale": "block"})
    assert third.json()["budget"] == NO_LIMITS | DEFAULTS | {
        "daily_budget_usd": "2.00",
        "on_stale": "block",
    }


def test_delete_leaves_nothing_behind(api, assert_problem):
    """The decision goes too; a budget made after it has a version of its own, and is new."""
    api.client.put(SEARCH, json={})
    response = api.client.delete(SEARCH)
    assert (response.status_code, response.content) == (204, b"")
    assert api.stream.feed.decisions == {}
    assert_problem(api.client.get(SEARCH), 404, "not-found")
    again = api.client.put(SEARCH, json={})
    assert (again.status_code, again.json()["version"]) == (201, 3)


def test_amounts_keep_every_digit(api):
    """Numbers are read as decimals: a float would lose the last ones."""
    response = api.client.put(SEARCH, content=b'{"monthly_budget_usd": 123456789.123456789}')
    assert response.json()["budget"]["monthly_budget_usd"] == "123456789.123456789"
    assert response.json()["windows"]["month"]["remaining"]["cost_usd"] == "123456789.123456789"


def test_a_limit_below_what_is_used_is_accepted_and_said(api):
    """Each such limit by its name, with what is used; one that is just reached is not below."""
    spend(api, "2.5", input_tokens=10, output_tokens=5)
    made = api.client.put(SEARCH, json={"monthly_budget_usd": 100})
    assert made.json()["warnings"] == []
    body = {
        "monthly_budget_usd": 1,
        "daily_budget_usd": "2.5",
        "daily_token_limit": 14,
        "monthly_input_token_limit": 9,
        "monthly_execution_limit": 0,
    }
    lowered = api.client.patch(SEARCH, json=body)
    assert (lowered.status_code, lowered.json()["state"]) == (200, "exceeded")
    assert [
        (each["field"], each["limit"], each["used"]) for each in lowered.json()["warnings"]
    ] == [
        ("monthly_budget_usd", "1.00", "2.50"),
        ("monthly_execution_limit", "0", "1"),
        ("daily_token_limit", "14", "15"),
        ("monthly_input_token_limit", "9", "10"),
    ]
    says = "monthly_budget_usd is 1.00, and the month has used 2.50 already"
    assert lowered.json()["warnings"][0]["message"] == says
    assert lowered.json()["windows"]["month"]["remaining"]["cost_usd"] == "-1.50"
    assert all(each["field"] in lowered.json()["budget"] for each in lowered.json()["warnings"])


def test_windows_are_those_of_now(api):
    """A new day has used nothing, also where no decision was published since."""
    api.client.put(SEARCH, json={"daily_budget_usd": 1})
    spend(api, "1")
    assert api.client.get(SEARCH).json()["state"] == "exceeded"
    api.stream.stall()
    api.stream.clock.advance(hours=12)
    body = api.client.get(SEARCH).json()
    assert (body["state"], body["stale"]) == ("ok", True)
    assert body["windows"]["day"]["start"] == "2026-11-22T00:00:00Z"
    assert api.client.get(SEARCH).headers["outlay-stale"] == "true"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    ("body", "location", "says"),
    [
        (b"", "body", ""),
        (b"[]", "body", ""),
        (b'{"monthly_budget_usd": -0.01}', "body.monthly_budget_usd", "negative"),
        (b'{"monthly_budget_usd": 1e400}', "body.monthly_budget_usd", "billion|below"),
        (b'{"monthly_budget_usd": NaN}', "body", "NaN"),
        (b'{"monthly_budget_usd": 1e-9999999999999999999}', "body", "out of range"),
        (b'{"\\ud800": 1}', "body", ""),
        (b'{"daily_execution_limit": -1}', "body.daily_execution_limit", ""),
        (b'{"daily_execution_limit": 1.5}', "body.daily_execution_limit", ""),
        (b'{"daily_token_limit": 1000000000000001}', "body.daily_token_limit", ""),
        (b'{"warning_threshold": 0}', "body.warning_threshold", "above 0"),
        (b'{"degradation_threshold": 1.1}', "body.degradation_threshold", "at most 1"),
        (b'{"enforcement_mode": "maybe"}', "body.enforcement_mode", ""),
        (b'{"on_stale": "guess"}', "body.on_stale", ""),
        (b'{"alerts": []}', "body.alerts", ""),
        (b'{"timezone": "Europe/Berlin"}', "body.timezone", "must be UTC"),
        (b'{"timezone": "utc"}', "body.timezone", "must be UTC"),
        (b'{"timezone": null}', "body.timezone", "must be UTC"),
    ],
)
def test_a_body_that_cannot_be_is_refused(api, assert_problem, method, body, location, says):
    """It names the part, and asks nobody; another timezone is never accepted and ignored."""
    response = api.client.request(method, SEARCH, content=body)
    problem = assert_problem(response, 422, "invalid-request")
    assert [error["location"] for error in problem["errors"]] == [location]
    assert any(word in problem["errors"][0]["message"] for word in says.split("|"))
    assert api.stream.feed.state.outcomes == {}


def test_thresholds_out_of_order_are_refused(api, assert_problem):
    """Of a PUT here, of a PATCH by the owner, who knows the other one."""
    body = {"warning_threshold": 0.95}
    problem = assert_problem(api.client.put(SEARCH, json=body), 422, "invalid-request")
    assert "warning_threshold must not be above degradation_threshold" in problem["detail"]
    api.client.put(SEARCH, json={})
    problem = assert_problem(api.client.patch(SEARCH, json=body), 422, "budget-refused")
    assert problem["version"] == version_of(api.stream) == 1


def test_utc_is_accepted_and_is_no_change_by_itself(api, assert_problem):
    """What is answered can be sent back; a PATCH of nothing else would change nothing."""
    assert api.client.put(SEARCH, json={"timezone": "UTC"}).status_code == 201
    for body in ({}, {"timezone": "UTC"}):
        assert_problem(api.client.patch(SEARCH, json=body), 422, "invalid-request")
    assert version_of(api.stream) == 1


def test_a_body_over_its_bound_is_refused(api, assert_problem):
    """Before it is read to its end."""
    assert_problem(api.client.put(SEARCH, content=b" " * 65_537), 413, "body-too-large")


# -- who may


def test_the_budget_of_another_organization_is_not_there(api, assert_problem):
    """The same answer as for what does not exist, whatever is asked, and nothing is changed."""
    api.client.put(f"{BUDGETS}/organization:other", json={"daily_token_limit": 1})
    api.be(OPERATOR)
    for name in ("other", "nobody"):
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            url = f"{BUDGETS}/organization:{name}"
            response = api.client.request(method, url, json={"daily_token_limit": 2})
            problem = assert_problem(response, 404, "not-found")
            assert problem["detail"] == f"there is no {url}"
    left = api.stream.feed.decisions
    assert {key: known.decision.version for key, known in left.items()} == {"organization:other": 1}
    assert api.client.put(ACME, json={}).status_code == 201


def test_who_only_views_changes_nothing(api, assert_problem):
    """An operator may do both."""
    api.client.put(ACME, json={})
    api.be(Caller("eyes", "acme", frozenset({"viewer"})))
    assert api.client.get(ACME).status_code == 200
    for method in ("PUT", "PATCH", "DELETE"):
        assert_problem(api.client.request(method, ACME, json={}), 403, "forbidden")
    api.be(OPERATOR)
    assert api.client.get(ACME).status_code == 200
    assert api.client.delete(ACME).status_code == 204


def test_who_asked_is_in_the_request(api, monkeypatch):
    """By the name of the key, for the audit."""
    asked, ask = [], api.stream._broker.ask
    monkeypatch.setattr(
        api.stream._broker, "ask", lambda value: (asked.append(decode_request(value)), ask(value))
    )
    api.be(OPERATOR)
    for method in ("PUT", "PATCH", "DELETE"):
        response = api.client.request(method, ACME, json={"daily_token_limit": 1})
        assert response.status_code in (200, 201, 204)
    assert [(each.action, each.requested_by) for each in asked] == [
        ("put", "ops"),
        ("patch", "ops"),
        ("delete", "ops"),
    ]


# -- the feed


def test_a_version_is_waited_for(api, assert_problem, monkeypatch):
    """Until it is there, or any later one, and within a bound."""
    api.client.put(ACME, json={})
    api.client.put(ACME, json={})
    for version in (1, 2):
        response = api.client.get(ACME, params={"min_version": version})
        assert response.json()["version"] == 2
    waited = []

    async def nothing(look, timeout_s):
        waited.append(timeout_s)
        raise TimeoutError

    async def another(look, timeout_s):
        waited.append(timeout_s)
        monkeypatch.undo()
        assert look() is None
        api.stream.budgets.put("organization:acme", Budget())
        return look()

    monkeypatch.setattr(api.stream.feed, "await_until", nothing)
    response = api.client.get(ACME, params={"min_version": 3})
    problem = assert_problem(response, 503, "version-not-seen")
    assert problem["detail"] == "version 3 was not seen within 5 s"
    monkeypatch.setattr(api.stream.feed, "await_until", another)
    assert api.client.get(ACME, params={"min_version": 3}).json()["version"] == 3
    assert waited == [budget_resources.MIN_VERSION_WAIT_S] * 2
    for version in ("0", "-1", "x", "1" * 30):
        response = api.client.get(ACME, params={"min_version": version})
        assert_problem(response, 422, "invalid-request")


def test_a_broker_that_is_away_is_said_in_time(api, assert_problem):
    """Reads go on from what is known; a write says that it could not be sent, with its id."""
    api.client.put(ACME, json={})
    api.stream.broker_away = True
    assert api.client.get(ACME).status_code == 200
    problem = assert_problem(api.client.put(ACME, json={}), 503, "budget-timeout")
    assert problem["budget_request_id"]
    api.stream.broker_away = False
    assert api.client.put(ACME, json={}).json()["version"] == 2


def test_before_the_feed_has_caught_up_nobody_knows(assert_problem):
    """Not 404, which would be an invented answer."""
    with InMemoryStream(NOON, broker_away=True) as stream, serving(stream) as api:
        for method, url in (
            ("GET", ACME),
            ("GET", f"{ACME}?min_version=1"),
            ("GET", BUDGETS),
            ("PUT", ACME),
            ("DELETE", ACME),
        ):
            response = api.client.request(method, url, content=b"{}")
            assert_problem(response, 503, "feed-unavailable")
        response = api.client.put(ACME, content=b"{}", headers={"If-Match": "*"})
        assert_problem(response, 503, "feed-unavailable")  # and not 412


def test_an_id_may_hold_line_feeds(api):
    """By the scope's path and by the agent's, with what stands behind it."""
    path, agent = f"{ACME}/agent:a%0Ab%0A", "/api/v1/external-agents/a%0Ab%0A"
    assert api.client.put(path, json={"daily_token_limit": 5}).status_code == 201
    assert api.client.get(path).json()["agent_id"] == "a\nb\n"
    assert api.client.get(f"{path}/explain").json()["scope"].endswith("agent:a%0Ab%0A")
    status = api.client.get(f"{agent}/budget?organization_id=acme").json()
    assert (status["external_agent_id"], status["tokens_limit"]) == ("a\nb\n", 5)
    assert api.client.delete(path).status_code == 204
