"""Plain usage: a run is judged together exactly as each of its messages alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.judging import decode_usage
from outlay.usage import UsageRecord, encode_usage
from streams.plain import RUN_MAX, decode_plain

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
ID = "01990000-0000-7000-8000-000000000000"


def message(**changes: Any) -> bytes:
    """A record as JSON; a change to None takes the field away."""
    fields = {
        "id": ID, "occurred_at": "2026-11-21T11:59:00Z", "organization_id": "acme",
        "agent_id": "a", "cost_usd": "0.0125", "input_tokens": 10,
    } | changes  # fmt: skip
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


costs = st.one_of(
    st.from_regex(r"\A[0-9]{0,12}(\.[0-9]{0,10})?\Z"),
    st.sampled_from(
        ["1,2", "-1", "1e3", " 1", "0x1", "nan", "", ".", "1_0", "٣", "9" * 11, "1.", ".5", "00.1"]
    ),
    st.integers(-10, 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
)
ids = st.sampled_from(
    [ID, ID.upper(), ID.replace("-", ""), ID[:-1] + "g", ID[:-1], "-" * 36, ID[:-1] + "é",
     "01990000-0000-7000-8000-00000000000-", "0199000-00000-7000-8000-000000000000"]
)  # fmt: skip
times = st.sampled_from(
    ["2026-11-21T11:59:00Z", "2026-11-22T11:59:00Z", "2026-11-23T00:00:00Z", "0001-01-01T00:00:00Z",
     "9999-12-31T23:59:59Z", "2026-11-21T11:59:00", "2026-11-20T23:30:00-05:00", "yesterday",
     "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
)  # fmt: skip
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "id": ids,
    "occurred_at": times,
    "cost_usd": costs,
    "agent_id": st.sampled_from(["a", "b", "", "x" * 257, "{", "[", "é"]),
    "input_tokens": st.sampled_from([0, -1, 10**12, 10**12 + 1, "1", None]),
    "executions": st.sampled_from([0, 1, -1, 10**9 + 1]),
    "kind": st.sampled_from(["usage", "correction", "other"]),
    "metadata": st.sampled_from([{}, {"a": [1]}, [], "x", 5, True]),
    "unknown": st.sampled_from([1, "x", [], {}, [[1]]]),
    "success": st.booleans(),
}
changes = st.fixed_dictionaries({}, optional=CHANGES)
one_change = st.one_of([st.fixed_dictionaries({name: values}) for name, values in CHANGES.items()])
odd = st.sampled_from(
    [b"", b"null", b"{", b"[]", b'{"a":[', b"]}", b"\xff", b" " + message(), message() + b" ",
     message() + message(), message() + b"," + message(), b"[" + message() + b"]"]
)  # fmt: skip
messages = st.one_of(changes.map(lambda made: message(**made)), odd)


def judged_alone(values: list[bytes]) -> tuple[list[tuple[Any, int]], int]:
    """Fields and costs of what counts, message by message, and how many records do not."""
    counted, rejected = [], 0
    for value in values:
        usages, rejections = decode_usage(value, NOW_MS)
        counted += [(fields(record), cost_nano) for record, cost_nano in usages]
        rejected += len(rejections)
    return counted, rejected


def fields(record: UsageRecord) -> tuple[Any, ...]:
    """All that is known of a record; the plain one is of a type of its own."""
    return tuple(getattr(record, n) for n in UsageRecord.__struct_fields__ if n != "metadata")


@given(st.lists(messages, min_size=1, max_size=6))
def test_what_is_plain_is_judged_as_each_message_would_be(values: list[bytes]) -> None:
    """It never counts what would be rejected, nor other amounts, days or records."""
    plain = decode_plain(values, NOW_MS)
    if plain is None:
        return
    counted, rejected = judged_alone(values)
    assert rejected == 0
    found = zip(plain.records, plain.costs_nano, strict=True)
    assert [(fields(record), cost) for record, cost in found] == counted
    days = {record.occurred_at.astimezone(UTC).toordinal() for record in plain.records}
    assert plain.day == (days.pop() if len(days) == 1 else None)


@given(one_change, st.booleans())
def test_one_odd_field_among_plain_messages(change: dict[str, Any], in_array: bool) -> None:
    """Nothing that would be rejected alone is hidden by its neighbours."""
    values = [message(), message(**change), message()]
    if in_array:
        values = [b"[" + b",".join(values) + b"]"]
    plain = decode_plain(values, NOW_MS)
    if plain is not None:
        counted, rejected = judged_alone(values)
        assert rejected == 0
        found = zip(plain.records, plain.costs_nano, strict=True)
        assert [(fields(record), cost) for record, cost in found] == counted


@pytest.mark.parametrize("value", ["null", '"x"', "5", "true", "[]", "{}"])
def test_metadata_is_never_plain(value: str) -> None:
    """What is no object is a dead letter, and an object is looked at closely."""
    odd = message()[:-1] + b',"metadata":' + value.encode() + b"}"
    assert decode_plain([message(), odd], NOW_MS) is None


@pytest.mark.parametrize("bracket", ["[]", "{}"])
def test_what_nests_is_never_plain(bracket: str) -> None:
    """Also in a field that no one knows: deeper than readers agree on, it is a dead letter."""
    opening = "[" if bracket == "[]" else '{"a":'
    deep = opening * 70 + "1" + bracket[1] * 70
    odd = message()[:-1] + b',"unknown":' + deep.encode() + b"}"
    assert decode_usage(odd, NOW_MS)[1] != []
    assert decode_plain([message(), odd], NOW_MS) is None
    assert decode_plain([b"[" + message() + b"," + odd + b"]"], NOW_MS) is None


def test_without_a_timestamp_nothing_is_plain() -> None:
    """It would let a neighbour be dated as late as it likes."""
    assert decode_plain([message()], -1) is None


@given(st.lists(changes.map(lambda made: message(**made)), min_size=1, max_size=6))
def test_the_same_for_an_array(values: list[bytes]) -> None:
    """A message with many records is a run by itself."""
    array = b"[" + b",".join(values) + b"]"
    plain = decode_plain([array], NOW_MS)
    if plain is not None:
        counted, rejected = judged_alone([array])
        assert rejected == 0
        found = zip(plain.records, plain.costs_nano, strict=True)
        assert [(fields(record), cost) for record, cost in found] == counted


@given(st.lists(st.decimals(0, 10**5, places=9), min_size=1, max_size=RUN_MAX))
def test_what_the_library_sends_is_plain_and_exact(amounts: list[Any]) -> None:
    """Ordinary records take the short way, and each cost to the nano-dollar."""
    records = [
        UsageRecord.new(organization_id="acme", agent_id="a", cost_usd=amount, occurred_at=NOW)
        for amount in amounts
    ]
    short = [record for record in records if len(str(record.cost_usd)) <= 11]
    for values in ([encode_usage([r]) for r in short], [encode_usage(short)] if short else []):
        if values:
            plain = decode_plain(values, NOW_MS)
            assert plain is not None
            costs_nano = [decode_usage(encode_usage([r]), NOW_MS)[0][0].cost_nano for r in short]
            assert plain.costs_nano == costs_nano


@pytest.mark.parametrize("split", [(b"[" + message(), message() + b"]"), (b'{"a":1', b'"b":2}')])
def test_messages_are_never_read_across_their_ends(split: tuple[bytes, bytes]) -> None:
    """Two halves are two bad messages, not a good one."""
    assert decode_plain(split, NOW_MS) is None


def test_a_record_ahead_of_the_earliest_message_is_not_plain() -> None:
    """The run is judged by its earliest timestamp; the others may be later."""
    ahead = message(occurred_at=(NOW + timedelta(days=1, minutes=1)).isoformat())
    assert decode_plain([message(), ahead], NOW_MS) is None
    assert decode_plain([message(), ahead], NOW_MS + 120_000) is not None
