"""Answers of newer servers, and hostile ones; pages that never end; addresses with a base path."""

import gzip
import json

import httpx2
import msgspec
import pytest

from outlay import Budget
from outlay.client import (
    AnswerTimedOut,
    NoAnswer,
    Problem,
    Retries,
    Unavailable,
    UnreadableAnswer,
    wire,
)
from schemas.http_alert_log import AlertEntry, DeliveryEntry
from tests.client.scripted import Pieces, Script, answer, problem

ONCE = Retries(attempts_max=1)
SCOPE = "organization:acme"
AMOUNTS = {"cost_usd": "0.10", "executions": 1, "tokens": 2, "input_tokens": 1, "output_tokens": 1}
WINDOW = {
    "start": "2026-11-21T00:00:00Z",
    "end": "2026-11-22T00:00:00Z",
    "used": AMOUNTS,
    "remaining": dict.fromkeys(AMOUNTS),
}
BUDGET = {
    "scope": SCOPE,
    "kind": "organization",
    "organization_id": "acme",
    "version": 3,
    "state": "ok",
    "usage_percentage": "0.1",
    "budget": {"daily_budget_usd": "1.00", "timezone": "UTC"},
    "windows": {"day": WINDOW, "month": WINDOW},
}


def test_what_only_a_newer_server_knows_is_passed_over(clients):
    """In an answer, in what it holds, and in its budget."""
    newer = {
        **BUDGET,
        "of_tomorrow": {"a": 1},
        "budget": {"daily_budget_usd": "1.00", "weekly_budget_usd": "5", "timezone": "UTC"},
        "windows": {"day": {**WINDOW, "x": 1}, "month": WINDOW, "week": WINDOW},
    }
    found = clients(transport=Script(answer(newer)).transport).budgets.get(SCOPE)
    assert found.budget == Budget(daily_budget_usd=1)
    assert found.version == 3


def test_a_proxys_page_is_the_error_of_its_status(clients):
    """Without the page; after the tries that a proxy's failure is worth."""
    page = httpx2.Response(502, content=b"<html>bad gateway, key=1</html>")
    script = Script(page, page, page, page)
    with pytest.raises(Problem) as raised:
        clients(transport=script.transport).alive()
    assert (raised.value.status, raised.value.type) == (502, "about:blank")
    assert "html" not in str(raised.value)
    assert len(clients.pauses) == 3
    away = Script(httpx2.Response(503, content=b"<html>"))
    with pytest.raises(Unavailable, match="503 Service Unavailable"):
        clients(transport=away.transport, retries=ONCE).ready()


@pytest.mark.parametrize(
    "content",
    [b"<html></html>", b'{"scope": "organ', b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000],
)
def test_what_is_no_answer_of_the_api_is_said(clients, content):
    """A page, something that breaks off, something else in JSON: never another error."""
    for resource in ("get", "page"):
        script = Script(httpx2.Response(200, content=content))
        budgets = clients(transport=script.transport).budgets
        with pytest.raises(UnreadableAnswer) as raised:
            budgets.get(SCOPE) if resource == "get" else budgets.page()
        assert raised.value.status == 200


@pytest.mark.parametrize(
    "members", [[], {"type": 5, "detail": {}, "errors": {"a": 1}}, {"type": None}]
)
def test_a_problem_that_is_none_is_still_an_error(clients, members):
    """Of its status, with what can be read of it."""
    script = Script(answer(members, 422))
    with pytest.raises(Problem, match="422 Unprocessable") as raised:
        clients(transport=script.transport).alive()
    assert (raised.value.type, raised.value.errors) == ("about:blank", ())


def test_a_budget_that_cannot_be_is_no_answer(clients):
    """A state that does not exist, a limit below zero."""
    for wrong in ({"state": "odd"}, {"budget": {"daily_budget_usd": "-1"}}, {"version": 1.5}):
        script = Script(answer(BUDGET | wrong))
        with pytest.raises(UnreadableAnswer):
            clients(transport=script.transport).budgets.get(SCOPE)


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_without_an_end_is_left(clients, status, monkeypatch):
    """At the bound, whatever its status; and one that says so at once."""
    monkeypatch.setattr(wire, "ANSWER_BYTES_MAX", 10_000)
    body = Pieces(b"x" * 1_000 for _ in range(1_000_000))
    script = Script(
        httpx2.Response(status, stream=body),
        httpx2.Response(status, stream=Pieces([]), headers={"content-length": "10001"}),
    )
    outlay = clients(transport=script.transport, retries=ONCE)
    for _ in range(2):
        with pytest.raises(UnreadableAnswer, match="over 10000 bytes"):
            outlay.alive()
    assert body.given <= 11_000
    assert body.closed


