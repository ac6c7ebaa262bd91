"""Framing: records of usage to a frame, and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import astuple

from outlay.frame import (
    COLUMNS,
    ID_BYTES,
    OCCURRED_S_MAX,
    RECORDS_MAX,
    TIME_BYTES,
    US_PER_S,
    Call,
    Frame,
    FrameError,
    Header,
    encode_header,
    is_frame,
    join_frame,
    open_frame,
    pack_column,
    pack_times,
)
from outlay.money import to_nanos, to_usd
from outlay.spender import Spender, parse_spender, spender_key
from outlay.usage import NO_METADATA, UsageRecord, decode_records, encode_usage

FRAME_RECORDS_MIN = 8
"""From how many records on a message is a frame; of fewer JSON is hardly larger."""

HEADER_BYTES_MAX = 1_024
"""What a frame's header takes at most without what its records put into it, in bytes."""

_T = TypeVar("_T")
_RECORD_BYTES_MAX = ID_BYTES + TIME_BYTES + 8 * len(COLUMNS) + 1  # and a space between spenders
_INDEX_BYTES_MAX = 8
_NAME_TYPES: set[type] = {str, type(None)}
_UUID_LENGTH = 36
_HEX_LENGTH = 2 * ID_BYTES
_HEX_AT = [at for at in range(_UUID_LENGTH) if at not in (8, 13, 18, 23)]


class FramePart(NamedTuple):
    """Some records on their way into a frame, by columns."""

    ids: bytes
    times_s: list[float]
    spenders: list[str]
    calls: list[tuple[Any, ...]]
    costs_nano: list[int]
    input_tokens: Sequence[int]
    output_tokens: Sequence[int]
    executions: Sequence[int]
    sequences: Sequence[int]
    metadata: Sequence[msgspec.Raw]
    size_bytes: int
    """What it adds to a frame at most, beside `HEADER_BYTES_MAX`."""


def frame_part(records: Sequence[UsageRecord]) -> FramePart | None:
    """Valid records by columns; None where one of them cannot stand in a frame exactly as it is.

    That is one whose id is no UUID in lower case, that is dated before 1970 or beyond
    `OCCURRED_S_MAX`, or that holds what is no text, number or truth itself but is encoded like one.
    To make it while the records are at hand takes half as long as later.
    """
    (
        ids, occurred_at, organizations, agents, costs, teams, users, providers, models,
        input_tokens, output_tokens, successes, executions, sources, sequences, kinds, metadata,
    ) = zip(*map(astuple, records), strict=True)  # fmt: skip
    names = organizations, agents, teams, users, providers, models
    numbers = input_tokens, output_tokens, executions, sequences
    if not (
        _are(_NAME_TYPES, *names)
        and _are({int}, *numbers)
        and _are({str}, ids, sources, kinds)
        and _are({bool}, successes)
    ):
        return None
    packed_ids = _pack_ids(ids)
    times_s = list(map(datetime.timestamp, occurred_at))
    if packed_ids is None or min(times_s) < 0 or max(times_s) > OCCURRED_S_MAX:
        return None
    spenders = list(map(spender_key, organizations, teams, users, agents))
    calls = _calls((providers, models, successes, kinds, sources))
    return FramePart(
        packed_ids,
        times_s,
        spenders,
        calls,
        to_nanos(costs),
        input_tokens,
        output_tokens,
        executions,
        sequences,
        metadata,
        _size_bytes(spenders, calls, metadata),
    )


def _are(types: set[type], *columns: Sequence[Any]) -> bool:
    """Whether all values are of these types, not of others derived from them."""
    return all(set(map(type, column)) <= types for column in columns)


def _size_bytes(
    spenders: Sequence[str], calls: Sequence[tuple[Any, ...]], metadata: Sequence[msgspec.Raw]
) -> int:
    size_bytes = len(spenders) * _RECORD_BYTES_MAX + sum(map(len, spenders))
    size_bytes += len(encode_header(list(set(calls))))
    for raw in metadata:
        if raw is not NO_METADATA:
            size_bytes += len(bytes(raw)) + _INDEX_BYTES_MAX
    return size_bytes


def join_parts(parts: Sequence[FramePart]) -> bytes:
    """The frame of these records, `RECORDS_MAX` at most."""
    times_s, spenders, calls, costs_nano, inputs, outputs, executions, sequences, metadata = (
        list(chain.from_iterable(columns)) for columns in list(zip(*parts, strict=True))[1:-1]
    )
    names, spender_numbers = _number(spenders)
    if len(names) == len(spenders):
        spender_numbers = (0,)  # they stand in the order of the records
    kinds, call_numbers = _number(calls)
    values = (
        spender_numbers, call_numbers, costs_nano, inputs, outputs, executions, sequences,
    )  # fmt: skip
    packed = [pack_column(column) for column in values]
    header = Header(
        count=len(times_s),
        spenders=" ".join(names),
        calls=[Call(*kind) for kind in kinds],
        metadata={i: raw for i, raw in enumerate(metadata) if raw is not NO_METADATA},
        **{name: column for name, (column, _) in zip(COLUMNS, packed, strict=True)},
    )
    ids = b"".join([part.ids for part in parts])
    columns = [column for _, column in packed]
    return join_frame(encode_header(header), ids, pack_times(times_s), columns)


