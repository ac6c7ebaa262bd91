"""Framing: a frame gives back the records that it was made of, and garbage is refused whole."""

from __future__ import annotations

import contextlib
import math
import struct
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.frame import (
    BOUNDS,
    OCCURRED_S_MAX,
    Column,
    FrameError,
    is_frame,
    open_frame,
    pack_column,
)
from outlay.framing import (
    FRAME_RECORDS_MIN,
    decode_frame,
    decode_message,
    encode_frame,
    encode_message,
)
from outlay.judging import decode_usage, split_usage
from outlay.money import to_nano, to_usd
from outlay.spender import parse_spender, spender_key
from outlay.usage import UsageRecord, decode_records

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)

names = st.text(
    st.characters(exclude_categories=["Cs"], codec="utf-8"), min_size=1, max_size=256
) | st.sampled_from(["a", "b", "team/1", "x y", "é"])
optional_names = st.none() | names
tokens = st.integers(0, 300) | st.integers(0, 10**12)
records = st.builds(
    lambda at_us, zone_h, **fields: UsageRecord.new(
        occurred_at=(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).astimezone(
            timezone(timedelta(hours=zone_h))
        ),
        kind="correction" if fields["cost_usd"].startswith("-") else "usage",
        **fields,
    ),
    at_us=st.integers(0, OCCURRED_S_MAX * 10**6)
    | st.integers(1795 * 10**12, 1795 * 10**12 + 10**7),
    zone_h=st.integers(-14, 14),
    organization_id=names,
    team_id=optional_names,
    user_id=optional_names,
    agent_id=names,
    cost_usd=st.integers(-(10**18) + 1, 10**18 - 1).map(to_usd) | st.just("0.0012"),
    provider=optional_names,
    model=optional_names,
    input_tokens=tokens,
    output_tokens=tokens,
    success=st.booleans(),
    executions=st.just(1) | st.integers(0, 10**9),
    source=st.just("s") | st.text(max_size=256, alphabet="abc"),
    sequence=st.integers(0, 2**63 - 1) | st.integers(0, 10),
    metadata=st.none() | st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2),
)


def record(**fields: Any) -> UsageRecord:
    given = {"organization_id": "acme", "agent_id": "a", "cost_usd": "0.01", "occurred_at": NOW}
    return UsageRecord.new(**given | fields)


@given(st.lists(records, min_size=1, max_size=12))
def test_a_frame_gives_back_its_records(made: list[UsageRecord]) -> None:
    """All fields of all of them, in their order."""
    frame = encode_frame(made)
    assert frame is not None
    assert decode_frame(frame) == made
    assert [decode_records(each) for each in split_usage(frame)] == [[each] for each in made]


@pytest.mark.parametrize("count", [1, 2, FRAME_RECORDS_MIN - 1, FRAME_RECORDS_MIN])
def test_few_records_stay_json(count: int) -> None:
    """So that whoever looks into the topic can read them."""
    made = [record(input_tokens=n) for n in range(count)]
    message = encode_message(made)
    assert is_frame(message) == (count >= FRAME_RECORDS_MIN)
    assert decode_message(message) == made


def test_what_does_not_fit_a_frame_goes_as_json() -> None:
    """Nothing is lost for it."""
    made = [record(id="0199AAAA-0000-7000-8000-00000000000F")] * FRAME_RECORDS_MIN
    assert decode_message(encode_message(made)) == made


@given(st.lists(st.integers(-(10**18), 10**18) | st.integers(0, 300), min_size=1, max_size=9))
def test_a_column_gives_back_its_numbers(numbers: list[int]) -> None:
    """However far apart they are."""
    column, packed = pack_column(numbers)
    read = [
        column.base + int.from_bytes(packed[at : at + column.width], "little")
        for at in range(0, len(packed), column.width or 1)
    ]
    assert (read or [column.base] * len(numbers)) == numbers


class Text(str):
    """No text itself."""


class Number(IntEnum):
    """No number itself."""

    TWO = 2


@pytest.mark.parametrize(
    "fields",
    [{"organization_id": Text("acme")}, {"agent_id": b"a"}, {"provider": bytearray(b"p")},
     {"model": msgspec.Raw(b'"m"')}, {"executions": Number.TWO}, {"sequence": Number.TWO},
     {"input_tokens": msgspec.Raw(b"3")}, {"success": 1}, {"source": Text("s")}],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_what_is_only_encoded_like_a_value_is_not_put_into_a_frame(fields: dict[str, Any]) -> None:
    """A record is not checked when it is made; JSON takes more than columns do."""
    assert encode_frame([record(), msgspec.structs.replace(record(), **fields)]) is None


@pytest.mark.parametrize(
    "odd",
    [
        record(id="0199AAAA-0000-7000-8000-00000000000F"),
        record(occurred_at=datetime(1969, 12, 31, tzinfo=UTC)),
        record(occurred_at=datetime(2107, 1, 1, tzinfo=UTC)),
    ],
    ids=["capitals", "before 1970", "after 2106"],
)
def test_what_does_not_fit_a_frame_exactly_is_not_put_into_one(odd: UsageRecord) -> None:
    """Whoever packs it sends it as JSON instead."""
    assert encode_frame([record(), odd]) is None
    assert encode_frame([]) is None


@given(st.data())
def test_damage_is_refused_and_never_raises_anything_else(data: st.DataObject) -> None:
    """Bytes that changed, or that are missing."""
    frame = encode_frame([record(agent_id=f"a{n % 3}", input_tokens=n) for n in range(5)])
    assert frame is not None
    damaged = bytearray(frame)
    for at, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(frame) - 1), st.integers(0, 255)), max_size=4)
    ):
        damaged[at] = byte
    value = bytes(damaged[: data.draw(st.integers(0, len(frame)))]) if data.draw(
        st.booleans()
    ) else bytes(damaged)  # fmt: skip
    with contextlib.suppress(FrameError):
        decode_frame(value)
    usages, rejections = decode_usage(value, NOW_MS)
    assert usages or rejections


