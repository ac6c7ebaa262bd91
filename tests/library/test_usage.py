"""Usage: which records of a message count, and why others do not."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay import UsageRecord
from outlay.judging import AHEAD_MAX_S, MESSAGE_BYTES_MAX, RECORDS_PER_MESSAGE_MAX, decode_usage
from outlay.usage import METADATA_NESTING_MAX, encode_usage

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def record(**fields):
    fields = {"organization_id": "acme", "agent_id": "a1", "cost_usd": "0.00123"} | fields
    return UsageRecord.new(**({"occurred_at": NOW} | fields))


def as_json(**changes):
    return json.loads(encode_usage([record()])) | changes


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
damage = st.dictionaries(
    st.sampled_from([*UsageRecord.__struct_fields__, "unknown"]), json_values, max_size=3
)


@given(st.binary(max_size=300), st.integers(-1, 10**15))
def test_any_bytes_are_answered(value, timestamp_ms):
    """`decode_usage` never raises, whatever stands in the topic."""
    usages, rejections = decode_usage(value, timestamp_ms)
    assert usages or rejections or json.loads(value) == []


def test_any_timestamp_is_answered():
    """A producer may write any time beside its message."""
    for timestamp_ms in (-1, 0, 253_402_214_400_000, 253_402_300_800_000, 2**63 - 1):
        assert len(decode_usage(encode_usage([record()]), timestamp_ms)[0]) == (timestamp_ms != 0)


@given(json_values)
def test_any_json_is_answered(value):
    """Nor for JSON of any shape."""
    decode_usage(json.dumps(value).encode(), NOW_MS)


@given(st.lists(damage, min_size=1, max_size=5))
def test_every_record_counts_or_is_rejected_by_itself(damages):
    """In an array each record is judged alone: a bad one leaves the others as they are."""
    values = [as_json(**changes) for changes in damages]
    usages, rejections = decode_usage(json.dumps(values).encode(), NOW_MS)
    rejected = {rejection.index for rejection in rejections}
    assert len(usages) + len(rejected) == len(values)
    for index, value in enumerate(values):
        alone = decode_usage(json.dumps(value).encode(), NOW_MS)
        assert bool(alone[1]) == (index in rejected)


def test_one_bad_record_leaves_the_others():
    """Each of the ways in which a record can be bad."""
    for bad in (
        "no record",
        7,
        {},
        as_json(cost_usd="-1"),
        as_json(id="x"),
        as_json(input_tokens=-1),
    ):
        value = json.dumps([as_json(agent_id="first"), bad, as_json(agent_id="last")]).encode()
        usages, rejections = decode_usage(value, NOW_MS)
        assert [usage.record.agent_id for usage in usages] == ["first", "last"]
        assert [rejection.index for rejection in rejections] == [1]


@given(st.integers(1, 5))
def test_what_is_encoded_is_decoded(count):
    """An object for one record, an array for several; both give the same records back."""
    records = [record(agent_id=f"a{n}", metadata={"n": n}) for n in range(count)]
    value = encode_usage(records)
    assert value[:1] == (b"{" if count == 1 else b"[")
    usages, rejections = decode_usage(value, NOW_MS)
    assert [usage.record.id for usage in usages] == [each.id for each in records]
    assert [usage.cost_nano for usage in usages] == [1_230_000] * count
    assert not rejections


def test_a_correction_may_be_negative_and_usage_may_not():
    """Money back needs its own kind."""
    assert decode_usage(encode_usage([record(kind="correction", cost_usd="-5")]), NOW_MS)[0]
    with pytest.raises(ValueError, match="correction"):
        record(cost_usd="-5")


def test_the_future_is_judged_by_the_message():
    """A record may be dated a day ahead of its message, and no further; without a date, at all."""
    ahead = NOW + timedelta(seconds=AHEAD_MAX_S)
    assert not decode_usage(encode_usage([record(occurred_at=ahead)]), NOW_MS)[1]
    later = encode_usage([record(occurred_at=ahead + timedelta(seconds=1))])
    assert "ahead" in decode_usage(later, NOW_MS)[1][0].reason
    assert not decode_usage(later, -1)[1]


def test_messages_have_bounds():
    """Too many bytes, too many records, too deep: the message as a whole is rejected."""
    many = b"[" + b",".join([encode_usage([record()])] * 3) + b"]"
    assert len(decode_usage(many, NOW_MS)[0]) == 3
    for value in (
        b" " * (MESSAGE_BYTES_MAX + 1),
        b"[" + b",".join([b"1"] * (RECORDS_PER_MESSAGE_MAX + 1)) + b"]",
        b"[" * 5_000 + b"]" * 5_000,
    ):
        usages, rejections = decode_usage(value, NOW_MS)
        assert not usages
        assert [rejection.index for rejection in rejections] == [None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"organization_id": ""},
        {"agent_id": "x" * 257},
        {"cost_usd": "many"},
        {"input_tokens": "1"},
        {"executions": -1},
        {"occurred_at": NOW.replace(tzinfo=None)},
        {"id": "x"},
        {"kind": "gift"},
        {"metadata": ["list"]},
    ],
)
def test_a_record_is_checked_when_it_is_made(wrong):
    """What the stream would reject is said at once."""
    with pytest.raises((ValueError, TypeError)):
        record(**wrong)


def test_records_cannot_be_changed():
    """They are shared between threads."""
    with pytest.raises(AttributeError):
        record().cost_usd = "1"
    assert msgspec.structs.replace(record(), source="s").source == "s"


def test_metadata_that_may_be_sent_fits_a_message_of_many() -> None:
    """What one record may hold never makes readers refuse the others that travel with it."""

    def nested(levels: int) -> dict[str, Any]:
        value: Any = [1] * 200
        for _ in range(levels - 2):
            value = [value, [], []]
        return {"a": value}

    fields: dict[str, Any] = {"organization_id": "o", "agent_id": "a", "cost_usd": 1}
    deep = UsageRecord.new(**fields, metadata=nested(METADATA_NESTING_MAX))
    plain = UsageRecord.new(**fields)
    usages, rejections = decode_usage(encode_usage([plain, deep, plain]), -1)
    assert (len(usages), rejections) == (3, [])
    with pytest.raises(ValueError, match="nests deeper than 62"):
        UsageRecord.new(**fields, metadata=nested(METADATA_NESTING_MAX + 1))
