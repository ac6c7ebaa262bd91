"""Frame sums: a frame adds what its records would one by one, or is left to who looks closely."""

from __future__ import annotations

import math
import struct
import tracemalloc
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from outlay.frame import COLUMNS, OCCURRED_S_MAX, Call, Column, join_frame, open_frame
from outlay.framing import encode_frame
from outlay.judging import MESSAGE_BYTES_MAX, Usage, decode_usage, latest_us
from outlay.spender import Spender
from outlay.usage import EXECUTIONS_MAX, TOKENS_MAX, UsageRecord
from streams.frame_sums import FrameSums
from streams.plain_frames import SUM_MAX, plain_frames
from streams.sums import Sums
from tests.streams.flat import by_window

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
NOON_S = NOW.timestamp()


def record(**fields: Any) -> UsageRecord:
    given = {"organization_id": "acme", "agent_id": "a", "cost_usd": "0.01", "occurred_at": NOW}
    return UsageRecord.new(**given | fields)


usual = st.builds(
    record,
    organization_id=st.sampled_from(["acme", "a/b"]),
    team_id=st.sampled_from([None, "t 1"]),
    user_id=st.sampled_from([None, "u1", "u2"]),
    agent_id=st.sampled_from(["a1", "a2", "ä"]),
    cost_usd=st.sampled_from(["0.01", "0.000000001", "9999999.999999999", "0"]),
    input_tokens=st.sampled_from([0, 255, 256, 70_000, 10**12]),
    output_tokens=st.integers(0, 300),
    executions=st.sampled_from([1, 1, 1, 0, 10**9]),
    model=st.sampled_from([None, "m"]),
    sequence=st.sampled_from([0, 1, 2**62]),
    occurred_at=st.integers(0, 40 * 10**9).map(lambda us: NOW + timedelta(microseconds=us)),
)
unusual = st.one_of(
    st.builds(record, kind=st.just("correction"), cost_usd=st.sampled_from(["-0.5", "0.5"])),
    st.builds(record, metadata=st.sampled_from([None, {"a": 1}])),
    st.builds(
        record,
        occurred_at=st.sampled_from([-1, 0, 1, 2]).map(lambda days: NOW + timedelta(days=days))
        | st.just(NOW + timedelta(days=1, microseconds=1)),
    ),
)
columns = st.builds(
    Column,
    st.sampled_from(["", "B", "H", "I", "Q"]),
    st.sampled_from([
        -1, 0, 1, 2, 255, 2**31, TOKENS_MAX, EXECUTIONS_MAX, 10**18, 2**62, 2**63, 2**64,
        OCCURRED_S_MAX, NOW_MS * 1000, (NOW_MS + 86_400_000) * 1000,
    ]),
)  # fmt: skip
calls = st.lists(
    st.builds(
        Call, st.none(), st.none(), st.booleans(), st.sampled_from(["usage", "correction"]),
        st.just("s"),
    ),
    min_size=1, max_size=3,
)  # fmt: skip
spenders = st.lists(
    st.sampled_from(["acme///a1", "acme///a2", "acme/t/u/a", "acme///", "%61///b", "x"]),
    min_size=1, max_size=4,
).map(" ".join)  # fmt: skip
changes = st.fixed_dictionaries({}, optional={
    "spenders": spenders, "calls": calls, "spender": columns, "call": columns,
    "cost_nano": columns, "input_tokens": columns,
    "output_tokens": columns, "executions": columns, "sequence": columns,
    "metadata": st.just({0: msgspec.Raw(b"{}")}),
})  # fmt: skip


def changed(frame: bytes, fields: dict[str, Any], filler: bytes) -> bytes:
    """The frame with another header, and as many bytes after it as this asks for."""
    opened = open_frame(frame)
    header = msgspec.structs.replace(opened.header, **fields)
    body = bytearray(frame[opened.ids_at :])
    need = 24 * header.count + sum(
        column.width * header.count
        for name in header.__struct_fields__
        if isinstance(column := getattr(header, name), Column)
    )
    body = (body + filler * need)[:need]
    encoded = msgspec.json.encode(header)
    return frame[:4] + len(encoded).to_bytes(4, "little") + encoded + bytes(body)


