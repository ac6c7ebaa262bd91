"""Who is let in, to what of whom; what the others are told, and what nobody is."""

from types import SimpleNamespace
from typing import Annotated

import pytest
import structlog
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from api.app import create_app
from api.callers import ANYONE, Caller, needs
from outlay.apikey import ROLES, new_key
from outlay.keyfile import KeyFile
from schemas.settings import Settings
from tests.api.fakes import FakeBudgets, FakeFeed, FakeHistory

A1 = "/api/v1/external-agents/a1"
SPEND = "/api/v1/reports/spend"
RANGE = {"from": "2026-11-01", "to": "2026-12-01"}
CHANGE = {"monthly_budget_usd": 1}


def _patch(keyed, key, organization):
    params = {} if organization is None else {"organization_id": organization}
    return keyed.ask(key, f"{A1}/budget/config", "PATCH", params=params, json=CHANGE)


def test_without_a_key_nothing_is_told(keyed, assert_problem):
    """Not even what is wrong with the rest of the request; the scheme is named."""
    for path, method in (
        (f"{A1}/budget", "GET"),
        (f"{A1}/governance-status", "GET"),
        (f"{A1}/budget/config", "PATCH"),
        (SPEND, "GET"),
    ):
        answer = keyed.ask(None, path, method, content=b"{")
        assert_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == 'Bearer realm="outlay"'
    assert keyed.budgets.asked == keyed.history.asked == []


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"])
def test_what_shows_no_data_is_open(keyed, path):
    """To probes, to Prometheus, and to whoever reads the description."""
    assert keyed.ask(None, path).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer outlay_sk_short",
        "Basic b3V0bGF5OnNr",
        pytest.param(f"Bearer {new_key()}", id="unknown"),
        pytest.param(f"Basic {new_key()}", id="basic"),
        pytest.param(f"Bearer {new_key()} {new_key()}", id="two"),
    ],
)
def test_wrong_keys_are_refused(keyed, assert_problem, header):
    """All in the same words."""
    answer = keyed.ask(None, f"{A1}/budget", headers={"Authorization": header})
    problem = assert_problem(answer, 401, "unauthorized")
    assert problem["detail"] == "the key in the Authorization header is not in force"
    assert answer.headers["www-authenticate"] == 'Bearer realm="outlay", error="invalid_token"'


def test_the_scheme_is_read_in_any_case(keyed):
    """RFC 9110 says so."""
    key = keyed.key["acme", "viewer"]
    for header in (f"bearer {key}", f"BEARER  {key}"):
        answer = keyed.ask(None, f"{A1}/budget", headers={"Authorization": header})
        assert answer.status_code == 200


def test_a_revoked_key_is_refused_as_one_that_never_was(keyed, assert_problem):
    """Only the metric and the log tell them apart."""
    key = keyed.key["acme", "viewer"]
    assert keyed.ask(key, f"{A1}/budget").status_code == 200
    keyed.file.revoke("acme-viewer")
    keyed.app.state.authenticate._keys.check()
    with structlog.testing.capture_logs() as lines:
        revoked = assert_problem(keyed.ask(key, f"{A1}/budget"), 401, "unauthorized")
        unknown = assert_problem(keyed.ask(new_key(), f"{A1}/budget"), 401, "unauthorized")
    assert revoked == unknown
    assert [line["reason"] for line in lines if "reason" in line] == ["revoked", "unknown"]


@pytest.mark.parametrize(
    ("role", "reads", "changes"),
    [("viewer", 200, 403), ("emitter", 403, 403), ("operator", 200, 200), ("admin", 200, 200)],
)
def test_roles(keyed, assert_problem, role, reads, changes):
    """Who may not is told which role it takes, of what is its own."""
    key = keyed.key["acme", role]
    answers = [
        (keyed.ask(key, f"{A1}/budget"), reads, "viewer"),
        (keyed.ask(key, f"{A1}/governance-status"), reads, "viewer"),
        (keyed.ask(key, SPEND, params=RANGE), reads, "viewer"),
        (_patch(keyed, key, "acme"), changes, "operator"),
    ]
    for answer, status, needed in answers:
        if status == 403:
            assert f"needs the role {needed}" in assert_problem(answer, 403, "forbidden")["detail"]
        assert answer.status_code == status


@pytest.mark.parametrize("role", ROLES)
def test_another_organization_is_not_there(keyed, assert_problem, role):
    """Whether it exists or not, and whatever the role: the same 404 as of a path that is none."""
    key = keyed.key["acme", role]
    before = dict(keyed.feed.decisions)
    for path in (f"{A1}/budget", f"{A1}/governance-status", SPEND):
        said = []
        for organization in ("globex", "no-such-organization", "ACME", "acme "):
            params = RANGE | {"organization_id": organization}
            answer = keyed.ask(key, path, params=params)
            said.append(assert_problem(answer, 404, "not-found"))
        assert all(each == said[0] for each in said)
        assert said[0]["detail"] == f"there is no {path}"
    assert_problem(_patch(keyed, key, "globex"), 404, "not-found")
    nowhere = assert_problem(keyed.ask(key, "/api/v1/nowhere"), 404, "not-found")
    assert nowhere["detail"] == "there is no /api/v1/nowhere"
    assert keyed.feed.decisions == before
    assert keyed.budgets.asked == keyed.history.asked == []


