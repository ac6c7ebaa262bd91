"""The whole OpenAPI document, fuzzed with the keys of two tenants: it keeps to it, and leaks none.

Every generated request is sent four times with a tenant's key: as it is, about the tenant's own
budgets, about the other's, and about those of an organization that does not exist. The stream of
decisions never ends, and is asked for by itself.
"""

import asyncio

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api import budget_resources
from api.app import create_app
from api.problems import STATUS, TYPE_PREFIX
from outlay.budget import Budget
from schemas.settings import Settings
from tests.api.fakes import FakeBudgets, FakeFeed, FakeHistory
from tests.api.live_api import TIMEOUT_S, EventClient
from tests.api.two_tenants import Tenant, two_tenants

BASE = "http://outlay.example"
STREAM = "GET /api/v1/decisions/stream"
EXAMPLES = 6  # of each operation and mode
SCOPES = 5
NOBODY = "n6w0sdcp8y"
URL_LENGTH_MAX = 60_000  # the client itself refuses longer ones
MONTH = {"from": "2026-11-01", "to": "2026-12-01"}
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
REQUEST_ID = {"X-Request-ID": "fuzz"}  # so that answers can be compared

CONFORMS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]


def _document():
    feed = FakeFeed()
    app = create_app(Settings(), feed=feed, budgets=FakeBudgets(feed), history=FakeHistory())
    return app.openapi()


load_all_checks()
DOCUMENT = _document()
OPERATIONS = {
    found.ok().label: found.ok()
    for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
}
VALID, INVALID = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE


def _cases():
    for label, operation in sorted(OPERATIONS.items()):
        if label == STREAM:
            continue
        yield pytest.param(label, VALID, id=f"{label}-valid")
        # Where there is nothing to fill in, nothing can be wrong.
        if operation.body or operation.query or operation.headers or operation.path_parameters:
            yield pytest.param(label, INVALID, id=f"{label}-invalid")


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The app of two tenants; a version that does not come is not waited for."""
    monkeypatch.setattr(budget_resources, "MIN_VERSION_WAIT_S", 0.01)
    with two_tenants(tmp_path) as made:
        yield made


def _send(world, key, case, url=None):
    options = case.as_transport_kwargs(BASE)
    if url is not None:
        options["url"] = url
    made = requests.Request(**options).prepare()
    assume(len(made.url) < URL_LENGTH_MAX)
    headers = {**made.headers, "Authorization": f"Bearer {key}", **REQUEST_ID}
    sent = [(_bytes(name), _bytes(value)) for name, value in headers.items()]
    return world.client.request(made.method, made.url, content=made.body, headers=sent)


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _aimed_at(case, tenant, which):
    """The request about a scope of a tenant, wherever it can say so; and its URL."""
    operation, scope = case.operation, tenant.scopes[which]
    query = {parameter.name for parameter in operation.query}
    headers = {parameter.name for parameter in operation.headers}
    named = {"organization_id": tenant.organization, "scope": scope.key, **MONTH}
    aimed = {name: value for name, value in named.items() if name in query}
    changed = {"query": {**_members(case.query), **aimed}}
    if "x-outlay-organization" in headers:
        names = {"x-outlay-organization": tenant.organization, "x-outlay-agent": tenant.agent}
        changed["headers"] = {**_members(case.headers), **names}
    if operation.body:
        changed["body"] = _of_tenant(case.body, tenant, operation.path)
    path = operation.path.replace("{scope}", scope.key)
    path = path.replace("{external_agent_id}", tenant.agent).replace("{original_path}", "v1/chat")
    made = operation.Case(
        method=case.method,
        path_parameters=case.path_parameters,
        media_type=case.media_type,
        **{"headers": case.headers, "cookies": case.cookies, "body": case.body, **changed},
    )
    return made, BASE + path


def _members(found):
    return dict(found) if isinstance(found, dict) else {}


def _of_tenant(body, tenant, path):
    names = {"organization_id": tenant.organization, "agent_id": tenant.agent}
    if isinstance(body, list):
        return [_of_tenant(each, tenant, path) for each in body]
    if not isinstance(body, dict):
        return body
    if "{scope}" in path or "/config" in path:
        return body
    data = {"data": body["data"] | names} if isinstance(body.get("data"), dict) else {}
    return body | names | data


def _told(response):
    """All that an answer says, headers included."""
    return f"{response.status_code}\n{response.headers.multi_items()}\n{response.text}"


def _assert_sound(case, response):
    """It keeps to the document; if it is an error, to the one shape of those."""
    case.validate_response(response, checks=CONFORMS)
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert {"type", "title", "status", "detail", "instance"} <= set(body)
    assert body["type"].startswith(TYPE_PREFIX)
    assert STATUS[body["type"].removeprefix(TYPE_PREFIX)] == body["status"] == response.status_code
    if response.status_code >= 500:
        assert response.status_code == 503, body
        assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize(("label", "mode"), list(_cases()))
def test_no_request_breaks_it_or_finds_another_tenant(world, label, mode):
    """As documented, no 5xx but 503, and what is another's is as what is not there."""

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # to shrink takes minutes, and the request is small enough
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=OPERATIONS[label].as_strategy(mode),
        which=st.integers(0, SCOPES - 1),
        turned=st.booleans(),
    )
    def fuzz(case, which, turned):
        own, other = world.tenants[::-1] if turned else world.tenants
        nobody = Tenant(other.organization.partition("-")[0], NOBODY, 0)
        response = _send(world, own.key, case)
        _assert_sound(case, response)
        assert not other.told_in(_told(response))
        aimed, url = _aimed_at(case, own, which)
        response = _send(world, own.key, aimed, url)
        _assert_sound(aimed, response)
        assert not other.told_in(_told(response))
        answers = []
        for tenant in (other, nobody):
            aimed, url = _aimed_at(case, tenant, which)
            answers.append(_send(world, own.key, aimed, url))
            _assert_sound(aimed, answers[-1])
        if not label.endswith("/metrics"):  # it counts the requests between
            assert _told(answers[0]).replace(other.mark, NOBODY) == _told(answers[1])
        assert str(other.number) not in _told(answers[0])

    fuzz()