Packed = tuple[Column, list[int]]
"""A column, and what stands in it."""


def repacked(frame: bytes, columns: dict[str, Packed]) -> bytes:
    """The frame with other columns, whose numbers are taken in turn for each record."""
    opened = open_frame(frame)
    count = opened.header.count
    header = msgspec.structs.replace(
        opened.header, **{name: column for name, (column, _) in columns.items()}
    )
    parts = []
    for name in COLUMNS:
        column, at = getattr(opened.header, name), opened.columns_at[name]
        part = frame[at : at + column.width * count]
        if name in columns:
            column, numbers = columns[name]
            part = b"".join(
                (numbers[i % len(numbers)] % 256**column.width).to_bytes(column.width, "little")
                for i in range(count)
            )
        parts.append(part)
    times = frame[opened.times_at : opened.times_at + 8 * count]
    return join_frame(msgspec.json.encode(header), opened.ids, times, parts)


packed = st.tuples(
    st.builds(
        Column,
        st.sampled_from(["", "B", "H", "I", "Q"]),
        st.sampled_from([0, 0, 0, 1, 2, 255, -1, 10**9, 2**63 - 1]),
    ),
    st.lists(
        st.sampled_from(
            [0, 1, 2, 3, 255, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 2]
        ),
        min_size=1, max_size=4,
    ),
)  # fmt: skip
usual_frames = st.lists(usual, min_size=1, max_size=5).map(encode_frame)
hostile_frames = st.one_of(
    st.lists(usual | unusual, min_size=1, max_size=3).map(encode_frame),
    st.builds(changed, usual_frames, changes, st.sampled_from([b"\0", b"\1", b"\xff"])),
    st.builds(
        repacked, usual_frames, st.dictionaries(st.sampled_from(COLUMNS), packed, max_size=2)
    ),
)  # fmt: skip


