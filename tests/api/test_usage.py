"""`POST /usage`: what is taken, what is refused and how that is said."""

import json
import uuid
from decimal import Decimal
from types import SimpleNamespace

import msgspec
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from api.callers import Caller
from api.usage_forms import LINE_BYTES_MAX, RECORDS_MAX
from api.usage_records import CLOCK_SKEW_MAX_S, ERRORS_MAX
from outlay.framing import decode_message
from outlay.judging import AHEAD_MAX_S, decode_usage
from outlay.money import to_nano
from outlay.topics import usage_key, usage_partition
from tests.api.fakes import NOW
from tests.api.usage_parts import NDJSON, arrived, make_app, post, record
from tests.library.library_fakes import FakeTopic


@pytest.fixture
def usage():
    """`client` of the app, and the `topic` behind it, of three partitions."""
    topic = FakeTopic(3)
    app = make_app(topic)
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield SimpleNamespace(app=app, client=client, topic=topic)


def test_one_record_is_on_the_topic_when_it_is_accepted(usage):
    """With an id and a time that were filled in, keyed as the emitter keys it."""
    answer = post(usage.client, record(team_id="t", input_tokens=3, metadata={"run": [1]}))
    assert answer.status_code == 202
    (found,) = arrived(usage.topic)
    assert answer.json() == {"accepted": 1, "records": [{"index": 0, "id": found.id}]}
    assert uuid.UUID(found.id).version == 7
    assert (found.occurred_at, found.cost_usd, found.team_id) == (NOW, "0.05", "t")
    assert (found.input_tokens, found.executions, bytes(found.metadata)) == (3, 1, b'{"run": [1]}')
    ((partition, key, _),) = usage.topic.messages()
    assert partition == usage_partition("acme", "a1", 3)
    assert key == usage_key("acme", "a1")


def test_an_array_is_packed_by_partition(usage):
    """A message a partition, of that partition's agents, in the order of the request."""
    records = [record(agent_id=f"a{n % 7}", id=str(uuid.UUID(int=n))) for n in range(100)]
    answer = post(usage.client, records)
    assert [each["id"] for each in answer.json()["records"]] == [each["id"] for each in records]
    messages = usage.topic.messages()
    assert [partition for partition, _, _ in messages] == [0, 1, 2]
    for partition, key, value in messages:
        wanted = [
            each["id"]
            for each in records
            if usage_partition("acme", each["agent_id"], 3) == partition
        ]
        assert [each.id for each in decode_message(value)] == wanted
        assert key is None


def test_lines_are_records_and_blank_ones_are_none(usage):
    """NDJSON: the index counts records."""
    lines = [json.dumps(record(agent_id=f"a{n}")) for n in range(3)]
    body = f"\n{lines[0]}\r\n\n{lines[1]}\n{lines[2]}".encode()
    answer = post(usage.client, body, NDJSON)
    assert [each["index"] for each in answer.json()["records"]] == [0, 1, 2]
    assert {each.agent_id for each in arrived(usage.topic)} == {"a0", "a1", "a2"}


def test_nothing_is_nothing(usage):
    """An empty array, and no lines, are no error."""
    for body, form in ((b" [ ] ", "application/json"), (b"\n\n", NDJSON)):
        assert post(usage.client, body, form).json() == {"accepted": 0, "records": []}
    assert usage.topic.messages() == []


@pytest.mark.parametrize(
    ("written", "counted"),
    [
        (b"123456789.123456789", "123456789.123456789"),
        (b'"0.1"', "0.10"),
        (b"0.1000000005", "0.10"),
        (b"0.1000000015", "0.100000002"),
        (b"1e-3", "0.001"),
        (b"7", "7.00"),
    ],
)
def test_amounts_are_decimals(usage, written, counted):
    """A number of 18 digits, which a float does not hold, is counted to its last."""
    body = b'{"organization_id":"o","agent_id":"a","cost_usd":%b}' % written
    assert post(usage.client, body).status_code == 202
    assert arrived(usage.topic)[0].cost_usd == counted


WRONG = [
    (record(cost_usd="-1"), "", "a negative amount needs kind=correction"),
    (record(cost_usd="NaN"), "cost_usd", "must be finite"),
    (record(cost_usd="1e9"), "cost_usd", "must be below 1,000,000,000"),
    (record(cost_usd=True), "cost_usd", "must be a number or a decimal string"),
    (record(cost_usd=None), "cost_usd", "must be a number or a decimal string"),
    (record(cost_usd="1_0"), "cost_usd", "not an amount of USD"),
    (record(id="7"), "", "id must be a UUID"),
    (record(id=""), "", "id must be a UUID"),
    (record(occurred_at="2026-11-21T12:00:00"), "occurred_at", "timezone"),
    (record(occurred_at="2026-11-23T12:00:00Z"), "", "ahead of the message's timestamp"),
    (record(agent_id=""), "agent_id", "length >= 1"),
    (record(team_id="x" * 257), "team_id", "length <= 256"),
    (record(input_tokens=-1), "", "a negative amount needs kind=correction"),
    (record(input_tokens=1.5), "input_tokens", "Expected `int`"),
    (record(input_tokens=10**13), "input_tokens", "<= 1000000000000"),
    (record(kind="refund"), "kind", "Invalid enum value"),
    (record(metadata=[1]), "", "metadata must be an object"),
    (record(metadata={"x": "y" * 16_384}), "", "metadata is over 16384 bytes"),
    (record(imput_tokens=5), "", "unknown field `imput_tokens`"),
    ({"organization_id": "acme"}, "", "missing required field"),
    (7, "", "Expected `object`"),
]


