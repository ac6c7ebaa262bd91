"""Plain usage: runs of records that count at first sight, judged together.

`decode_plain` says of a run what `decode_usage` would say of each of its messages, or nothing: what
it does not recognise as plain is for `decode_usage` to judge. It asks about columns, not records:
the checks that take a function call each cost a fraction of the decoding that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from outlay.frame import FrameError, is_frame
from outlay.framing import FrameColumns, decode_columns
from outlay.judging import (
    MESSAGE_BYTES_MAX,
    RECORDS_PER_MESSAGE_MAX,
    TIMESTAMP_MS_MAX,
    latest_time,
    latest_us,
)
from outlay.money import PLAIN_LENGTH_MAX, plain_nanos
from outlay.usage import NO_METADATA, ExecutionsUsed, TokensUsed, UsageRecord

RUN_MAX = 100
"""How many messages are worth judging together: more fall out of the processor's cache."""

ARRAY_BYTE = ord("[")
"""What a message with many records begins with."""

_Cost = Annotated[str, msgspec.Meta(max_length=PLAIN_LENGTH_MAX)]
_Uuid = Annotated[str, msgspec.Meta(min_length=36, max_length=36)]
_Absent = Annotated[int, msgspec.Meta(ge=1, le=0)]  # nothing that could be there is of this type


class _PlainRecord(UsageRecord, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A record as nearly all are: the decoder itself refuses the others."""

    id: _Uuid
    cost_usd: _Cost
    input_tokens: TokensUsed = 0
    output_tokens: TokensUsed = 0
    executions: ExecutionsUsed = 1
    metadata: _Absent = NO_METADATA  # type: ignore[assignment]


class PlainUsage(NamedTuple):
    """Records that all count, with their costs in nano-dollars.

    `day` is the ordinal of the UTC day that they are of; None where they are of several.
    """

    records: Sequence[UsageRecord]
    costs_nano: Sequence[int]
    day: int | None


_decode_one = msgspec.json.Decoder(_PlainRecord).decode
_decode_many = msgspec.json.Decoder(list[_PlainRecord]).decode
_BRACE = ord("{")
_HEX = b"0123456789abcdefABCDEF"


def decode_plain(values: Sequence[bytes | None], timestamp_ms: int) -> PlainUsage | None:
    """The records of a run of messages, when they all plainly count; None when one may not.

    The run is one message with an array, or up to `RUN_MAX` messages with a record each.
    `timestamp_ms` is the earliest of their messages' own. Never raises.
    """
    if not 0 <= timestamp_ms <= TIMESTAMP_MS_MAX:
        return None  # it says nothing of how late a record may be dated; the others' may
    try:
        joined = values[0] if len(values) == 1 else b"".join(values)  # type: ignore[arg-type]
        if not joined or len(joined) > MESSAGE_BYTES_MAX:
            return None
        records: Sequence[UsageRecord]
        if len(values) == 1 and joined[0] == ARRAY_BYTE:
            records, brackets = _decode_many(joined), 1
        else:
            records, brackets = [_decode_one(value) for value in values], 0  # type: ignore[arg-type]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, TypeError):
        return None
    count = len(records)
    if (
        not 0 < count <= RECORDS_PER_MESSAGE_MAX
        # So nothing nests, whatever fields there are that no one knows.
        or joined.find(b"[", brackets) >= 0
        or _count_braces(joined) != count
        or not _are_uuids([record.id for record in records])
        or (costs_nano := plain_nanos([record.cost_usd for record in records])) is None  # type: ignore[misc]
    ):
        return None
    times = [record.occurred_at for record in records]
    try:
        first, last = min(times).astimezone(UTC), max(times).astimezone(UTC)
    except OverflowError:  # a zone that takes it out of the calendar
        return None
    if not 2 < first.year <= last.year < 9998 or last > latest_time(timestamp_ms):
        return None
    day = first.toordinal()
    return PlainUsage(records, costs_nano, day if day == last.toordinal() else None)


def plain_columns(value: bytes, timestamp_ms: int) -> FrameColumns | None:
    """What a frame says of its records, when they all plainly count; None when one may not.

    So it is with what is no frame. `timestamp_ms` is its message's own. Never raises.
    """
    if not is_frame(value) or len(value) > MESSAGE_BYTES_MAX:
        return None
    try:
        columns = decode_columns(value)
    except FrameError:
        return None
    amounts = (
        columns.costs_nano, columns.executions, columns.input_tokens, columns.output_tokens,
    )  # fmt: skip
    if (
        columns.metadata
        or min(map(min, amounts)) < 0
        or max(columns.occurred_us) > latest_us(timestamp_ms)
    ):
        return None
    return columns


def _count_braces(text: bytes) -> int:
    """How many opening braces there are; `bytes.count` takes twice as long."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == _BRACE))


def _are_uuids(ids: list[str]) -> bool:
    """Whether all are UUIDs with dashes; each is known to have 36 characters."""
    joined, dashes = "".join(ids), "-" * len(ids)
    return (
        joined[8::36] == dashes
        and joined[13::36] == dashes
        and joined[18::36] == dashes
        and joined[23::36] == dashes
        and joined.encode("ascii", "replace").translate(None, _HEX) == b"-" * (4 * len(ids))
    )
