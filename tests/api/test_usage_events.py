"""CloudEvents 1.0 at `POST /usage`: structured, batched and binary."""

import json
import uuid
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient

from tests.api.fakes import NOW
from tests.api.usage_parts import EVENT, EVENTS, URL, arrived, event, make_app, post, record
from tests.library.library_fakes import FakeTopic

AT = "2026-11-20T08:00:00Z"
BINARY = {
    "ce-specversion": "1.0",
    "ce-type": "outlay.usage.v1",
    "ce-source": "/agents",
    "ce-id": "e1",
}


@pytest.fixture
def topic():
    """A topic in memory."""
    return FakeTopic()


@pytest.fixture
def client(topic):
    """A client of the app in front of it."""
    with TestClient(make_app(topic), "http://localhost", raise_server_exceptions=False) as client:
        yield client


def _binary(client, body, **attributes):
    headers = {name: value for name, value in (BINARY | attributes).items() if value is not None}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(URL, content=content, headers={"Content-Type": "application/json"} | headers)


def test_the_three_forms_are_one_event(topic):
    """The same id, time and source, however the event comes."""
    found = []
    for send in (
        lambda client: post(client, event(time=AT), EVENT),
        lambda client: post(client, [event(time=AT)], EVENTS),
        lambda client: _binary(client, record(), **{"ce-time": AT}),
    ):
        topic.logs = [[]]
        with TestClient(make_app(topic), "http://localhost") as client:
            answer = send(client)
        (one,) = arrived(topic)
        assert answer.json() == {"accepted": 1, "records": [{"index": 0, "id": one.id}]}
        found.append(one)
    assert found[0] == found[1] == found[2]
    assert found[0].occurred_at == datetime(2026, 11, 20, 8, tzinfo=UTC)
    assert (found[0].source, found[0].cost_usd) == ("/agents", "0.05")
    assert uuid.UUID(found[0].id).version == 5


def test_source_and_id_identify_an_event(client, topic):
    """Neither alone; an id that is a UUID is the record's as it stands."""
    one = "0b7e6c9e-3f0f-4a51-9a43-1f3f0b8f7a11"
    named = [("a", "1"), ("b", "1"), ("a", "2"), ("a1", ""), ("a", one)]
    events = [event(source=source, id=id_ or "1a") for source, id_ in named]
    assert post(client, events, EVENTS).status_code == 202
    ids = [each.id for each in arrived(topic)]
    assert len(set(ids)) == len(named)
    assert ids[-1] == one
    assert not {"1", "2"} & set(ids)


def test_without_a_time_it_is_the_datas_or_now(client, topic):
    """As for any record."""
    dated = event(id="e2", data=record(occurred_at=AT))
    assert post(client, [event(), dated], EVENTS).status_code == 202
    assert [each.occurred_at for each in arrived(topic)] == [
        NOW, datetime(2026, 11, 20, 8, tzinfo=UTC),
    ]  # fmt: skip


def test_what_says_nothing_about_usage_is_passed_over(client, topic):
    """Extensions, a subject, a schema."""
    extended = event(subject="s", dataschema="urn:x", traceparent="00-1", datacontenttype=None)
    assert post(client, extended, EVENT).status_code == 202
    assert len(arrived(topic)) == 1


WRONG = [
    (event(specversion="0.3"), "specversion", "must be 1.0"),
    (event(type="com.example.other"), "type", "must be outlay.usage.v1"),
    (event(id=""), "id", "length >= 1"),
    (event(source="s" * 1_025), "source", "length <= 1024"),
    (event(time="yesterday"), "time", "Invalid RFC3339"),
    (event(time="2026-11-21T12:00:00"), "time", "timezone"),
    (event(datacontenttype="text/xml"), "datacontenttype", "must be application/json"),
    (event(data_base64="e30="), "data_base64", "the data must be JSON"),
    ({name: value for name, value in event().items() if name != "data"}, "data", "must be"),
    ({name: value for name, value in event().items() if name != "id"}, "", "missing required"),
    (event(data=record(id=str(uuid.UUID(int=1)))), "data.id", "the event's id"),
    (event(time=AT, data=record(occurred_at=AT)), "data.occurred_at", "the event's time"),
    (event(data=record(agent_id="")), "data.agent_id", "length >= 1"),
    (event(data=[record()]), "data", "Expected `object`"),
    (event(data=record(cost_usd="x")), "cost_usd", "not an amount"),
    ("event", "", "Expected `object`"),
]


@pytest.mark.parametrize(("wrong", "where", "message"), WRONG)
def test_a_wrong_event_is_named_and_nothing_is_sent(
    client, topic, assert_problem, wrong, where, message
):
    """Alone and in a batch, by its place."""
    good = event(id="good")
    for body, form, place in ((wrong, EVENT, "body"), ([good, wrong], EVENTS, "body.1")):
        problem = assert_problem(post(client, body, form), 422, "invalid-request")
        (error,) = problem["errors"]
        assert error["location"] == f"{place}.{where}".rstrip(".")
        assert message in error["message"]
    assert topic.messages() == []


@pytest.mark.parametrize(
    ("attributes", "location"),
    [
        ({"ce-id": None}, "header"),
        ({"ce-specversion": None}, "header"),
        ({"ce-source": ""}, "header.ce-source"),
        ({"ce-time": "now"}, "header.ce-time"),
        ({"ce-type": "other"}, "body.type"),
    ],
)
def test_a_wrong_binary_event_is_refused(client, topic, assert_problem, attributes, location):
    """And is not taken for a record without an event."""
    answer = _binary(client, record(), **attributes)
    problem = assert_problem(answer, 422, "invalid-request")
    assert problem["errors"][0]["location"] == location
    assert topic.messages() == []


def test_header_values_may_be_encoded(client, topic):
    """By percent, and in quotes, as the standard's HTTP binding has it."""
    ids = []
    for source in ("/z%C3%BCrich", '"/z%C3%BCrich"'):
        answer = _binary(client, record(), **{"ce-source": source, "ce-id": source[0]})
        ids.append(answer.json()["records"])
    assert {each.source for each in arrived(topic)} == {"/zürich"}
    assert len({str(each) for each in ids}) == 2


def test_an_event_that_comes_again_counts_once(client, topic, assert_problem):
    """Without any key: it has an identity. With other data it is another event by that name."""
    sent = (
        lambda: post(client, event(), EVENT),
        lambda: post(client, json.dumps(event(), indent=2).encode(), EVENT),
        lambda: _binary(client, record()),
    )
    answers = [send() for send in sent]
    assert [each.status_code for each in answers] == [202] * 3
    assert [each.headers.get("idempotent-replayed") for each in answers] == [None, "true", "true"]
    assert len(arrived(topic)) == 1
    other = post(client, event(data=record(cost_usd="0.06")), EVENT)
    assert_problem(other, 422, "idempotency-key-reused")
    assert len(arrived(topic)) == 1