@pytest.mark.parametrize(("wrong", "where", "message"), WRONG)
def test_a_wrong_record_is_named_and_nothing_is_sent(usage, assert_problem, wrong, where, message):
    """Alone, in an array and on a line; the others are not sent, so that all can be sent again."""
    good = record()
    lines = b"\n".join(json.dumps(each).encode() for each in (good, wrong, good))
    for body, form, place, index in (
        (wrong, "application/json", "body", 0),
        ([good, wrong, good], "application/json", "body.1", 1),
        (lines, NDJSON, "body.1", 1),
    ):
        problem = assert_problem(post(usage.client, body, form), 422, "invalid-request")
        (error,) = problem["errors"]
        assert (error["index"], error["location"]) == (index, f"{place}.{where}".rstrip("."))
        assert message in error["message"]
    assert usage.topic.messages() == []


def test_every_wrong_record_is_counted_and_the_first_are_listed(usage, assert_problem):
    """The answer stays small."""
    bad = [record(cost_usd="x") for _ in range(ERRORS_MAX + 50)]
    problem = assert_problem(post(usage.client, [record(), *bad]), 422, "invalid-request")
    assert problem["invalid"] == len(bad)
    assert [each["index"] for each in problem["errors"]] == list(range(1, ERRORS_MAX + 1))


def test_an_id_twice_in_one_request_is_wrong(usage, assert_problem):
    """The totals would count both, and the history keep one."""
    one = "0b7e6c9e-3f0f-4a51-9a43-1f3f0b8f7a11"
    body = [record(id=one), record(), record(id=one.upper())]
    (error,) = assert_problem(post(usage.client, body), 422, "invalid-request")["errors"]
    assert (error["index"], error["location"]) == (2, "body.2.id")


@pytest.fixture(scope="module")
def judging():
    """The same for many examples."""
    topic = FakeTopic()
    with TestClient(make_app(topic), "http://localhost") as client:
        yield SimpleNamespace(client=client, topic=topic)


_TEXTS = st.one_of(st.text(max_size=5), st.none(), st.integers(), st.just("0.5"), st.just("-2"))


@given(
    fields=st.fixed_dictionaries(
        {"organization_id": st.just("acme"), "agent_id": _TEXTS, "cost_usd": _TEXTS},
        optional={
            "executions": st.integers(-(10**10), 10**10),
            "kind": st.sampled_from(["usage", "correction", "x"]),
            "metadata": st.recursive(
                st.none() | st.booleans() | st.text(max_size=3),
                lambda each: st.dictionaries(st.text(max_size=3), each, max_size=2),
            ),
            "success": st.sampled_from([True, False, 1, None]),
            "occurred_at": st.sampled_from(
                ["2026-11-21T00:00:00Z", "2026-11-21", "0001-01-01T00:00:00Z"]
            ),
        },
    )
)
def test_records_are_judged_by_the_streams_rules(judging, fields):
    """What is accepted counts, to the nano-dollar, and what is refused would be a dead letter."""
    with_defaults = {"id": str(uuid.UUID(int=1)), "occurred_at": NOW.isoformat()} | fields
    usages, _ = decode_usage(msgspec.json.encode(with_defaults), int(NOW.timestamp() * 1000))
    judging.topic.logs = [[]]
    answer = post(judging.client, fields)
    assert answer.status_code == (202 if usages else 422)
    costs = [to_nano(each.cost_usd) for each in arrived(judging.topic)]
    assert costs == [each.cost_nano for each in usages]


def test_a_date_that_the_broker_might_reject_is_refused(usage):
    """This clock may be a minute ahead of the broker's, by whose the stream judges."""
    for ahead_s, status in ((-CLOCK_SKEW_MAX_S, 202), (1 - CLOCK_SKEW_MAX_S, 422)):
        at = NOW.timestamp() + AHEAD_MAX_S + ahead_s
        when = type(NOW).fromtimestamp(at, NOW.tzinfo).isoformat()
        assert post(usage.client, record(occurred_at=when)).status_code == status


