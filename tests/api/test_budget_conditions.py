"""Conditional writes of budgets: the scope's owner decides, and not a look from here."""

import pytest

from api.etags import TAGS_MAX, Condition, condition_of, etag
from api.problems import ProblemError
from outlay import Budget
from outlay.testing import InMemoryBudgets, InMemoryStream
from tests.api.budget_world import NOON, SEARCH, serving, version_of

SCOPE = "organization:acme/team:search"


@pytest.fixture
def api():
    with InMemoryStream(NOON) as stream, serving(stream) as api:
        yield api


def put(api, *, match=None, none_match=None, limit=1):
    headers = {"If-Match": match, "If-None-Match": none_match}
    given = {name: value for name, value in headers.items() if value is not None}
    return api.client.put(SEARCH, json={"daily_token_limit": limit}, headers=given)


def test_a_write_to_another_version_is_refused(api, assert_problem):
    """By 412, with the version that the budget has; for every way to write."""
    put(api)
    put(api)
    for method in ("PUT", "PATCH", "DELETE"):
        response = api.client.request(
            method, SEARCH, json={"daily_token_limit": 9}, headers={"If-Match": '"1"'}
        )
        problem = assert_problem(response, 412, "version-mismatch")
        assert problem["version"] == version_of(api.stream) == 2
    tag = api.client.get(SEARCH).headers["etag"]
    assert put(api, match=tag).json()["version"] == 3
    assert api.client.delete(SEARCH, headers={"If-Match": '"3"'}).status_code == 204
    problem = assert_problem(put(api, match='"3"'), 412, "version-mismatch")
    assert (problem["version"], problem["detail"]) == (
        0,
        "there is no budget, which is not expected",
    )


def test_the_owner_decides_and_not_this_process(api, assert_problem):
    """A writer whose feed is behind is refused: it cannot overwrite unseen what it never saw."""
    put(api)
    old = dict(api.stream.feed.decisions)
    api.stream.budgets.put(SCOPE, Budget())
    api.stream.feed.state.decisions = old  # what this process believes: version 1
    problem = assert_problem(put(api, match='"1"'), 412, "version-mismatch")
    assert problem["version"] == 2


def test_create_only_does_not_change(api, assert_problem):
    """`If-None-Match: *` is for a budget that is not there."""
    assert put(api, none_match="*").status_code == 201
    problem = assert_problem(put(api, none_match="*"), 412, "version-mismatch")
    assert problem["version"] == version_of(api.stream) == 1
    api.client.delete(SEARCH)
    assert put(api, none_match="*").status_code == 201


@pytest.mark.parametrize(
    "match", ['W/"2"', '"02"', '"0"', '"x"', '""', '"3", "1"', f'"{"9" * 30}"', 'W/"2", "x,2"']
)
def test_tags_that_do_not_match(api, assert_problem, match):
    """A weak one never does, nor one that was never given; `"0"` does not mean: create."""
    put(api)
    put(api)
    problem = assert_problem(put(api, match=match), 412, "version-mismatch")
    assert (problem["version"], version_of(api.stream)) == (2, 2)
    api.client.delete(SEARCH)
    assert_problem(put(api, match=match), 412, "version-mismatch")
    assert version_of(api.stream) == 0


@pytest.mark.parametrize("match", ['"2"', '"1", "2"', ' , "7",,"2" ,', 'W/"2", "2"', "*", " * "])
def test_tags_that_match(api, match):
    """One of a list is enough; `*` is any version."""
    put(api)
    put(api)
    response = put(api, match=match)
    assert (response.status_code, response.json().get("version")) == (200, 3)


def test_several_header_lines_are_one_list(api):
    """As in RFC 9110, section 5.3."""
    put(api)
    headers = [("If-Match", '"7"'), ("If-Match", '"1"')]
    response = api.client.put(SEARCH, json={}, headers=headers)
    assert response.json()["version"] == 2


def test_a_star_needs_a_budget(api, assert_problem):
    """It creates none; deleting what is not there is refused as well."""
    for method in ("PUT", "PATCH", "DELETE"):
        response = api.client.request(
            method, SEARCH, json={"daily_token_limit": 1}, headers={"If-Match": "*"}
        )
        problem = assert_problem(response, 412, "version-mismatch")
        assert problem["version"] == version_of(api.stream) == 0


class Racing(InMemoryBudgets):
    """Somebody else is quicker: `rivals` change the budget just before the next requests."""

    def __init__(self, stream):
        super().__init__(stream._broker, stream.feed)
        self.stream, self.rivals, self.asked = stream, [], []

    async def aput(self, scope, budget, **options):
        self.asked.append(options["expected_version"])
        if self.rivals:
            self.rivals.pop(0)(self.stream.budgets)
        return await super().aput(scope, budget, **options)


def test_a_star_holds_when_somebody_was_quicker(assert_problem):
    """Any version will do, so the next one is expected; a deletion in between is not undone."""
    with InMemoryStream(NOON) as stream:
        budgets = Racing(stream)
        with serving(stream, budgets=budgets) as api:
            stream.budgets.put(SCOPE, Budget())
            budgets.rivals = [lambda others: others.put(SCOPE, Budget())]
            assert put(api, match="*").json()["version"] == 3
            assert budgets.asked == [1, 2]
            budgets.rivals = [lambda others: others.delete(SCOPE)]
            assert_problem(put(api, match="*"), 412, "version-mismatch")
            assert version_of(stream) == 0
            stream.budgets.put(SCOPE, Budget())
            budgets.rivals = [lambda others: others.put(SCOPE, Budget())] * (TAGS_MAX + 1)
            assert_problem(put(api, match="*"), 412, "version-mismatch")
            assert len(budgets.rivals) == 1  # bounded


def test_another_refusal_is_not_taken_for_a_mismatch(api, assert_problem):
    """The version held, so the reason is another."""
    put(api)
    for match in ('"1"', '"1", "2"', "*"):
        response = api.client.patch(
            SEARCH, json={"warning_threshold": 1}, headers={"If-Match": match}
        )
        problem = assert_problem(response, 422, "budget-refused")
        assert "must not be above" in problem["detail"]


@pytest.mark.parametrize(
    ("headers", "location"),
    [
        ({"If-Match": "1"}, "header.If-Match"),
        ({"If-Match": ""}, "header.If-Match"),
        ({"If-Match": '"1" "2"'}, "header.If-Match"),
        ({"If-Match": '"1", *'}, "header.If-Match"),
        ({"If-Match": 'w/"1"'}, "header.If-Match"),
        ({"If-Match": ", ".join(['"1"'] * (TAGS_MAX + 1))}, "header.If-Match"),
        ({"If-None-Match": '"1"'}, "header.If-None-Match"),
        ({"If-None-Match": "*", "If-Match": "*"}, "header.If-None-Match"),
    ],
)
def test_headers_that_are_no_condition(api, assert_problem, headers, location):
    """Refused, never ignored: whoever sends one relies on it."""
    response = api.client.put(SEARCH, json={}, headers=headers)
    problem = assert_problem(response, 422, "invalid-request")
    assert [error["location"] for error in problem["errors"]] == [location]
    assert version_of(api.stream) == 0


def test_conditions_are_read_in_order():
    """Sorted and once each: attempts are numbered, and a retry numbers them alike."""
    assert condition_of(['"3", "1"', '"3"'], None) == Condition("one_of", (1, 3))
    assert condition_of(None, None).kind == "free"
    assert etag(12) == '"12"'
    with pytest.raises(ProblemError):
        condition_of(None, ["*", "*"])