def one_by_one(usages: list[Usage]) -> dict[Spender, list[int]]:
    sums: dict[Spender, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for usage, cost_nano in usages:
        held = sums[usage.organization_id, usage.team_id, usage.user_id, usage.agent_id]
        for i, amount in enumerate(
            (cost_nano, usage.executions, usage.input_tokens, usage.output_tokens)
        ):
            held[i] += amount
    return dict(sums)


def used_by(sums: FrameSums) -> dict[Spender, list[int]]:
    return dict(zip(sums._spenders, sums._rows.tolist(), strict=True))


def check(frame: bytes) -> bool:
    """Whether the frame was plain; if so, it has added what its records do."""
    plain = plain_frames([frame], latest_us(NOW_MS))
    sums = FrameSums()
    if plain is None or not sums.add(plain):
        assert len(sums) == 0
        return False
    usages, rejections = decode_usage(frame, NOW_MS)
    assert not rejections
    assert used_by(sums) == one_by_one(usages)
    assert {usage.record.occurred_at.toordinal() for usage in usages} == {plain.day}
    assert len(usages) == plain.size
    return True


@given(st.lists(usual, min_size=1, max_size=9))
def test_usual_records_are_plain(made: list[UsageRecord]) -> None:
    """They are what the way past each record is for."""
    frame = encode_frame(made)
    assert frame is not None
    assert check(frame)


@given(st.lists(usual | unusual, min_size=1, max_size=5))
def test_what_is_not_plain_is_left(made: list[UsageRecord]) -> None:
    """What is negative, metadata, other days, and dates that are too far ahead."""
    frame = encode_frame(made)
    assert frame is not None
    is_plain = check(frame)
    days = {each.occurred_at.date() for each in made}
    expected = (
        all(each.cost_usd[:1] != "-" and bytes(each.metadata) == b"{}" for each in made)
        and len(days) == 1
        and max(each.occurred_at for each in made) <= NOW + timedelta(days=1)
    )
    assert is_plain == expected


@given(st.lists(usual, min_size=1, max_size=4), changes, st.sampled_from([b"\0", b"\1", b"\xff"]))
def test_what_is_plain_counts_as_it_does_one_by_one(
    made: list[UsageRecord], fields: dict[str, Any], filler: bytes
) -> None:
    """Also of frames that no encoder of ours has made."""
    frame = encode_frame(made)
    assert frame is not None
    event("plain" if check(changed(frame, fields, filler)) else "left")


@pytest.mark.parametrize(
    ("name", "column", "is_plain"),
    [
        ("input_tokens", Column("", -1), False),
        ("input_tokens", Column("", TOKENS_MAX), True),
        ("input_tokens", Column("", TOKENS_MAX + 1), False),
        ("input_tokens", Column("B", TOKENS_MAX - 9), True),
        ("input_tokens", Column("B", TOKENS_MAX - 8), False),
        ("cost_nano", Column("Q", -4), False),
        ("executions", Column("H", EXECUTIONS_MAX), False),
        ("sequence", Column("", 2**63 - 1), True),
        ("sequence", Column("", 2**63), False),
        ("sequence", Column("", -1), False),
    ],
)
def test_the_bounds_of_a_column(name: str, column: Column, is_plain: bool) -> None:
    """Up to them, and not beyond, whatever its width is; the highest number of it is 9."""
    frame = encode_frame([record(), record()])
    assert frame is not None
    opened = open_frame(frame)
    assert all(getattr(opened.header, each) == Column("", getattr(opened.header, each).base)
               for each in ("input_tokens", "cost_nano", "executions", "sequence"))  # fmt: skip
    numbers = [
        number.to_bytes(column.width, "little") if column.width else b"" for number in (3, 9)
    ]
    header = msgspec.json.encode(msgspec.structs.replace(opened.header, **{name: column}))
    value = frame[:4] + len(header).to_bytes(4, "little") + header
    value += frame[opened.ids_at : opened.times_at + 16] + b"".join(numbers)
    assert check(value) == is_plain
    if not is_plain:
        assert decode_usage(value, NOW_MS)[1]


@pytest.mark.parametrize(
    ("times_s", "is_plain"),
    [
        ((NOON_S, NOON_S + 1e-6), True),
        ((NOON_S + 86_400, NOON_S + 86_400), True),
        ((NOON_S + 86_400, NOON_S + 86_400.000001), False),
        ((NOON_S - 43_200, NOON_S + 43_199.999999), True),
        ((NOON_S - 43_200.000001, NOON_S), False),
        ((NOON_S, NOON_S + 43_200), False),
        ((NOON_S, math.nan), False),
        ((math.nan, NOON_S), False),
        ((-1.0, -1.0), False),
        ((0.0, 86_399.999999), True),
        ((OCCURRED_S_MAX, math.inf), False),
    ],
)
def test_the_bounds_of_times(times_s: tuple[float, float], is_plain: bool) -> None:
    """Of one day, in UTC, and none more than a day ahead of the message."""
    frame = encode_frame([record(), record()])
    assert frame is not None
    at = open_frame(frame).times_at
    assert check(frame[:at] + struct.pack("<2d", *times_s) + frame[at + 16 :]) == is_plain


@given(usual_frames, st.dictionaries(st.sampled_from(COLUMNS), packed, min_size=1, max_size=3))
def test_what_is_plain_counts_whatever_its_columns_hold(
    frame: bytes, columns: dict[str, Packed]
) -> None:
    """Each width, to the ends of its type, below and above what an int64 holds."""
    event("plain" if check(repacked(frame, columns)) else "left")


@pytest.mark.parametrize("name", ["spender", "call"])
@pytest.mark.parametrize(
    ("column", "numbers", "is_plain"),
    [
        (Column("B", 0), [1, 0], True),
        (Column("", 0), [], False),
        (Column("B", 0), [2, 0], False),
        (Column("B", 1), [0, 0], False),
        (Column("B", 1), [255, 0], False),
        (Column("H", 1), [2**16 - 1, 0], False),
        (Column("I", 1), [2**32 - 1, 0], False),
        (Column("Q", 0), [2**64 - 1, 0], False),
        (Column("Q", 1), [2**64 - 1, 0], False),  # as an int64, -1 and 0 above a base of 1
        (Column("Q", 1), [2**63, 0], False),
        (Column("", 2**64), [], False),
        (Column("B", 2**70), [1, 0], False),
        (Column("B", -1), [1, 2], False),
    ],
)
def test_the_bounds_of_numbers(
    name: str, column: Column, numbers: list[int], is_plain: bool
) -> None:
    """What says which spender and which call a record has wraps at no width; alone or among others,
    on either side of a frame whose spenders stand in order.
    """
    made = [record(agent_id=agent, model=agent, user_id="u") for agent in ("a", "b")]
    in_order = encode_frame([record(agent_id="c"), record(agent_id="d")])
    frame = encode_frame(made)
    assert frame is not None
    assert in_order is not None
    value = repacked(frame, {name: (column, numbers or [0])})
    is_plain = is_plain or (name == "spender" and column == Column("", 0))  # in the records' order
    assert check(value) == is_plain
    if not is_plain and column.base >= 0:
        assert decode_usage(value, NOW_MS)[1]
    for run in ([value, in_order], [in_order, value], [in_order, value, in_order]):
        assert (plain_frames(run, latest_us(NOW_MS)) is not None) == is_plain


@pytest.mark.parametrize("name", ["spender", "call"])
def test_a_number_is_bound_by_its_own_frame(name: str) -> None:
    """What is beyond it is no spender, and no call, of the frame after it."""
    few = encode_frame([record(agent_id=agent, model=agent) for agent in ("a", "b", "b")])
    many = encode_frame([record(agent_id=agent, model=agent) for agent in ("c", "d", "e")])
    assert few is not None
    assert many is not None
    beyond = repacked(few, {name: (Column("B", 0), [0, 1, 2])})
    assert not check(beyond)
    for run in ([beyond, many], [many, beyond], [many, beyond, many]):
        assert plain_frames(run, latest_us(NOW_MS)) is None


def test_a_frame_that_is_too_large_is_not_plain() -> None:
    """To the totals as to everybody, whatever a broker lets through compressed."""
    frame = encode_frame([record(), record()])
    assert frame is not None
    at = open_frame(frame).ids_at
    header = frame[8:at] + b" " * MESSAGE_BYTES_MAX
    value = frame[:4] + len(header).to_bytes(4, "little") + header + frame[at:]
    assert not check(value)
    assert decode_usage(value, NOW_MS)[1]


def test_frames_take_little_memory() -> None:
    """A million spenders of one record are told from their number, before there is a list of each
    frame's, and an array of all.
    """
    frame = encode_frame([record()])
    assert frame is not None
    value = changed(frame, {"spenders": " " * 1_000_000}, b"")
    assert len(value) <= MESSAGE_BYTES_MAX
    tracemalloc.start()
    try:
        assert plain_frames([value] * 16, latest_us(NOW_MS)) is None
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_a_frame_that_is_not_added_leaves_nothing() -> None:
    """Else who sends garbage of many days would fill the memory beside all bounds."""
    frame = encode_frame([record()])
    assert frame is not None
    plain = plain_frames([changed(frame, {"spenders": "acme///"}, b"")], latest_us(NOW_MS))
    assert plain is not None
    sums = Sums()
    assert not sums.add_frames(plain)
    assert (sums.size, by_window(sums), sums._frames) == (0, {}, {})


def test_a_spender_that_stands_twice_has_both() -> None:
    """No encoder of ours does so; what is read is what counts all the same."""
    frame = encode_frame([record(agent_id=agent, input_tokens=5) for agent in ("a", "b")])
    assert frame is not None
    assert check(changed(frame, {"spenders": "acme///a acme///a"}, b""))


@given(st.lists(st.lists(usual, min_size=1, max_size=5), max_size=5))
def test_frames_come_to_what_their_records_do(messages: list[list[UsageRecord]]) -> None:
    """Scopes and windows have the same sums, whichever way the records came."""
    framed, plain = Sums(), Sums()
    for made in messages:
        frame = encode_frame(made)
        assert frame is not None
        found = plain_frames([frame], latest_us(NOW_MS))
        assert found is not None
        assert framed.add_frames(found)
        usages, _ = decode_usage(frame, NOW_MS)
        plain.add_apart([u.record for u in usages], [u.cost_nano for u in usages])
    assert by_window(framed) == by_window(plain)
    assert by_window(framed) == by_window(plain)  # asking changes nothing


@given(st.lists(usual_frames | usual_frames | hostile_frames, min_size=1, max_size=4))
def test_many_frames_are_plain_where_each_is(values: list[bytes]) -> None:
    """They hold what each does; else one is not, or they are of several days, or too much."""
    each = [plain_frames([value], latest_us(NOW_MS)) for value in values]
    together = plain_frames(values, latest_us(NOW_MS))
    plain = [frames for frames in each if frames is not None]
    are_plain = (
        len(plain) == len(values)
        and len({frames.day for frames in plain}) == 1
        and sum(frames.sum_max for frames in plain) <= SUM_MAX
    )
    event("plain" if are_plain else "left")
    assert (together is not None) == are_plain
    if together is None:
        return
    assert together.day == plain[0].day
    assert together.size == sum(frames.size for frames in plain)
    assert together.sum_max == sum(frames.sum_max for frames in plain)
    sums, apart = FrameSums(), FrameSums()
    is_known = [apart.add(frames) for frames in plain]
    assert sums.add(together) == all(is_known)
    assert used_by(sums) == (used_by(apart) if all(is_known) else {})


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from(["", "B", "H", "I", "Q"]), st.booleans()),
        min_size=2, max_size=5,
    ),
    st.sampled_from([0, 1, 10**12 - 300]),
)  # fmt: skip
def test_columns_of_many_widths_add_up(shapes: list[tuple[int, Any, bool]], base: int) -> None:
    """Also where what stands in them is in one frame a byte, and in the next none or eight."""
    values = []
    for count, code, in_order in shapes:
        made = [record(agent_id=f"a{i if in_order else 0}") for i in range(count)]
        frame = encode_frame(made)
        assert frame is not None
        numbers = (Column(code, base), [7, 254, 255])
        values.append(repacked(frame, {"input_tokens": numbers, "cost_nano": numbers}))
    plain = plain_frames(values, latest_us(NOW_MS))
    assert plain is not None
    sums = FrameSums()
    assert sums.add(plain)
    usages = [usage for value in values for usage in decode_usage(value, NOW_MS)[0]]
    assert used_by(sums) == one_by_one(usages)