def encode_frame(records: Sequence[UsageRecord]) -> bytes | None:
    """The frame of valid records; None where there is none (see `frame_part`).

    Costs come back as `to_usd` writes them, and times in UTC.
    """
    if not 0 < len(records) <= RECORDS_MAX:
        return None
    part = frame_part(records)
    return None if part is None else join_parts([part])


def _pack_ids(ids: Sequence[str]) -> bytes | None:
    joined = "".join(ids)
    digits = joined.replace("-", "")
    if (
        len(joined) != _UUID_LENGTH * len(ids)
        or len(digits) != _HEX_LENGTH * len(ids)
        or digits != digits.lower()
    ):
        return None
    return bytes.fromhex(digits)


def _calls(columns: tuple[Sequence[Any], ...]) -> list[tuple[Any, ...]]:
    """The call of each record."""
    if all(column.count(column[0]) == len(column) for column in columns):  # as nearly always
        return [tuple(column[0] for column in columns)] * len(columns[0])
    return list(zip(*columns, strict=True))


def _number(values: list[_T]) -> tuple[list[_T], Sequence[int]]:
    """The different ones, in the order in which they come, and which of them each is."""
    if values.count(values[0]) == len(values):
        return values[:1], (0,)
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return list(numbers), list(map(numbers.__getitem__, values))


class FrameColumns(NamedTuple):
    """What a frame says of its records, each a list with one value a record.

    Times are in microseconds since 1970, costs in nano-dollars. `metadata` is by index, of those
    records that have some.
    """

    ids: list[str]
    spenders: list[Spender]
    calls: list[Call]
    occurred_us: list[int]
    costs_nano: list[int]
    input_tokens: list[int]
    output_tokens: list[int]
    executions: list[int]
    sequences: list[int]
    metadata: dict[int, Any]


def decode_columns(value: bytes) -> FrameColumns:
    """What a frame says of its records; whether they count is still to be judged.

    Raises:
        FrameError: it is none, or holds what no record may.
    """
    frame = open_frame(value)
    header = frame.header
    metadata = header.metadata
    if metadata and not 0 <= min(metadata) <= max(metadata) < header.count:
        raise FrameError("not a frame: its metadata is not that of its records")
    calls = frame.numbers("call")
    if set(calls) != set(range(len(header.calls))):
        raise FrameError("not a frame: its calls are not those of its records")
    return FrameColumns(
        ids=_ids(frame),
        spenders=_spenders(frame),
        calls=[header.calls[number] for number in calls],
        occurred_us=frame.occurred_us,
        costs_nano=frame.numbers("cost_nano"),
        input_tokens=frame.numbers("input_tokens"),
        output_tokens=frame.numbers("output_tokens"),
        executions=frame.numbers("executions"),
        sequences=frame.numbers("sequence"),
        metadata=metadata,
    )


def _ids(frame: Frame) -> list[str]:
    digits = frame.ids.hex().encode()
    text = bytearray(b"-" * _UUID_LENGTH * frame.header.count)
    for number, at in enumerate(_HEX_AT):  # a digit of all at a time, not an id
        text[at::_UUID_LENGTH] = digits[number::_HEX_LENGTH]
    joined = text.decode()
    return [joined[at : at + _UUID_LENGTH] for at in range(0, len(joined), _UUID_LENGTH)]


def _spenders(frame: Frame) -> list[Spender]:
    keys = frame.header.spenders.split(" ")
    numbers = frame.numbers("spender")
    if len(keys) == frame.header.count and not any(numbers):
        numbers = list(range(len(keys)))
    if set(numbers) != set(range(len(keys))):
        raise FrameError("not a frame: its spenders are not those of its records")
    try:
        spenders = [parse_spender(key) for key in keys]
    except ValueError as error:
        raise FrameError(f"not a frame: {error}") from None
    return [spenders[number] for number in numbers]


def decode_frame(value: bytes) -> list[UsageRecord]:
    """The records of a frame; whether they count is still to be judged.

    Raises:
        FrameError: it is none, or holds what no record may.
    """
    columns = decode_columns(value)
    metadata = columns.metadata
    return [
        UsageRecord(
            id=id,
            occurred_at=datetime.fromtimestamp(at_us / US_PER_S, UTC),
            organization_id=spender[0],
            team_id=spender[1],
            user_id=spender[2],
            agent_id=spender[3],
            cost_usd=to_usd(cost_nano),
            provider=call.provider,
            model=call.model,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            success=call.success,
            executions=executions,
            source=call.source,
            sequence=sequence,
            kind=call.kind,
            metadata=metadata.get(index, NO_METADATA),
        )
        for index, (
            id, spender, call, at_us, cost_nano, input_tokens, output_tokens, executions, sequence,
        ) in enumerate(zip(*columns[:-1], strict=True))
    ]  # fmt: skip


def encode_message(records: list[UsageRecord]) -> bytes:
    """A usage message with valid records: a frame of many, and JSON of few."""
    frame = encode_frame(records) if len(records) >= FRAME_RECORDS_MIN else None
    return encode_usage(records) if frame is None else frame


def decode_message(message: bytes) -> list[UsageRecord]:
    """The records of a message that `encode_message` made."""
    return decode_frame(message) if is_frame(message) else decode_records(message)