def _requests(tenant):
    """Requests that name a tenant: method, path, and options of the client."""
    organization, agent = tenant.organization, tenant.agent
    budgets = [f"/api/v1/budgets/{scope.key}" for scope in tenant.scopes]
    own = f"organization_id={organization}"
    of_agent = f"/api/v1/external-agents/{agent}"
    record = {"organization_id": organization, "agent_id": agent, "cost_usd": "0.01"}
    limits = {"daily_execution_limit": 5}
    yield from (("GET", path, {}) for path in budgets)
    yield from (("GET", f"{path}/explain", {}) for path in budgets)
    for n, path in enumerate(f"{budget}/alerts" for budget in budgets):
        yield "GET", f"{path}?min_version=1", {}
        yield "PUT", path, {"json": {"cooldown_minutes": 5}}
        yield "PUT", path, {"json": {"webhook_secrets": []}, "headers": {"If-Match": '"99"'}}
        yield "POST", f"{path}/test", {"headers": {"Idempotency-Key": f"try-{n}"}}
        yield "DELETE", path, {}
    for scope in tenant.scopes:
        yield "GET", f"/api/v1/alerts?scope={scope.key}", {}
        yield "GET", f"/api/v1/alerts/deliveries?scope={scope.key}", {}
    for n, path in enumerate(budgets):
        yield "GET", f"{path}?min_version=1", {}
        yield "PUT", path, {"json": limits}
        yield "PUT", path, {"json": limits, "headers": {"If-None-Match": "*"}}
        yield "PATCH", path, {"json": limits, "headers": {"Idempotency-Key": f"once-{n}"}}
        yield "DELETE", path, {"headers": {"If-Match": '"99"'}}
        yield "DELETE", path, {}
    for scope in tenant.scopes:
        yield "GET", f"/api/v1/audit?scope={scope.key}", {}
    for path in ("alerts", "alerts/deliveries"):
        yield "GET", f"/api/v1/{path}?{own}", {}
    for path in ("budgets", "audit", "reports/spend?from=2026-11-01&to=2026-12-01"):
        yield "GET", f"/api/v1/{path}{'&' if '?' in path else '?'}{own}", {}
    yield "GET", f"{of_agent}/budget?{own}", {}
    yield "GET", f"{of_agent}/governance-status?{own}", {}
    yield "PATCH", f"{of_agent}/budget/config?{own}", {"json": limits}
    yield "POST", f"{of_agent}/check?{own}", {"json": {"team_id": tenant.team}}
    yield "POST", "/api/v1/check", {"json": {"organization_id": organization, "agent_id": agent}}
    yield "POST", "/api/v1/usage", {"json": record}
    yield "POST", "/api/v1/usage", {"json": [record], "headers": {"Idempotency-Key": "again"}}
    names = {"x-outlay-organization": organization, "x-outlay-agent": agent}
    yield "GET", "/api/v1/ext_authz/v1/chat", {"headers": names}