def test_a_key_of_one_organization_reports_for_no_other(usage, assert_problem):
    """The answer is the same whether there is another one or not: it is not looked up."""
    post(usage.client, record(organization_id="globex"))
    usage.app.state.authenticate = lambda _: Caller("c", "acme", frozenset({"emitter"}), "k1")
    said = set()
    for other in ("globex", "nobody"):
        body = [record(), record(organization_id=other)]
        problem = assert_problem(post(usage.client, body), 422, "invalid-request")
        (error,) = problem["errors"]
        assert error["location"] == "body.1.organization_id"
        said.add(json.dumps(problem))
    assert len(said) == 1
    assert len(arrived(usage.topic)) == 1
    assert post(usage.client, record()).status_code == 202


def test_reporting_needs_the_role_for_it(usage, assert_problem):
    """A key that may only look does not report."""
    usage.app.state.authenticate = lambda _: Caller("c", "acme", frozenset({"viewer"}), "k1")
    assert_problem(post(usage.client, record()), 403, "forbidden")
    assert usage.topic.messages() == []


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"[" + b"1," * 500_000 + b"1]", "application/json"),
        (b"\n".join([b"1"] * (RECORDS_MAX + 1)), NDJSON),
        (b"\n" * (2 * RECORDS_MAX + 1), NDJSON),
        (json.dumps([record()] * (RECORDS_MAX + 1)).encode(), "application/json"),
    ],
    ids=["numbers", "lines", "blanks", "records"],
)
def test_too_many_records_are_too_large(usage, assert_problem, body, form):
    """By one, or by far; none of them is sent."""
    problem = assert_problem(post(usage.client, body, form), 413, "body-too-large")
    assert f"over {RECORDS_MAX} records" in problem["detail"]
    assert usage.topic.messages() == []


def test_as_many_as_may_be_are_taken(usage):
    """The bound itself is within it."""
    answer = post(usage.client, [record()] * RECORDS_MAX)
    assert answer.json()["accepted"] == RECORDS_MAX == len(arrived(usage.topic))


def test_a_line_has_a_bound(usage, assert_problem):
    """Spaces count, too."""
    wide = json.dumps(record()).encode() + b" " * LINE_BYTES_MAX
    body = json.dumps(record()).encode() + b"\n" + wide
    (error,) = assert_problem(post(usage.client, body, NDJSON), 422, "invalid-request")["errors"]
    assert (error["index"], error["message"]) == (1, f"the line is over {LINE_BYTES_MAX} bytes")


def _nested(depth):
    text = json.dumps(record())[:-1] + ', "metadata": ' + '{"a":' * depth + "1" + "}" * depth
    return (text + "}").encode()


def test_nesting_has_a_bound(usage, assert_problem):
    """Metadata nests 62 deep; deeper is refused, and so deep that no stack bears it is, too."""
    assert post(usage.client, _nested(62)).status_code == 202
    for depth in (63, 1_400):
        assert_problem(post(usage.client, _nested(depth)), 422, "invalid-request")
    for body in (b"[" * 100_000, b'{"a":' * 100_000, b"[[" + b"[" * 100_000):
        assert_problem(post(usage.client, body), 422, "invalid-request")
        assert_problem(post(usage.client, body, NDJSON), 422, "invalid-request")


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"[1,]", b"[{]", b"[1}", b"[] []", b"[NaN]", b'{"a":1', b"\xff\xfe"]
)
def test_what_is_no_json_is_refused(usage, assert_problem, body):
    """With a location, and as no bug."""
    problem = assert_problem(post(usage.client, body), 422, "invalid-request")
    assert problem["errors"][0]["location"].startswith("body")


def test_metadata_in_no_unicode_is_refused(usage, assert_problem):
    """It is passed on as it is, and would be no JSON."""
    body = json.dumps(record(metadata={"x": "?"})).encode().replace(b"?", b"\xff")
    problem = assert_problem(post(usage.client, body), 422, "invalid-request")
    assert "UTF-8" in problem["detail"]


@pytest.mark.parametrize(
    "form", ["", "text/plain", "application/xml", "application/json; charset=latin-1"]
)
def test_other_media_types_are_refused(usage, assert_problem, form):
    """The answer says which are read; a form that a browser sends by itself is none."""
    answer = post(usage.client, record(), form)
    assert_problem(answer, 415, "unsupported-media-type")
    assert "application/x-ndjson" in answer.headers["accept"]


def test_a_media_type_may_name_its_charset(usage):
    """As many clients do."""
    form = 'Application/JSON; charset="UTF-8"'
    assert post(usage.client, record(), form).status_code == 202


def test_openapi_describes_the_forms(usage):
    """Each with a schema and an example that is accepted as it stands."""
    operation = usage.client.get("/openapi.json").json()["paths"]["/api/v1/usage"]["post"]
    content = operation["requestBody"]["content"]
    assert len(content) == 4
    for form, described in content.items():
        example = described["example"]
        body = example.encode() if isinstance(example, str) else example
        assert post(usage.client, body, form).status_code == 202, form
    assert set(operation["responses"]) >= {"202", "408", "413", "415", "422", "502", "503"}
    assert Decimal(arrived(usage.topic)[0].cost_usd) == Decimal("0.012")