def test_frames_that_come_near_the_end_of_an_integer_are_not_plain_together() -> None:
    """Each alone is; what all may come to is what says it."""
    most = encode_frame([record(cost_usd="999999999.999999999")])
    assert most is not None
    fit = SUM_MAX // (10**18 - 1)
    assert plain_frames([most] * fit, latest_us(NOW_MS)) is not None
    assert plain_frames([most] * (fit + 1), latest_us(NOW_MS)) is None


def test_sums_that_near_the_end_of_an_integer_are_left() -> None:
    """What they hold stays right, and the next flush takes it."""
    most = encode_frame([record(cost_usd="999999999.999999999")])
    assert most is not None
    plain = plain_frames([most], latest_us(NOW_MS))
    assert plain is not None
    sums = FrameSums()
    added = 0
    while sums.add(plain):
        added += 1
    assert added == SUM_MAX // (10**18 - 1)
    (amounts,) = used_by(sums).values()
    assert amounts[0] == added * (10**18 - 1)


def test_many_spenders_find_room() -> None:
    """More than there is room for at first."""
    sums = FrameSums()
    for start in range(0, 5_000, 1_000):
        frame = encode_frame(
            [record(agent_id=f"a{n}", input_tokens=n) for n in range(start, start + 1_000)]
        )
        assert frame is not None
        plain = plain_frames([frame], latest_us(NOW_MS))
        assert plain is not None
        assert sums.add(plain)
    assert {spender[3]: amounts[2] for spender, amounts in used_by(sums).items()} == {
        f"a{n}": n for n in range(5_000)
    }