def test_another_tenant_is_as_one_that_does_not_exist(world):
    """The answers are equal but for the name; and whoever owns it is answered otherwise."""
    own, other = world.tenants
    nobody = Tenant("globex", NOBODY, 0)
    for of_other, of_nobody in zip(_requests(other), _requests(nobody), strict=True):
        before = dict(world.stream.feed.decisions)
        answer, of_none = (_ask(world, own.key, *each) for each in (of_other, of_nobody))
        assert _told(answer).replace(other.mark, NOBODY) == _told(of_none), of_other
        # Of records, each has an error of its own.
        assert answer.status_code == (422 if "/usage" in of_other[1] else 404), of_other
        assert str(other.number) not in _told(answer), of_other
        assert dict(world.stream.feed.decisions) == before, of_other
        answer = _ask(world, other.key, *of_other)
        assert answer.is_success or answer.status_code == 412, of_other


def _ask(world, key, method, path, options):
    headers = options.get("headers", {}) | {"Authorization": f"Bearer {key}"} | REQUEST_ID
    return world.client.request(method, path, **(options | {"headers": headers}))


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/budgets",
        "/api/v1/audit",
        "/api/v1/alerts",
        "/api/v1/alerts/deliveries",
        "/api/v1/reports/spend?from=2026-11-01&to=2026-12-01",
    ],
)
def test_lists_hold_what_is_the_keys_own(world, path):
    """All of it, and nothing of the other tenant's, whoever of the two asks."""
    for own, other in (world.tenants, world.tenants[::-1]):
        told = _told(_ask(world, own.key, "GET", path, {}))
        assert own.told_in(told)
        assert not other.told_in(told)


def test_what_needs_no_key_names_no_tenant(world):
    """Not even after both have asked for what is theirs."""
    for tenant in world.tenants:
        for request in _requests(tenant):
            _ask(world, tenant.key, *request)
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"):
        answer = world.client.get(path)
        assert answer.status_code == 200
        assert not any(tenant.told_in(_told(answer)) for tenant in world.tenants), path


def test_methods_that_are_not_documented(world):
    """Are refused by a problem that says which there are."""
    own, other = world.tenants
    for path, operations in DOCUMENT["paths"].items():
        if path.endswith(("/explain", "}/alerts", "}/alerts/test", "/{original_path}")):
            continue  # the first could be the path of a scope, and the second takes any method
        url = path.replace("{scope}", own.scopes[1].key)
        for method in sorted(METHODS - {name.upper() for name in operations}):
            answer = _ask(world, own.key, method, url, {})
            assert (answer.status_code, answer.json()["status"]) == (405, 405), (method, path)
            assert answer.headers["allow"]
            assert answer.headers["content-type"] == "application/problem+json"
            assert not other.told_in(_told(answer))


def _stream(world, key, query=""):
    headers = ((b"authorization", f"Bearer {key}".encode()), (b"x-request-id", b"fuzz"))
    return EventClient(world.app, query, headers)


def test_a_stream_tells_of_the_keys_own_budgets(world):
    """Those there are, changes and deletions; of the other tenant none of them."""
    own, other = world.tenants

    async def listen():
        async with _stream(world, own.key) as client:
            seen = []
            while not seen or seen[-1][0] != "synced":
                seen.append(await client.event())
                assert not other.told_in(str(client.data))
            for tenant in (other, own):
                world.stream.budgets.put(tenant.scopes[1], Budget(daily_execution_limit=3))
                world.stream.budgets.delete(tenant.scopes[2])
            later = [await client.event() for _ in range(2)]
            assert not other.told_in(str(client.headers))
            return seen, later

    seen, later = _on_app(world, listen)
    assert {key for name, key in seen if name == "decision"} == {each.key for each in own.scopes}
    assert set(later) == {("decision", own.scopes[1].key), ("deleted", own.scopes[2].key)}


@pytest.mark.parametrize("query", ["organization_id={0}", "scope={1}", "scope={2}"])
def test_a_stream_of_another_tenant_is_as_one_of_nobody(world, query):
    """Refused at once, and alike but for the name."""
    own, other = world.tenants
    told = []

    async def ask():
        for tenant in (other, Tenant("globex", NOBODY, 0)):
            names = tenant.organization, *[scope.key for scope in tenant.scopes]
            async with _stream(world, own.key, query.format(*names)) as client:
                await client.ended()
                told.append((client.status, str(client.headers)))

    _on_app(world, ask)
    assert told[0][0] == 404
    assert told[0] == told[1]


def _on_app(world, scenario):
    """Run it in the loop that the app runs in, within a bound."""

    async def bounded():
        async with asyncio.timeout(TIMEOUT_S):
            return await scenario()

    return world.client.portal.call(bounded)