def changed(frame: bytes, **changes: Any) -> bytes:
    """The frame with another header."""
    opened = open_frame(frame)
    header = msgspec.json.encode(msgspec.structs.replace(opened.header, **changes))
    return frame[:4] + len(header).to_bytes(4, "little") + header + frame[opened.ids_at :]


HEADERS: dict[str, dict[str, Any]] = {
    "more records": {"count": 6},
    "no record": {"count": 0},
    "a spender too many": {"spenders": "acme///a acme///b acme///c acme///d"},
    "no spender": {"spenders": ""},
    "a spender without an agent": {"spenders": "acme/// acme///b acme///c"},
    "a spender in another spelling": {"spenders": "%61cme///a acme///b acme///c"},
    "a spender with five ids": {"spenders": "acme///a/a acme///b acme///c"},
    "a call too many": {"call": Column("", 1)},
    "a number outside": {"input_tokens": Column("B", 10**12)},
    "metadata of none": {"metadata": {5: msgspec.Raw(b"{}")}},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_does_not_fit_is_refused(name: str) -> None:
    """And the message becomes one dead letter."""
    frame = encode_frame([record(agent_id="abc"[n % 3], input_tokens=n) for n in range(5)])
    assert frame is not None
    assert decode_frame(changed(frame)) == decode_frame(frame)
    broken = changed(frame, **HEADERS[name])
    with pytest.raises(FrameError):
        decode_frame(broken)
    usages, rejections = decode_usage(broken, NOW_MS)
    assert usages == []
    assert [rejection.index for rejection in rejections] == [None]


@pytest.mark.parametrize("at_s", [-1e-6, OCCURRED_S_MAX + 1e-3, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(at_s: float) -> None:
    """With the whole frame, like any other garbage."""
    frame = encode_frame([record(), record()])
    assert frame is not None
    at = open_frame(frame).times_at
    with pytest.raises(FrameError, match="time"):
        decode_frame(frame[:at] + struct.pack("<d", at_s) + frame[at + 8 :])


@pytest.mark.parametrize("calls", [0, 300])
def test_nesting_is_judged_by_a_rule_and_not_by_the_stack(calls: int) -> None:
    """Whoever reads a frame, and from however deep: all agree."""
    frame = encode_frame([record(metadata={"a": 1}), record()])
    assert frame is not None
    deep = msgspec.Raw(b'{"a":' * 200 + b"1" + b"}" * 200)
    value = changed(frame, metadata={0: deep})

    def judge(depth: int) -> Any:
        return judge(depth - 1) if depth else decode_usage(value, NOW_MS)

    usages, rejections = judge(calls)
    assert usages == []
    assert "nests deeper" in rejections[0].reason


def test_a_key_is_bounded_before_it_is_read() -> None:
    """Percent-encoding by the megabyte takes seconds."""
    with pytest.raises(ValueError, match="characters"):
        parse_spender("%4/" * 330_000)


def test_a_record_of_a_frame_is_judged_by_itself() -> None:
    """The others count."""
    late = NOW + timedelta(days=1, seconds=1)
    frame = encode_frame([record(), record(occurred_at=late), record(agent_id="b")])
    usages, rejections = decode_usage(frame, NOW_MS)
    assert [usage.record.agent_id for usage in usages] == ["a", "b"]
    assert [rejection.index for rejection in rejections] == [1]


def test_every_column_has_its_bounds() -> None:
    """What is in no bounds would not be checked."""
    frame = encode_frame([record()])
    assert frame is not None
    header = open_frame(frame).header
    columns = {
        name for name in header.__struct_fields__ if isinstance(getattr(header, name), Column)
    }
    assert set(BOUNDS) == columns


@given(names, optional_names, optional_names, names)
def test_a_spender_is_read_from_its_key(
    organization: str, team: str | None, user: str | None, agent: str
) -> None:
    """Whatever characters its ids have; costs of a spender are found under one key only."""
    key = spender_key(organization, team, user, agent)
    assert parse_spender(key) == (organization, team, user, agent)
    assert key.isascii()
    assert " " not in key


def test_costs_are_exact() -> None:
    """Nano-dollars, whatever way they were given."""
    made = [record(cost_usd="999999999.999999999"), record(cost_usd=0.1), record(cost_usd=3)]
    frame = encode_frame(made)
    assert frame is not None
    assert [to_nano(r.cost_usd) for r in decode_frame(frame)] == [to_nano(r.cost_usd) for r in made]