def test_a_second_organization_in_the_query_is_not_smuggled_in(keyed, assert_problem):
    """Whichever of the two is read."""
    for pair in ("acme", "globex"), ("globex", "acme"):
        query = "&".join(f"organization_id={each}" for each in pair)
        answer = keyed.ask(keyed.key["acme", "admin"], f"{A1}/budget?{query}")
        assert_problem(answer, 404, "not-found")


def test_the_organization_of_a_key_is_its_default(keyed):
    """As users of the earlier systems ask; a report is never of more than the key's."""
    key = keyed.key["globex", "operator"]
    assert keyed.ask(key, f"{A1}/budget").json()["organization_id"] == "globex"
    assert keyed.ask(key, f"{A1}/governance-status").json()["organization_id"] == "globex"
    assert _patch(keyed, key, None).status_code == 200
    assert keyed.feed.decisions["organization:globex/agent:a1"].decision.budget.monthly_budget_usd
    assert not keyed.feed.decisions["organization:acme/agent:a1"].decision.budget.monthly_budget_usd
    assert keyed.ask(key, SPEND, params=RANGE).status_code == 200
    assert keyed.history.asked[-1].organization_id == "globex"


def test_a_key_for_all_sees_all_and_must_say_which(keyed, assert_problem):
    """A report may be of all."""
    key = keyed.key[None, "admin"]
    for organization in ("acme", "globex"):
        body = keyed.ask(key, f"{A1}/budget", params={"organization_id": organization}).json()
        assert body["organization_id"] == organization
    problem = assert_problem(keyed.ask(key, f"{A1}/budget"), 422, "invalid-request")
    assert problem["errors"][0]["location"] == "query.organization_id"
    assert keyed.ask(key, SPEND, params=RANGE).status_code == 200
    assert keyed.history.asked[-1].organization_id is None


def _scoped_app(caller):
    app = FastAPI()
    app.state.authenticate = lambda request: caller

    @app.get("/budgets/{scope:path}")
    async def get(scope: str, caller: Annotated[Caller, Depends(needs("operator"))]) -> str:
        return caller.name

    from api import problems

    problems.install(app)
    return TestClient(app)


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ("organization:acme", 403),
        ("organization:acme/team:x", 403),
        ("organization:globex", 404),
        ("organization:acme-2", 404),
        ("organization:globex/team:organization:acme", 404),
    ],
)
def test_of_a_path_with_a_scope_only_ones_own_is_forbidden(scope, status):
    """What is another's is not found before it is asked what the key may do."""
    viewer = Caller("v", "acme", frozenset({"viewer"}))
    assert _scoped_app(viewer).get(f"/budgets/{scope}").status_code == status


def test_every_role_grants_what_it_says():
    """And no more."""
    may = {
        role: {each for each in ROLES if Caller("c", "o", frozenset({role})).may(each)}
        for role in ROLES
    }
    assert may == {
        "viewer": {"viewer"},
        "emitter": {"emitter"},
        "operator": {"viewer", "operator"},
        "admin": set(ROLES),
    }
    assert not Caller("c", "o", frozenset()).may("viewer")
    both = Caller("c", "o", frozenset({"viewer", "emitter"}))
    assert both.may("viewer")
    assert both.may("emitter")
    assert not both.may("operator")


def test_a_missing_file_lets_nobody_in(tmp_path, assert_problem):
    """Until it has a key: it is not the same as no file being named."""
    feed = FakeFeed()
    file = KeyFile(tmp_path / "keys.json")
    settings = Settings(api_keys_file=str(file.path), api_host="0.0.0.0")
    app = create_app(settings, feed=feed, budgets=FakeBudgets(feed), history=FakeHistory())
    with structlog.testing.capture_logs() as lines, TestClient(app) as client:
        params = RANGE | {"organization_id": "acme"}
        assert_problem(client.get(SPEND, params=params), 401, "unauthorized")
        key = file.first_admin("admin")
        app.state.authenticate._keys.check()
        headers = {"Authorization": f"Bearer {key}"}
        assert client.get(SPEND, params=params, headers=headers).status_code == 200
    assert [line for line in lines if "no key is in force" in line["event"]]


def test_without_keys_everybody_may_do_everything(api):
    """On loopback alone, and for tests."""
    assert api.client.get(SPEND, params=RANGE).status_code == 200
    assert api.app.state.authenticate(None) is ANYONE
    assert api.app.state.authenticate.in_force(ANYONE)


def test_callers_know_when_their_key_is_revoked(keyed):
    """For streams, which outlive the moment of asking."""
    guard = keyed.app.state.authenticate
    key = keyed.key["acme", "viewer"]
    caller = guard(SimpleNamespace(headers={"Authorization": f"Bearer {key}"}, client=None))
    assert (caller.name, caller.organization_id) == ("acme-viewer", "acme")
    assert guard.in_force(caller)
    keyed.file.revoke("acme-viewer")
    guard._keys.check()
    assert not guard.in_force(caller)
    assert not guard.in_force(ANYONE)
