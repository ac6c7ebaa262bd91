"""Stamping many together: to the same result as `UsageRecord.new` one by one."""

import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay import UsageRecord
from outlay.money import as_usd, to_nano, to_usd
from outlay.stamping import Stamper
from outlay.topics import usage_key, usage_partition
from outlay.usage import decode_records

SOURCE = "01990000-0000-7000-8000-000000000000"
AT_S = 1_795_262_400.25
USUAL = {"organization_id": "acme", "agent_id": "a1", "cost_usd": "0.00123"}


class Text(str):
    """Not a plain string."""


NESTED = {"k": [[[1]]]}
DEEP = json.loads("[" * 70 + "]" * 70)
VALUES = {
    "organization_id": ["acme", "", None, 5],
    "agent_id": ["a1", "a2", "", "x" * 257, "\ud800", b"x", 5, None, ["a"], Text("a")],
    "cost_usd": ["0.5", "0.50", "1", "007.25", -1, "-0.25", 0.1, 1e-7, 3, Decimal("2.5"), True,
                 "many", None, float("nan"), "0.1234567885", "1e-3", "0", "0.00"],
    "team_id": ["t", None, "", 5],
    "input_tokens": [0, 5, -5, True, 5.0, "1", 10**13, None],
    "success": [True, False, 1, None],
    "executions": [0, 1, -1, 10**10],
    "kind": ["usage", "correction", "other", None],
    "occurred_at": [None, datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2),  # noqa: DTZ001
                    datetime.max.replace(tzinfo=UTC), "2026-01-02T00:00:00Z", 5],
    "id": [None, "x", SOURCE, uuid.UUID(SOURCE), 5],
    "source": ["", None, "mine", "x" * 257, SOURCE, 5],
    "sequence": [0, 7, -1, 2**63],
    "metadata": [None, {}, {"k": 1}, NESTED, {"k": DEEP}, {"k": "x" * 20_000}, [1], "x",
                 {"k": object()}, msgspec.Raw(b'{"k":1}')],
    "unknown": [1],
}  # fmt: skip
odd = st.sampled_from([(name, value) for name, values in VALUES.items() for value in values])
calls = st.lists(st.lists(odd, max_size=3).map(lambda chosen: USUAL | dict(chosen)), max_size=12)


def expected_of(fields, sequence):
    """What `UsageRecord.new` says to a call; None: it refuses it."""
    fields = dict(fields)
    if fields.get("occurred_at") is None:
        fields["occurred_at"] = datetime.fromtimestamp(AT_S, UTC)
    if not fields.get("source"):
        fields |= {"source": SOURCE, "sequence": sequence}
    try:
        record = UsageRecord.new(**fields)
        usage_key(record.organization_id, record.agent_id)
    except Exception:
        return None
    return record


def seen(record, fields):
    """A record as JSON, without an id that nobody gave."""
    found = msgspec.json.decode(msgspec.json.encode(record))
    if fields.get("id") is None:
        assert uuid.UUID(found.pop("id")).version == 7
    return found


@given(calls)
def test_many_together_are_what_each_is_alone(calls):
    """Whatever is among them: what is refused, what is made, in which order and sequence."""
    expected = [[], [], []]
    sequence, refused = 1, 0
    for fields in calls:
        record = expected_of(fields, sequence)
        if record is None:
            refused += 1
            continue
        sequence += record.source == SOURCE
        partition = usage_partition(record.organization_id, record.agent_id, 3)
        expected[partition].append(seen(record, fields))
    given_ids = {"id": SOURCE}
    errors, found = [], [[], [], []]
    items = [(None, (), dict(fields), AT_S) for fields in calls]
    for bundle in Stamper(SOURCE).stamp(items, 3, lambda _, error: errors.append(error)):
        message = bundle.json if len(bundle) == 1 else b"[%b]" % bundle.json
        for record in decode_records(message):
            fields = given_ids if record.id == SOURCE else {}
            found[bundle.partition].append(seen(record, fields))
    assert found == expected
    assert len(errors) == refused
    assert [fields for _, _, fields, _ in items] == calls


def test_ids_are_new():
    """Also those that are made together."""
    items = [(None, (), dict(USUAL), AT_S) for _ in range(500)]
    stamper = Stamper(SOURCE)
    ids = []
    for _ in range(3):
        (bundle,) = stamper.stamp(items, 1, lambda _, error: pytest.fail(str(error)))
        ids += [record.id for record in bundle.records]
    assert len(set(ids)) == 1_500
    assert {uuid.UUID(each).version for each in ids} == {7}


@given(
    st.one_of(
        st.from_regex(r"-?[0-9]{1,10}(\.[0-9]{0,11})?", fullmatch=True),
        st.decimals(-(10**9), 10**9, allow_nan=False),
        st.floats(-1e9, 1e9),
        st.integers(-(10**9), 10**9),
    )
)
def test_an_amount_as_usd_is_rounded_and_written_plainly(amount):
    """As by way of the number, and refused where that is."""
    try:
        expected = to_usd(to_nano(amount))
    except ValueError:
        with pytest.raises(ValueError):
            as_usd(amount)
    else:
        assert as_usd(amount) == expected
