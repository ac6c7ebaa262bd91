"""Stamping many together: to the same result as `UsageRecord.new` one by one."""

import gc
import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outlay import UsageRecord
from outlay.draft import Draft, fill_costs, new_ids, to_drafts, to_times
from outlay.money import as_usd, to_nano, to_usd
from outlay.stamping import Item, Stamper
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

MADE = UsageRecord.new(**USUAL, id=SOURCE, occurred_at=datetime(2026, 1, 2, tzinfo=UTC))
RAW = [msgspec.Raw(text) for text in (b'{"k":1}', b"[1]", b"{oops", b"")]
ODD_OF_RECORDS = VALUES | {"metadata": RAW, "cost_usd": ["1", 0.25, 3, "1e-3", "-0.25", "many"]}
del ODD_OF_RECORDS["unknown"]
odd_of_record = st.sampled_from(
    [(name, value) for name, values in ODD_OF_RECORDS.items() for value in values]
)
# A Struct checks nothing when it is made, so a record may hold anything.
records = st.lists(odd_of_record, max_size=2).map(
    lambda chosen: msgspec.structs.replace(MADE, **dict(chosen))
)
items = st.lists(
    st.one_of(
        st.lists(odd, max_size=2).map(lambda chosen: Item(None, (), USUAL | dict(chosen), AT_S)),
        records.map(lambda record: Item(record, (), {}, AT_S)),
        st.sampled_from([Item(MADE, (), USUAL, AT_S), Item(MADE, (MADE,), {}, AT_S),
                         Item("no record", (), {}, AT_S), Item(None, (1,), USUAL, AT_S)]),
    ),
    max_size=12,
)  # fmt: skip


class OneByOne(Stamper):
    """Looks at each closely."""

    def _together(self, items, partitions):
        raise NotImplementedError


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
@example([USUAL | {name: value} for name, values in VALUES.items() for value in values])
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
    items = [Item(None, (), dict(fields), AT_S) for fields in calls]
    for bundle in Stamper(SOURCE, frames=True).stamp(
        items, 3, lambda _, error: errors.append(error)
    ):
        message = bundle.json if len(bundle) == 1 else b"[%b]" % bundle.json
        for record in decode_records(message):
            fields = given_ids if record.id == SOURCE else {}
            found[bundle.partition].append(seen(record, fields))
    assert found == expected
    assert len(errors) == refused
    assert [item.fields for item in items] == calls


def stamped(stamper, items):
    """What arrives in each partition, as JSON, and why what does not."""
    errors, found = [], [[], [], []]
    for bundle in stamper.stamp(items, 3, lambda _, error: errors.append(str(error))):
        message = bundle.json if len(bundle) == 1 else b"[%b]" % bundle.json
        for record in decode_records(message):
            found[bundle.partition].append(
                seen(record, {"id": SOURCE if record.id == SOURCE else None})
            )
    return found, errors


@given(items)
@example(
    [
        Item(msgspec.structs.replace(MADE, **{name: value}), (), {}, AT_S)
        for name, values in ODD_OF_RECORDS.items()
        for value in values
    ]
)
def test_fields_and_records_together_are_what_each_is_alone(items):
    """Records that were made before among them, and what is neither: also for the same reasons."""
    assert stamped(Stamper(SOURCE, frames=True), items) == stamped(
        OneByOne(SOURCE, frames=True), items
    )


def test_ids_are_new():
    """Also those that are made together, and more of them than one begin lasts for."""
    items = [Item(None, (), dict(USUAL), AT_S) for _ in range(500)]
    stamper = Stamper(SOURCE, frames=True)
    ids = new_ids(10_000)
    for _ in range(3):
        (bundle,) = stamper.stamp(items, 1, lambda _, error: pytest.fail(str(error)))
        ids += [record.id for record in bundle.records]
    assert len(set(ids)) == 11_500
    assert {uuid.UUID(each).version for each in ids} == {7}
    assert {str(uuid.UUID(each)) for each in ids} == set(ids)


def test_a_draft_is_written_as_the_record_that_it_becomes():
    """It has the fields of a record, in the same order, and leaves out the same."""
    assert Draft.__struct_fields__ == UsageRecord.__struct_fields__
    (draft,) = to_drafts([msgspec.structs.asdict(MADE)])
    assert msgspec.json.encode(draft) == msgspec.json.encode(MADE)


def test_what_waits_is_nothing_for_the_garbage_collector():
    """A full buffer would have it look through all that the program holds, again and again."""
    assert not gc.is_tracked(Item(None, (), dict(USUAL), AT_S))


@given(st.lists(st.floats(0, 253_402_300_799), max_size=20))
def test_times_together_are_those_of_each(times_s):
    """To the microsecond."""
    found = [at.timestamp() for at in to_times(times_s)]
    assert {at.tzinfo for at in to_times(times_s)} <= {UTC}
    expected = [datetime.fromtimestamp(at_s, UTC).timestamp() for at_s in times_s]
    assert found == pytest.approx(expected, rel=0, abs=0.000_002)


COSTS = ["0.50", "0.50,0.25", "0.5", "0.50\n", "", ",", "1e-3", " 1.00", "0.500", "01.00", "1",
         "\u0663.50", "1000000000.00", 0.25, 3, True, Decimal("0.10"), Text("0.50"),
         None]  # fmt: skip
costs = st.one_of(
    st.decimals(-1, 10**9, allow_nan=False, places=9).map(str),
    st.integers(-(10**9), 10**18).map(to_usd),
    st.sampled_from(COSTS),
)


@pytest.mark.parametrize("cost", COSTS)
def test_a_cost_beside_a_plain_one_is_written_as_it_is_alone(cost):
    """Or refused, as then; there may be a comma in it."""
    check_costs(["0.50", cost])


@given(st.lists(costs, max_size=8))
def test_costs_together_are_written_as_each_is(costs):
    """And refused where one is; those below zero are told."""
    check_costs(costs)


def check_costs(costs):
    drafts = to_drafts([USUAL | {"cost_usd": cost} for cost in costs])
    try:
        expected = [as_usd(cost) for cost in costs]
    except (ValueError, TypeError):
        with pytest.raises((ValueError, TypeError)):
            fill_costs(drafts)
        return
    negative = fill_costs(drafts)
    assert [draft.cost_usd for draft in drafts] == expected
    assert negative == [draft for draft in drafts if to_nano(draft.cost_usd) < 0]


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
