"""A budget explained over HTTP: its numbers, its rule, and what it has been through."""

from decimal import Decimal

import pytest

from api import transitions
from api.transitions import Transitions
from outlay import Budget, Scope
from outlay.testing import InMemoryStream
from tests.api.fakes import NOW
from tests.api.live_api import key_of, live_api

A1 = Scope("acme", agent_id="a/1")
URL = "/api/v1/budgets/organization:acme/agent:a%2F1/explain"


@pytest.fixture
def api():
    """The app over an in-memory stream, at noon of 2026-11-21."""
    with live_api() as made:
        yield made


def spend(stream, cost_usd, **fields):
    """Usage of the agent, decided on at once."""
    fields = {"organization_id": "acme", "agent_id": "a/1", "cost_usd": cost_usd} | fields
    assert stream.emitter.emit(**fields)


def test_the_numbers(api):
    """All there is to a budget: windows, limits, amounts, offsets, version and age."""
    limits = Budget(monthly_budget_usd=Decimal(10), daily_execution_limit=3)
    api.stream.budgets.put(A1, limits)
    api.stream.budgets.put(A1, limits)
    spend(api.stream, "7.6", input_tokens=5, output_tokens=2)
    api.stream.clock.advance(seconds=3)
    body = api.client.get(URL).json()
    windows = body.pop("windows")
    assert body == {
        "scope": A1.key,
        "kind": "agent",
        "organization_id": "acme",
        "version": 2,
        "state": "warning",
        "enforcement_mode": "hard",
        "on_stale": "allow",
        "at": "2026-11-21T12:00:03Z",
        "published_at": "2026-11-21T12:00:00Z",
        "stale": False,
        "age_s": 0,
        "rule": {
            "allowed": True,
            "degraded": False,
            "decided_by": "share",
            "window": "2026-11",
            "limit_kind": "cost",
            "sentence": "warning: 76.00% of USD in 2026-11 are used",
        },
        "transitions": [
            {
                "at": "2026-11-21T12:00:00Z",
                "from_state": "ok",
                "to_state": "warning",
                "version": 2,
                "offsets": {"2026-11": windows[1]["offsets"], "2026-11-21": windows[0]["offsets"]},
            }
        ],
        "transitions_since": "2026-11-21T12:00:00Z",
    }
    used = {"cost_usd": "7.60", "executions": 1, "input_tokens": 5, "output_tokens": 2}
    day, month = windows
    (offset,) = month["offsets"].values()
    assert offset == 0
    assert day["offsets"] == month["offsets"]
    assert (day["window"], day["kind"], day["resets_at"], day["used"]) == (
        "2026-11-21",
        "day",
        "2026-11-22T00:00:00Z",
        used,
    )
    assert (month["window"], month["resets_at"]) == ("2026-11", "2026-12-01T00:00:00Z")
    assert day["limits"] == [
        {
            "kind": "executions",
            "limit": 3,
            "used": 1,
            "asked": 0,
            "remaining": 2,
            "used_share": "0.333333",
            "fits": True,
        }
    ]
    (cost,) = month["limits"]
    assert (cost["limit"], cost["used"], cost["remaining"]) == ("10.00", "7.60", "2.40")


@pytest.mark.parametrize(
    ("budget", "asked", "rule"),
    [
        (Budget(), {}, ("none", True, None, "the budget has no limits")),
        (
            Budget(monthly_budget_usd=Decimal(2)),
            {"estimated_cost_usd": "1.01"},
            ("limit", False, "cost", "monthly budget exceeded: $1.00 used + $1.01 asked"),
        ),
        (
            Budget(daily_execution_limit=1, enforcement_mode="soft"),
            {"executions": 1},
            ("limit", True, "executions", "1 used + 1 asked > 1 limit; the budget is soft"),
        ),
        (
            Budget(monthly_budget_usd=Decimal(2), daily_token_limit=9),
            {"estimated_input_tokens": 3, "estimated_output_tokens": 4},
            ("limit", False, "tokens", "daily token limit exceeded: 3 used + 7 asked > 9 limit"),
        ),
    ],
)
def test_the_rule_decides_of_what_is_asked(api, budget, asked, rule):
    """As it does in a check: which limit, and the sentence."""
    api.stream.budgets.put(A1, budget)
    spend(api.stream, "1", input_tokens=3)
    told = api.client.get(URL, params=asked).json()["rule"]
    assert (told["decided_by"], told["allowed"], told["limit_kind"]) == rule[:3]
    assert rule[3] in told["sentence"]


def test_totals_beyond_any_limit_are_told(api):
    """What remains goes below what an amount may be, and a share above what fits a float."""
    api.stream.budgets.put(A1, Budget(monthly_budget_usd=Decimal("0.000000001")))
    for _ in range(2):
        spend(api.stream, "999999999")
    (cost,) = api.client.get(URL).json()["windows"][1]["limits"]
    assert cost["remaining"] == "-1999999997.999999999"
    assert cost["used_share"] == "1999999998000000000.000000"


