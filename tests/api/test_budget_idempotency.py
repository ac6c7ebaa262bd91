"""Writes of budgets under a client's key: asked again, they are carried out once."""

import pytest

from api.callers import Caller
from api.idempotency import RequestIds
from outlay import Budget
from outlay.decision import REQUEST_ID_LENGTH_MAX
from outlay.testing import InMemoryStream
from tests.api.budget_world import ACME, NOON, OPERATOR, SEARCH, serving, version_of

KEY = {"Idempotency-Key": "k1"}
SCOPE = "organization:acme/team:search"


@pytest.fixture
def api():
    with InMemoryStream(NOON) as stream, serving(stream) as api:
        yield api


def test_a_retry_raises_the_version_once(api):
    """Answered alike; without the key each one is a change of its own."""
    answers = [api.client.put(SEARCH, json={}, headers=KEY) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert len({answer.content for answer in answers}) == 1
    patched = [
        api.client.patch(SEARCH, json={"daily_token_limit": 1}, headers={"Idempotency-Key": "k2"})
        for _ in range(2)
    ]
    assert [answer.headers["etag"] for answer in patched] == ['"2"', '"2"']
    assert api.client.put(SEARCH, json={}).json()["version"] == 3


def test_a_change_by_the_agents_id_is_done_once(api, assert_problem):
    """Its id is in that of its request; as in all others, another change needs another key."""
    path = "/api/v1/external-agents/a1/budget/config?organization_id=acme"
    key, change = "organization:acme/agent:a1", {"daily_token_limit": 1}
    for _ in range(2):
        assert api.client.patch(path, json=change, headers=KEY).status_code == 200
        assert version_of(api.stream, key) == 1
    response = api.client.patch(path, json={"daily_token_limit": 2}, headers=KEY)
    assert_problem(response, 422, "idempotency-key-reused")
    api.client.patch(path, json=change, headers={"X-Request-ID": "mine"})
    decision = api.stream.feed.decisions[key].decision
    assert (decision.version, decision.request_id[:13]) == (2, "request-mine-")


def test_an_answer_that_was_lost_is_found_by_another_process(assert_problem):
    """The broker had the request, the process ended before its outcome: asked again, done once."""
    with InMemoryStream(NOON) as stream:
        with serving(stream) as first:
            stream.stall()
            response = first.client.put(SEARCH, json={}, headers=KEY)
            assert_problem(response, 503, "budget-timeout")
        stream.resume()
        with serving(stream) as second:
            response = second.client.put(SEARCH, json={}, headers=KEY)
            assert (response.status_code, response.json()["version"]) == (201, 1)
        assert version_of(stream) == 1


def test_a_deletion_is_done_once(api, assert_problem):
    """A retry is told that it was done, and leaves the budget that was made since alone."""
    api.client.put(SEARCH, json={})
    assert api.client.delete(SEARCH, headers=KEY).status_code == 204
    assert api.client.delete(SEARCH, headers=KEY).status_code == 204
    assert_problem(api.client.delete(SEARCH), 404, "not-found")
    api.client.put(SEARCH, json={"daily_token_limit": 5})
    assert api.client.delete(SEARCH, headers=KEY).status_code == 204
    assert version_of(api.stream) == 3


@pytest.mark.parametrize("match", ['"1"', '"9", "1"', "*"])
def test_a_condition_is_asked_again_alike(api, match):
    """The version that it expected is gone by then, and the retry still finds what it did."""
    api.client.put(SEARCH, json={})
    for _ in range(2):
        response = api.client.put(
            SEARCH, json={"daily_token_limit": 2}, headers=KEY | {"If-Match": match}
        )
        assert (response.status_code, response.json()["version"]) == (200, 2)
        assert version_of(api.stream) == 2


def test_a_retry_after_another_change_undoes_nothing(api):
    """It is answered with the budget as it is now."""
    api.client.put(SEARCH, json={"daily_token_limit": 1}, headers=KEY)
    api.client.put(SEARCH, json={"daily_token_limit": 2})
    response = api.client.put(SEARCH, json={"daily_token_limit": 1}, headers=KEY)
    assert (response.json()["version"], response.json()["budget"]["daily_token_limit"]) == (2, 2)


def test_a_key_is_for_one_change(api, assert_problem):
    """Another change under it is refused: to answer it with the first one's outcome would lie."""
    api.client.put(SEARCH, json={"daily_token_limit": 1}, headers=KEY)
    for method, body in (("PUT", {"daily_token_limit": 2}), ("PATCH", {"daily_token_limit": 1})):
        response = api.client.request(method, SEARCH, json=body, headers=KEY)
        assert_problem(response, 422, "idempotency-key-reused")
    assert_problem(api.client.delete(SEARCH, headers=KEY), 422, "idempotency-key-reused")
    same = api.client.put(SEARCH, content=b' {"daily_token_limit":1 }', headers=KEY)
    assert (same.status_code, version_of(api.stream)) == (201, 1)
    api.client.put(SEARCH, json={"daily_token_limit": 3})
    other = api.client.put(SEARCH, json={"daily_token_limit": 4}, headers=KEY)
    assert other.json()["budget"]["daily_token_limit"] == 4  # not answered with the first one's
    assert api.client.put(ACME, json={"daily_token_limit": 1}, headers=KEY).status_code == 201


def test_the_key_of_one_caller_is_not_that_of_another(api):
    """Two callers who choose the same key change the budget both."""
    api.be(OPERATOR)
    assert api.client.put(SEARCH, json={}, headers=KEY).json()["version"] == 1
    api.be(Caller("other", "acme", frozenset({"operator"})))
    assert api.client.put(SEARCH, json={}, headers=KEY).json()["version"] == 2


def test_ids_hold_all_that_tells_writes_apart():
    """Caller, its organization, the scope's, key, content, condition and attempt; in the bound."""
    caller = Caller("ops", "acme", frozenset())
    ids = {
        RequestIds.of(who, organization, key, content, condition).of_attempt(attempt)
        for who in (caller, Caller("ops", None, frozenset()), Caller("x", "acme", frozenset()))
        for organization in ("acme", "other")
        for key in ("a", "b" * 255)
        for content in (("put", {"x": 1}), ("put", {"x": 2}))
        for condition in (("free",), ("one_of", (1,)))
        for attempt in (0, 7)
    }
    assert len(ids) == 3 * 2 * 2 * 2 * 2 * 2
    assert max(map(len, ids)) <= REQUEST_ID_LENGTH_MAX


def test_without_a_key_each_write_is_one_of_its_own(api):
    """Its id in the audit leads to the request's log line, and is nobody's key."""
    sent = {"X-Request-ID": "r" * 80}
    ids = []
    for _ in range(2):
        api.client.put(SEARCH, json={}, headers=sent)
        ids.append(api.stream.feed.decisions[SCOPE].decision.request_id)
    assert len(set(ids)) == 2
    assert all(each.startswith(f"request-{'r' * 80}-") for each in ids)
    assert max(map(len, ids)) <= REQUEST_ID_LENGTH_MAX
    assert version_of(api.stream) == 2


@pytest.mark.parametrize("method", ["put", "patch"])
def test_a_retry_after_the_budget_was_deleted_is_told_so(api, assert_problem, method):
    """It was carried out, and is not carried out again; a new key makes the budget anew."""
    write = getattr(api.client, method)
    assert write(SEARCH, json={"daily_token_limit": 1}, headers=KEY).status_code == 201
    deleted = api.client.delete(SEARCH)
    assert (deleted.status_code, deleted.headers["outlay-version"]) == (204, "1")
    again = write(SEARCH, json={"daily_token_limit": 1}, headers=KEY)
    assert assert_problem(again, 409, "budget-deleted")["version"] == 1
    assert version_of(api.stream) == 0
    other = write(SEARCH, json={"daily_token_limit": 1}, headers={"Idempotency-Key": "k9"})
    assert (other.status_code, other.json()["version"]) == (201, 3)


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_out_of_its_bound_is_refused(api, assert_problem, key):
    """Never ignored: whoever sends one relies on it."""
    response = api.client.put(SEARCH, json={}, headers={"Idempotency-Key": key})
    problem = assert_problem(response, 422, "invalid-request")
    assert problem["errors"][0]["location"] == "header.Idempotency-Key"
    assert version_of(api.stream) == 0


def test_the_key_itself_does_not_leave_the_process(api):
    """On the topic, and in the decision, there is a hash of it."""
    api.client.put(SEARCH, json={}, headers={"Idempotency-Key": "order-of-jane"})
    decision = api.stream.feed.decisions[SCOPE].decision
    assert decision.request_id.startswith("api-")
    assert "jane" not in decision.request_id
    assert decision.budget == Budget()