def test_an_answer_that_drips_is_left(clients):
    """When its time is over, though each byte comes in time."""
    now_s = iter(range(1_000))
    body = Pieces(b" " for _ in range(1_000))
    script = Script(httpx2.Response(200, stream=body))
    outlay = clients(
        transport=script.transport, retries=ONCE, timeout_s=20, clock=lambda: next(now_s)
    )
    with pytest.raises(AnswerTimedOut):
        outlay.alive()
    assert body.given < 30
    assert body.closed


def test_an_answer_that_is_packed_is_not_read(clients):
    """Nobody asked for it, and what it unfolds to has no bound."""
    content = gzip.compress(b'{"status":"ok"}')
    response = httpx2.Response(200, stream=Pieces([content]), headers={"content-encoding": "gzip"})
    script = Script(response)
    with pytest.raises(UnreadableAnswer, match="packed"):
        clients(transport=script.transport).alive()
    assert script.requests[0].headers["accept-encoding"] == "identity"


def test_an_answer_that_breaks_off_is_none(clients):
    """Part of a body is not read."""
    body = Pieces([b'{"status":'], broken=httpx2.RemoteProtocolError("incomplete"))
    with pytest.raises(NoAnswer):
        clients(transport=Script(httpx2.Response(200, stream=body)).transport, retries=ONCE).alive()
    assert body.closed


@pytest.mark.parametrize(
    ("schema", "ask"),
    [(AlertEntry, "page"), (DeliveryEntry, "deliveries_page")],
)
def test_alerts_are_read_as_they_are_written(clients, schema, ask):
    """The example of the schema, amounts as decimals."""
    (example,) = schema.model_config["json_schema_extra"]["examples"]
    script = Script(answer({"items": [example, example], "next_cursor": None}))
    first, _ = getattr(clients(transport=script.transport).alerts, ask)().items
    told = json.loads(msgspec.json.encode(first).replace(b".250000Z", b".250Z"))
    assert {name: told[name] for name in example} == example


def test_a_list_goes_on_behind_an_empty_page(clients):
    """As filters make them; and asks for no page before its items are wanted."""
    pages = [
        {"items": [BUDGET], "next_cursor": "a"},
        {"items": [], "next_cursor": "b"},
        {"items": [BUDGET], "next_cursor": None},
    ]
    script = Script(*map(answer, pages))
    items = clients(transport=script.transport).budgets.list(page_size=7)
    assert script.requests == []
    next(iter(items))
    assert len(script.requests) == 1
    assert len(list(items)) == 1
    assert [each.url.params.get("cursor") for each in script.requests] == [None, "a", "b"]
    assert {each.url.params["limit"] for each in script.requests} == {"7"}


def test_a_cursor_that_leads_nowhere_ends_the_list(clients):
    """It would be asked for ever."""
    script = Script(*[answer({"items": [BUDGET], "next_cursor": "a"})] * 2)
    items = clients(transport=script.transport).budgets.list()
    next(iter(items))
    with pytest.raises(UnreadableAnswer, match="cursor"):
        next(iter(items))


def test_a_page_is_asked_for_again_by_itself(clients):
    """A list goes on where one page failed first."""
    last = answer({"items": [BUDGET]})
    script = Script(
        answer({"items": [BUDGET], "next_cursor": "a"}), problem(503, "feed-unavailable"), last
    )
    assert len(list(clients(transport=script.transport).budgets.list())) == 2


@pytest.mark.parametrize("url", ["https://h:8/a/b", "https://h:8/a/b/", "https://h:8/a/b//"])
def test_a_base_path_is_kept(clients, url):
    """With and without a slash at its end."""
    script = Script(answer({"status": "ok"}), answer(BUDGET))
    outlay = clients(url, transport=script.transport)
    outlay.alive()
    outlay.budgets.get("organization:a%2Fb")
    assert [str(each.url) for each in script.requests] == [
        "https://h:8/a/b/healthz",
        "https://h:8/a/b/api/v1/budgets/organization:a%2Fb",
    ]


def test_every_request_has_its_timeouts(clients):
    """To connect, to write, to read, and for a place in the pool; a stream a longer one."""
    script = Script(answer({"status": "ok"}))
    clients(transport=script.transport, timeout_s=12).alive()
    assert script.requests[0].extensions["timeout"] == {
        "connect": 5.0,
        "read": 12,
        "write": 12,
        "pool": 12,
    }
