"""Retries: what is sent again, when, and how often; no test waits."""

import gzip

import httpx2
import pytest

from outlay import Budget
from outlay.client import (
    InvalidRequest,
    NoAnswer,
    Problem,
    Retries,
    TooManyRequests,
    Unavailable,
)
from tests.client.scripted import Script, answer, problem

SCOPE = "organization:acme"
ALIVE = {"status": "ok"}
LOST = httpx2.ReadError("reset")
REFUSED = httpx2.ConnectError("refused")
ACCEPTED = {"accepted": 1, "records": [{"index": 0, "id": "i"}]}
RECORD = {"organization_id": "acme", "agent_id": "a", "cost_usd": "0.1"}


def test_a_read_is_sent_again_with_growing_pauses(clients):
    """Four times at most, under one request id; the last failure is raised."""
    script = Script(LOST, LOST, LOST, LOST)
    with pytest.raises(NoAnswer):
        clients(transport=script.transport).alive()
    assert clients.pauses == [0.2, 0.4, 0.8]
    assert len({each.headers["x-request-id"] for each in script.requests}) == 1
    assert script.ended


def test_pauses_are_bounded_and_jittered(clients):
    """Between a half and all of what they may be, which stops growing."""
    retries = Retries(attempts_max=5, pause_s=1, pause_s_max=3, jitter=lambda: 0.0)
    with pytest.raises(NoAnswer):
        clients(transport=Script(*[LOST] * 5).transport, retries=retries).alive()
    assert clients.pauses == [0.5, 1.0, 1.5, 1.5]


def test_it_ends_where_an_answer_comes(clients):
    """And that is the result."""
    script = Script(LOST, problem(503, "feed-unavailable"), answer(ALIVE))
    assert clients(transport=script.transport).alive() is True


@pytest.mark.parametrize("write", ["put", "patch", "delete", "report"])
def test_a_write_is_sent_again_under_its_key(clients, write):
    """The same bytes, the same Idempotency-Key; another call has another."""

    def script():
        return Script(LOST, problem(503, "budget-timeout"), problem(422, "x"))

    def ask(outlay):
        if write == "report":
            return outlay.usage.report([RECORD] * 300)
        more = {"put": [Budget()], "patch": [{"daily_token_limit": 1}], "delete": []}[write]
        return getattr(outlay.budgets, write)(SCOPE, *more)

    keys = set()
    for _ in range(2):
        told = script()
        with pytest.raises(InvalidRequest):
            ask(clients(transport=told.transport))
        assert told.ended
        assert len({each.content for each in told.requests}) == 1
        (key,) = {each.headers["idempotency-key"] for each in told.requests}
        keys.add(key)
    assert len(keys) == 2
    if write == "report":
        assert len(gzip.decompress(told.requests[0].content)) > 16_384


def test_a_key_of_ones_own_is_sent(clients):
    """And one that no header can hold is refused."""
    script = Script(LOST, answer(ACCEPTED, 202))
    outlay = clients(transport=script.transport)
    outlay.usage.report(RECORD, idempotency_key="mine")
    assert [each.headers["idempotency-key"] for each in script.requests] == ["mine", "mine"]
    for wrong in ("", "a b", "é", "a\n"):
        with pytest.raises(ValueError, match="idempotency key"):
            outlay.usage.report(RECORD, idempotency_key=wrong)


@pytest.mark.parametrize("failure", [LOST, REFUSED, "budget-timeout", "feed-unavailable", 429])
def test_a_change_of_an_agent_is_sent_again_under_its_key(clients, failure):
    """Also where it may have been carried out."""
    configured = {"external_agent_id": "a", "current_usage": {"cost_used": 0.1, "invocations": 1}}
    first = failure
    if not isinstance(failure, Exception):
        kind = failure if isinstance(failure, str) else ""
        first = problem(429 if failure == 429 else 503, kind)
    script = Script(first, answer(configured))
    outlay = clients(transport=script.transport)
    assert outlay.agents.configure("a", {"daily_token_limit": 1}).external_agent_id == "a"
    assert len(clients.pauses) == 1
    first_key, second_key = (each.headers["idempotency-key"] for each in script.requests)
    assert first_key == second_key


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for_up_to_a_bound(clients, status):
    """With the pause on top, so that not all come at once; a longer one fails."""
    soon = problem(status, headers={"Retry-After": "7"})
    script = Script(soon, answer(ALIVE))
    assert clients(transport=script.transport).alive()
    assert clients.pauses == [7.2]
    late = Script(problem(status, headers={"Retry-After": "21"}))
    with pytest.raises((TooManyRequests, Unavailable)) as raised:
        clients(transport=late.transport).alive()
    assert raised.value.retry_after_s == 21
    assert clients.pauses == [7.2]


@pytest.mark.parametrize(
    ("told", "wait_s"),
    [
        ("Sat, 21 Nov 2026 12:00:09 GMT", 9.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("1e9", None),
        ("Sat, 21 Nov 2026 12:00:09", None),
        ("", None),
    ],
)
def test_retry_after_as_a_date_counts_from_the_answers_own(clients, told, wait_s):
    """What makes no sense is no wait."""
    headers = {"Retry-After": told, "Date": "Sat, 21 Nov 2026 12:00:00 GMT"}
    script = Script(problem(503, headers=headers))
    with pytest.raises(Unavailable) as raised:
        clients(transport=script.transport, retries=Retries(attempts_max=1)).alive()
    assert raised.value.retry_after_s == wait_s


def test_the_pauses_of_a_call_are_bounded_together(clients):
    """Thirty seconds: what would take longer fails before."""
    script = Script(*[problem(503, headers={"Retry-After": "13"})] * 3)
    with pytest.raises(Unavailable):
        clients(transport=script.transport).alive()
    assert len(clients.pauses) == 2
    assert script.ended


@pytest.mark.parametrize("check", ["check", "ext_authz"])
def test_a_check_does_not_wait_for_long(clients, check):
    """A call waits for it: what asks it to come back in five seconds fails at once."""
    script = Script(LOST, problem(503, "feed-unavailable", headers={"Retry-After": "5"}))
    with pytest.raises(Unavailable):
        getattr(clients(transport=script.transport), check)(organization_id="acme")
    assert clients.pauses == [0.2]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(502, "usage-unknown"), (429, "too-many-attempts"), (500, "internal-error"), (401, ""),
     (404, "not-found"), (409, ""), (412, "version-mismatch"), (422, "invalid-request")],
)  # fmt: skip
def test_what_would_meet_the_same_is_not_sent_again(clients, status, kind):
    """Neither a wrong key, nor an outcome that will never be known."""
    script = Script(problem(status, kind, headers={"Retry-After": "1"}))
    with pytest.raises(Problem):
        clients(transport=script.transport).usage.report(RECORD)
    assert clients.pauses == []


def test_no_retries_at_all(clients):
    """Where that is what is wanted."""
    outlay = clients(transport=Script(LOST).transport, retries=Retries(attempts_max=1))
    with pytest.raises(NoAnswer):
        outlay.alive()
    for wrong in ({"attempts_max": 0}, {"stream_attempts_max": 0}, {"pause_s": -1}):
        with pytest.raises(ValueError):
            Retries(**wrong)
