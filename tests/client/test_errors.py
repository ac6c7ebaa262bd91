"""Errors: one class for each status, with what the problem says, and never with the key."""

import logging
import traceback

import httpx2
import pytest

from outlay import OutlayError
from outlay import client as package
from outlay.apikey import new_key
from outlay.client import (
    AnswerTimedOut,
    ApiError,
    NoAnswer,
    Problem,
    Retries,
    UnreadableAnswer,
    VersionMismatch,
)
from outlay.client.errors import BY_STATUS
from tests.client.scripted import Script, answer, problem

ONCE = Retries(attempts_max=1)
SCOPE = "organization:acme"


@pytest.mark.parametrize(
    "status", [400, 401, 402, 403, 404, 409, 412, 413, 418, 422, 429, 500, 503]
)
def test_a_problem_becomes_the_error_of_its_status(clients, status):
    """With its members, and with the request that met it."""
    errors = [{"location": "body.x", "message": "no"}, "odd"]
    script = Script(problem(status, "of-a-kind", errors=errors, version=7))
    outlay = clients(transport=script.transport, retries=ONCE)
    with pytest.raises(Problem) as raised:
        outlay.budgets.get(SCOPE)
    error = raised.value
    assert type(error) is BY_STATUS.get(status, Problem)
    assert isinstance(error, OutlayError)
    assert (error.status, error.type) == (status, "urn:outlay:problem:of-a-kind")
    assert (error.title, error.detail) == ("of-a-kind", "so it is")
    assert [(each.location, each.message) for each in error.errors] == [("body.x", "no")]
    assert error.members == {"version": 7}
    sent = script.requests[0].headers["x-request-id"]
    assert (error.request_id, error.method) == (sent, "GET")
    assert error.path == "/api/v1/budgets/organization:acme"
    assert sent in str(error)
    assert "so it is" in str(error)


def test_the_statuses_with_a_class_of_their_own():
    """Each another class."""
    assert set(BY_STATUS) == {401, 403, 404, 409, 412, 413, 422, 429, 503}
    assert len(set(BY_STATUS.values())) == len(BY_STATUS)


def test_the_tree_at_the_top_of_the_module_is_the_tree():
    """Every class is there, under the one that it derives from."""
    lines = (package.errors.__doc__ or "").splitlines()
    drawn = {}
    above = []
    for line in lines:
        words = line.replace("│", " ").replace("├──", "   ").replace("└──", "   ")
        name = words.strip().partition(" ")[0]
        if not hasattr(package, name) or not name[:1].isupper():
            continue
        depth = (len(words) - len(words.lstrip())) // 4
        above[depth:] = [name]
        drawn[name] = above[depth - 1] if depth else "OutlayError"
    real = {
        name: each.__mro__[1].__name__
        for name in package.__all__
        if isinstance(each := getattr(package, name), type) and issubclass(each, ApiError)
    }
    assert drawn == real


def test_an_id_that_the_server_gives_is_told(clients):
    """Its log has that one; what is no id is not taken."""
    script = Script(
        problem(404, "not-found", headers={"X-Request-ID": "theirs"}),
        problem(404, "not-found", headers={"X-Request-ID": "x" * 300}),
    )
    outlay = clients(transport=script.transport)
    for wanted in ("theirs", None):
        with pytest.raises(Problem) as raised:
            outlay.budgets.get(SCOPE)
        assert raised.value.request_id == (wanted or script.requests[-1].headers["x-request-id"])


def test_a_version_that_makes_no_sense_is_none(clients):
    """Rather than something to calculate with."""
    script = Script(problem(412, "version-mismatch", version="7"))
    with pytest.raises(VersionMismatch) as raised:
        clients(transport=script.transport).budgets.delete(SCOPE, if_version=1)
    assert raised.value.version is None


@pytest.mark.parametrize(
    ("failure", "kind", "may_have_arrived"),
    [
        (httpx2.ConnectError("refused"), NoAnswer, False),
        (httpx2.ConnectTimeout("late"), AnswerTimedOut, False),
        (httpx2.ReadTimeout("late"), AnswerTimedOut, True),
        (httpx2.RemoteProtocolError("gone"), NoAnswer, True),
    ],
)
def test_no_answer_at_all(clients, failure, kind, may_have_arrived):
    """An error of its own, which says whether the request may have arrived."""
    outlay = clients(transport=Script(failure).transport, retries=ONCE)
    with pytest.raises(NoAnswer) as raised:
        outlay.budgets.get(SCOPE)
    assert type(raised.value) is kind
    assert isinstance(raised.value, TimeoutError) == (kind is AnswerTimedOut)
    assert raised.value.may_have_arrived is may_have_arrived
    assert raised.value.__cause__ is failure


def test_the_key_is_nowhere(clients, caplog):
    """Not in what is printed, raised or logged, even where the answer has it; but it is sent."""
    key = new_key()
    caplog.set_level(logging.DEBUG)
    script = Script(
        problem(422, "invalid-request", errors=[{"location": key, "message": f"not {key}"}]),
        httpx2.ConnectError(f"no {key}"),
        answer({"status": key}, 302),
        answer({"scope": [key]}),
    )
    outlay = clients(key=key, transport=script.transport, retries=ONCE)
    told = [repr(outlay), repr(outlay.budgets)]
    for _ in range(4):
        with pytest.raises(ApiError) as raised:
            outlay.budgets.get("organization:" + key)
        error = raised.value
        parts = [*getattr(error, "errors", ())]
        told += [repr(error), str(error), error.path, repr(parts)]
        if not isinstance(error, NoAnswer):  # its cause is that of the test
            told += traceback.format_exception(error)
    told += [each.getMessage() for each in caplog.records if not each.name.startswith("httpx2")]
    assert not [text for text in told if key in text]
    assert {each.headers["authorization"] for each in script.requests} == {f"Bearer {key}"}


@pytest.mark.parametrize("key", ["", "a b", "outlay_sk_x\n", "é"])
def test_a_key_that_cannot_be_is_refused(clients, key):
    """At once, and not shown."""
    with pytest.raises(ValueError, match="visible ASCII") as raised:
        clients(key=key)
    assert not key.strip() or key.strip() not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["", "api.example", "ftp://api.example", "http://", "http://a:b@c", "http://a/?q=1", "http://a/#f",
     "http://a b", "http://a:x", "http://a/../b", "http://[a", "http://a\r\nx: y"],
)  # fmt: skip
def test_an_address_that_cannot_be_is_refused(clients, url):
    """At once, and without what may be a secret in it."""
    with pytest.raises(ValueError) as raised:
        clients(url)
    assert "a:b" not in str(raised.value)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_a_timeout_that_is_none_is_refused(clients, timeout_s):
    """There is always one."""
    with pytest.raises(ValueError, match="timeout"):
        clients(timeout_s=timeout_s)


def test_a_redirect_is_not_followed(clients):
    """It would take the key to another place."""
    script = Script(answer({}, 307, location="http://other.example/"))
    with pytest.raises(UnreadableAnswer, match="redirects are not followed") as raised:
        clients(key="k", transport=script.transport).alive()
    assert raised.value.status == 307
    assert len(script.requests) == 1
