"""Frame: many records of usage in one message, by columns.

What an array of JSON says again in each record stands here once, and a number takes the bytes that
it needs: a frame has a fifth of the size, and who adds up asks each column once. The way from
records to a frame, and back, is in `outlay.framing`.

    magic     4 bytes, `OUT1`, which no JSON begins with
    length    4 bytes, of the header
    header    JSON, see `Header`
    ids       16 bytes a record: the UUIDs
    times     8 bytes a record: when it occurred, in seconds since 1970, as an IEEE 754 double
    columns   in the order of `COLUMNS`: unsigned integers of 1, 2, 4 or 8 bytes, one a record, to
              each of which the column's base is added

All numbers are little-endian. Where all records have the same number, the base alone says it.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from outlay.money import COST_NANO_MAX
from outlay.nesting import NESTING_MAX, depth_exceeds
from outlay.usage import EXECUTIONS_MAX, SEQUENCE_MAX, TOKENS_MAX, Id, Source

MAGIC = b"OUT1"

RECORDS_MAX = 2_000
"""How many records a frame may hold: each may come to have a spender of kilobytes that stands in
the frame once."""

OCCURRED_S_MAX = 2**32 - 1
"""Up to when a record in a frame may be dated, in seconds since 1970: so far a double tells one
microsecond from the next. The year 2106."""

ID_BYTES = 16
TIME_BYTES = 8
US_PER_S = 10**6
_HEAD_BYTES = 8
_WIDTHS = {"": 0, "B": 1, "H": 2, "I": 4, "Q": 8}


class Call(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What many records have in common beside their spender."""

    provider: Id | None
    model: Id | None
    success: bool
    kind: Literal["usage", "correction"]
    source: Source


class Column(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A column of integers: `code` is that of `array` for its unsigned ones, empty for none."""

    code: Literal["", "B", "H", "I", "Q"]
    base: int

    @property
    def width(self) -> int:
        """How many bytes it takes for a record."""
        return _WIDTHS[self.code]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a frame holds.

    `spenders` are the keys of all spenders (`outlay.spender`), each once, between spaces, and
    `calls` what there is else; which of them a record's are is said by two columns. Where there
    are as many spenders as records, they stand in the records' order, and their column is 0.
    `metadata` is of the records that have some, by their index.
    """

    count: Annotated[int, msgspec.Meta(ge=1, le=RECORDS_MAX)]
    spenders: str
    calls: Annotated[list[Call], msgspec.Meta(min_length=1, max_length=RECORDS_MAX)]
    spender: Column
    call: Column
    cost_nano: Column
    input_tokens: Column
    output_tokens: Column
    executions: Column
    sequence: Column
    metadata: dict[int, msgspec.Raw] = {}


COLUMNS = (
    "spender", "call", "cost_nano", "input_tokens", "output_tokens", "executions", "sequence",
)  # fmt: skip
"""The columns, in the order in which they follow the times."""

BOUNDS = {
    "spender": (0, RECORDS_MAX - 1),
    "call": (0, RECORDS_MAX - 1),
    "cost_nano": (-COST_NANO_MAX, COST_NANO_MAX),
    "input_tokens": (-TOKENS_MAX, TOKENS_MAX),
    "output_tokens": (-TOKENS_MAX, TOKENS_MAX),
    "executions": (-EXECUTIONS_MAX, EXECUTIONS_MAX),
    "sequence": (0, SEQUENCE_MAX),
}
"""What a column may hold, the lowest and the highest."""

NO_COLUMN = Column("", 0)

encode_header = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode


class FrameError(ValueError):
    """Bytes that are no frame."""


class Frame(NamedTuple):
    """A frame whose header is read, and where what follows it begins, in bytes."""

    value: bytes
    header: Header
    ids_at: int
    times_at: int
    columns_at: dict[str, int]

    @property
    def ids(self) -> bytes:
        """The ids of all records, one after the other."""
        return self.value[self.ids_at : self.times_at]

    @property
    def occurred_us(self) -> list[int]:
        """When each occurred, in microseconds since 1970.

        Raises:
            FrameError: a time is before that, beyond `OCCURRED_S_MAX`, or none.
        """
        end = self.times_at + TIME_BYTES * self.header.count
        times = _unpack("d", self.value[self.times_at : end])
        if not all(0 <= at_s <= OCCURRED_S_MAX for at_s in times):  # no number is neither
            raise FrameError("not a frame: a time is outside its bounds")
        return [round(at_s * US_PER_S) for at_s in times]

    def numbers(self, name: str) -> list[int]:
        """A column's numbers, one for each record.

        Raises:
            FrameError: one is outside its bounds.
        """
        column: Column = getattr(self.header, name)
        count = self.header.count
        numbers = [column.base] * count
        if column.code:
            at = self.columns_at[name]
            packed = _unpack(column.code, self.value[at : at + column.width * count])
            base = column.base
            numbers = [base + number for number in packed] if base else packed.tolist()
        low, high = BOUNDS[name]
        if not low <= min(numbers) <= max(numbers) <= high:
            raise FrameError(f"not a frame: {name} is outside {low} to {high}")
        return numbers


def is_frame(value: bytes) -> bool:
    """Whether a usage message says that it is a frame."""
    return value[: len(MAGIC)] == MAGIC


def open_frame(value: bytes) -> Frame:
    """Read a frame's header, and find its columns: each has a number for every record.

    Raises:
        FrameError: it is none.
    """
    start = _HEAD_BYTES + int.from_bytes(value[len(MAGIC) : _HEAD_BYTES], "little")
    if not is_frame(value) or not _HEAD_BYTES < start <= len(value):
        raise FrameError("not a frame")
    encoded = value[_HEAD_BYTES:start]
    if depth_exceeds(encoded, NESTING_MAX):  # how deep a decoder goes depends on who asks it
        raise FrameError(f"not a frame: its header nests deeper than {NESTING_MAX} levels")
    try:
        header = _decode_header(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not a frame: {error}") from None
    columns_at = {}
    times_at = start + ID_BYTES * header.count
    at = times_at + TIME_BYTES * header.count
    for name in COLUMNS:
        columns_at[name] = at
        at += getattr(header, name).width * header.count
    if at != len(value):
        raise FrameError(f"not a frame: {len(value)} bytes, where its header tells {at}")
    return Frame(value, header, start, times_at, columns_at)


def join_frame(header: bytes, ids: bytes, times: bytes, columns: Sequence[bytes]) -> bytes:
    """The frame of a header and what follows it."""
    return b"".join((MAGIC, len(header).to_bytes(4, "little"), header, ids, times, *columns))


def pack_times(times_s: Sequence[float]) -> bytes:
    """The bytes of times in seconds since 1970."""
    return _pack("d", times_s)


def pack_column(values: Sequence[int]) -> tuple[Column, bytes]:
    """The column of these numbers, one or more, and its bytes."""
    low, high = min(values), max(values)
    if low == high:
        return Column("", low), b""
    if low >= 0:
        low = 0  # to take a base away would take longer than what it saves
    code = _code(high - low)
    return Column(code, low), _pack(code, [value - low for value in values] if low else values)


def _pack(code: str, values: Sequence[Any]) -> bytes:
    """Numbers of an `array`'s type as little-endian bytes."""
    numbers = array(code, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _unpack(code: str, packed: bytes) -> array[Any]:
    """The same back."""
    numbers = array(code, packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _code(number: int) -> Literal["", "B", "H", "I", "Q"]:
    """The narrowest type that a number fits."""
    if number < 1 << 16:
        return "B" if number < 1 << 8 else "H"
    return "I" if number < 1 << 32 else "Q"