def test_a_silent_feed_shows(api):
    """Its age, and that a budget blocks for it."""
    api.stream.budgets.put(A1, Budget(monthly_budget_usd=1, on_stale="block"))
    api.stream.stall()
    api.stream.clock.advance(minutes=1)
    response = api.client.get(URL)
    body = response.json()
    assert (body["stale"], body["age_s"], response.headers["outlay-stale"]) == (True, 60, "true")
    assert (body["rule"]["decided_by"], body["rule"]["allowed"]) == ("stale", False)


def test_transitions_are_the_last_ones_newest_first(api):
    """With the times of their decisions; a refresh without another state is none."""
    api.stream.budgets.put(A1, Budget(monthly_budget_usd=Decimal(10)))
    for cost in ("1", "7", "1.5", "0.5"):
        api.stream.clock.advance(minutes=1)
        spend(api.stream, cost)
    api.stream.clock.advance(minutes=1)
    api.stream.budgets.patch(A1, {"monthly_budget_usd": 1000})
    told = api.client.get(URL).json()["transitions"]
    assert [(each["from_state"], each["to_state"], each["version"]) for each in told] == [
        ("exceeded", "ok", 2),
        ("degraded", "exceeded", 1),
        ("warning", "degraded", 1),
        ("ok", "warning", 1),
    ]
    assert [each["at"][11:19] for each in told] == ["12:05:00", "12:04:00", "12:03:00", "12:02:00"]
    contained = [sum(each["offsets"]["2026-11"].values()) for each in told]
    assert contained == sorted(contained, reverse=True)
    assert len(set(contained)) == 3  # the last came by a change of the limit


def test_transitions_have_bounds(monkeypatch):
    """Of each scope, and of scopes: those that changed last are kept."""
    monkeypatch.setattr(transitions, "SCOPES_MAX", 2)
    scopes = [Scope("acme", agent_id=name) for name in ("a1", "a2", "a3")]
    with InMemoryStream(NOW) as stream, Transitions(stream.feed, lambda: NOW) as seen:

        def flip(scope):
            stream.budgets.put(scope, Budget(daily_execution_limit=0))
            stream.budgets.put(scope, Budget(daily_execution_limit=1))

        for scope in scopes:
            flip(scope)
        flip(scopes[1])
        flip(scopes[0])
        assert [len(seen.of(scope.key)) for scope in scopes] == [2, 3, 0]
        for _ in range(transitions.TRANSITIONS_PER_SCOPE_MAX):
            flip(scopes[0])
        assert len(seen.of(scopes[0].key)) == transitions.TRANSITIONS_PER_SCOPE_MAX


def test_a_deleted_budget_leaves_nothing(api, assert_problem):
    """Neither an explanation nor what the one before it has been through."""
    api.stream.budgets.put(A1, Budget(daily_execution_limit=0))
    api.stream.budgets.put(A1, Budget(daily_execution_limit=1))
    assert api.client.get(URL).json()["transitions"]
    api.stream.budgets.delete(A1)
    assert_problem(api.client.get(URL.replace("%2F", "")), 404, "not-found")
    assert api.client.get(URL).status_code == 404
    api.stream.budgets.put(A1, Budget(daily_execution_limit=0))
    assert api.client.get(URL).json()["transitions"] == []


def test_what_was_before_the_app_is_not_a_transition():
    """A state that is seen for the first time has no other before it; the next change has."""
    with InMemoryStream(NOW) as stream:
        stream.budgets.put(A1, Budget(daily_execution_limit=0))
        with Transitions(stream.feed, lambda: NOW) as seen:
            assert seen.of(A1.key) == []
            stream.budgets.put(A1, Budget(daily_execution_limit=1))
            (only,) = seen.of(A1.key)
            assert (only.from_state, only.to_state) == ("exceeded", "ok")
        stream.budgets.put(A1, Budget(daily_execution_limit=0))
        assert len(seen.of(A1.key)) == 1


@pytest.mark.parametrize(
    "query",
    ["estimated_cost_usd=-1", "estimated_cost_usd=x", "executions=-1", "executions=1e3"],
)
def test_what_cannot_be_asked(api, assert_problem, query):
    """422, and which part."""
    api.stream.budgets.put(A1, Budget())
    problem = assert_problem(
        api.client.get("/api/v1/budgets/organization:acme/explain?" + query), 422, "invalid-request"
    )
    assert problem["errors"][0]["location"] == f"query.{query.partition('=')[0]}"


def test_other_organizations_and_no_feed(assert_problem):
    """Not found, and not known."""
    with live_api(key_of("acme", "viewer")) as api:
        api.stream.budgets.put(Scope("other"), Budget())
        path, sent = "/api/v1/budgets/organization:{}/explain", {"X-Request-ID": "same"}
        foreign, absent = (
            api.client.get(path.format(name), headers=sent) for name in ("other", "nobody")
        )
        assert_problem(foreign, 404, "not-found")
        assert foreign.text.replace("other", "nobody") == absent.text
        assert_problem(api.client.get("/api/v1/budgets/acme/explain"), 422, "invalid-request")
    with live_api(key_of("acme", "emitter")) as api:
        own = "/api/v1/budgets/organization:acme/explain"
        assert_problem(api.client.get(own), 403, "forbidden")
    with live_api(broker_away=True) as api:
        assert_problem(api.client.get(own), 503, "feed-unavailable")
