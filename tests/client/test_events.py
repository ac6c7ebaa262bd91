"""Streams of events: how they are read, and how they go on."""

import itertools
import json

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.client import NoAnswer, Retries, Unauthorized, Unavailable, UnreadableAnswer
from outlay.client import events as module
from outlay.client.events import EventParser, ServerEvent
from tests.client.scripted import Script, answer, events, problem

STREAM = (
    b"\xef\xbb\xbfretry: 1500\n\n: a comment\nevent: one\ndata: a\ndata:  b\r\ndata\rid: 1\r\n\r\n"
    b"data: \xc3\xa9\n\n:alive\nid: 2\n\nid: bad\0\nunknown: x\nevent: none\n\n"
    b"retry: soon\ndata:x:y\nid\n\nid: 9\ndata: never ended"
)
WANTED = [
    ServerEvent("one", "a\n b\n", "1"),
    ServerEvent("message", "é", "1"),
    ServerEvent("message", "x:y", ""),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_it_does_not_matter_how_the_bytes_are_cut(cuts):
    """Comments, several lines of data, all line ends, characters of several bytes: all the same."""
    parser, found = EventParser(), []
    places = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(places):
        found += parser.feed(STREAM[start:end])
    assert found == WANTED
    assert (parser.last_event_id, parser.retry_s) == ("", 1.5)


def test_byte_by_byte():
    """As the slowest sends it."""
    parser = EventParser()
    assert [event for byte in STREAM for event in parser.feed(bytes([byte]))] == WANTED


def test_a_comment_moves_the_id():
    """Of a block without data, which is no event."""
    parser = EventParser("0")
    assert parser.feed(b": alive\nid: 7\n") == []
    assert parser.last_event_id == "0"  # the block has not ended
    parser.feed(b"\n")
    assert parser.last_event_id == "7"


def test_a_new_connection_forgets_the_rest_of_the_last():
    """But neither the id nor the pause."""
    parser = EventParser()
    parser.feed(b"id: 1\nretry: 5\ndata: a\n\nid: 2\ndata: half")
    parser.begin()
    assert parser.feed(b"data: b\n\n") == [ServerEvent("message", "b", "1")]
    assert parser.retry_s == 0.005


@pytest.mark.parametrize("piece", [b"x" * 1_000, b"data: " + b"x" * 100 + b"\n"])
def test_an_event_has_a_bound(piece, monkeypatch):
    """Whether it is one line without an end, or lines without an empty one."""
    monkeypatch.setattr(module, "EVENT_BYTES_MAX", 10_000)
    parser = EventParser()
    with pytest.raises(ValueError, match="10000 bytes"):
        list(map(parser.feed, [piece] * 1_000))
    parser = EventParser()
    for _ in range(1_000):  # of single events there may be any number
        parser.feed(b"data: " + b"x" * 100 + b"\n\n")


def told(kind, event_id="", **data):
    """An event as the API writes it."""
    identity = f"id: {event_id}\n" if event_id else ""
    return f"event: {kind}\ndata: {json.dumps(data)}\n{identity}\n"


SYNCED = told("synced", "s-1")
GONE = told("deleted", scope="organization:acme")


def take(stream, count):
    """The kinds of the next events."""
    return [next(stream).kind for _ in range(count)]


def test_it_goes_on_where_it_broke_off(clients):
    """With the id of what was told last, whether the connection ends, breaks or is refused."""
    script = Script(
        events("retry: 300\n\n", told("reset"), GONE, SYNCED, told("of_tomorrow")),
        events(": alive\nid: s-2\n\n", GONE, broken=httpx2.ReadError("reset")),
        problem(503, "feed-unavailable", headers={"Retry-After": "5"}),
        events(GONE),
    )
    stream = clients(transport=script.transport).decisions.stream(scope="organization:acme")
    assert take(stream, 5) == ["reset", "deleted", "synced", "deleted", "deleted"]
    ids = [each.headers.get("last-event-id") for each in script.requests]
    assert ids == [None, "s-1", "s-2", "s-2"]
    assert clients.pauses == [0.3, 0.3, 5.2]
    assert {each.headers["accept"] for each in script.requests} == {"text/event-stream"}
    assert {str(each.url.params) for each in script.requests} == {"scope=organization%3Aacme"}
    stream.close()


def test_it_ends_when_too_many_connections_tell_nothing(clients):
    """In a row, with growing pauses: an event begins the count anew."""
    script = Script(
        events(GONE),
        events(),
        httpx2.ConnectError("refused"),
        events(GONE),
        events(),
        events(),
        events(),
    )
    retries = Retries(stream_attempts_max=3, jitter=lambda: 1.0)
    stream = clients(transport=script.transport, retries=retries).decisions.stream()
    assert take(stream, 2) == ["deleted", "deleted"]
    with pytest.raises(NoAnswer, match="ended"):
        next(stream)
    assert clients.pauses == [0.2, 0.2, 0.4, 0.2, 0.2, 0.4]
    assert script.ended


def test_a_key_that_is_revoked_ends_it(clients):
    """At once: no other try would help."""
    script = Script(events(GONE), problem(401, "unauthorized"))
    stream = clients(transport=script.transport).decisions.stream()
    next(stream)
    with pytest.raises(Unauthorized):
        next(stream)
    assert script.ended


def test_a_wait_that_is_too_long_ends_it(clients):
    """As it does any other request."""
    script = Script(problem(503, "too-many-streams", headers={"Retry-After": "90"}))
    with pytest.raises(Unavailable):
        next(clients(transport=script.transport).decisions.stream())


@pytest.mark.parametrize(
    "body",
    ["event: decision\ndata: <html>\n\n", 'event: deleted\ndata: {"scope":5}\n\n'],
)
def test_what_is_no_event_of_the_api_ends_it(clients, body):
    """And is not asked for again."""
    script = Script(events(body))
    with pytest.raises(UnreadableAnswer):
        next(clients(transport=script.transport).decisions.stream())
    script = Script(answer({}))
    with pytest.raises(UnreadableAnswer, match="no stream"):
        next(clients(transport=script.transport).decisions.stream())
    assert clients.pauses == []


def test_an_id_of_ones_own_begins_it(clients):
    """One that is none is refused before a request."""
    script = Script(events(GONE))
    outlay = clients(transport=script.transport)
    next(outlay.decisions.stream(last_event_id="1-2"))
    assert script.requests[0].headers["last-event-id"] == "1-2"
    with pytest.raises(ValueError, match="last_event_id"):
        outlay.decisions.stream(last_event_id="1\r\n2")


def test_leaving_it_closes_the_connection(clients):
    """At once, and not when somebody collects it."""
    response = events(GONE, GONE)
    stream = clients(transport=Script(response).transport).decisions.stream()
    next(stream)
    stream.close()
    assert response.is_closed
