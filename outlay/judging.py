"""Judging: which usage messages count, and what of them.

One function decides, `decode_usage`; the totals and the history both ask it, so that they cannot
disagree about a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import msgspec

from outlay.frame import OCCURRED_S_MAX, US_PER_S, FrameError, is_frame
from outlay.framing import decode_frame
from outlay.money import to_nano
from outlay.nesting import NESTING_MAX, depth_exceeds
from outlay.usage import UsageRecord, encode_usage, invalid_reason

AHEAD_MAX_S = 86_400
"""How far ahead of its message's timestamp a record may be dated, in seconds."""

MESSAGE_BYTES_MAX = 1_048_576
"""The largest usage message that is read, in bytes; a larger one is a dead letter."""

RECORDS_PER_MESSAGE_MAX = 10_000
"""How many records one message may hold."""

TIMESTAMP_MS_MAX = 253_370_764_800_000  # the year 9999, beyond which a `datetime` has no day more


class Usage(NamedTuple):
    """A record that counts, with its cost in nano-dollars."""

    record: UsageRecord
    cost_nano: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the record at `index` of a message (None: the whole message) does not count."""

    index: int | None
    reason: str


TIMES_CACHE_MAX = 64
"""Of how many timestamps the last time of a record is kept ready: messages come in runs of them."""

_decode_one = msgspec.json.Decoder(UsageRecord).decode
_decode_many = msgspec.json.Decoder(list[UsageRecord]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)
_TOO_DEEP = f"the message nests deeper than {NESTING_MAX} levels"
_PLAIN_METADATA_MAX = 500  # brackets that are taken for flat metadata; half of what a stack bears


def decode_usage(value: bytes | None, timestamp_ms: int) -> tuple[list[Usage], list[Rejection]]:
    """What counts of a usage message, and what does not and why. Never raises.

    An empty array holds nothing and is no error. `timestamp_ms` is the message's own, against
    which a date in the future is judged, so that every reader judges alike.
    """
    if not value:
        return [], [Rejection(None, "the message is empty")]
    if len(value) > MESSAGE_BYTES_MAX:
        return [], [Rejection(None, f"the message is over {MESSAGE_BYTES_MAX} bytes")]
    latest = latest_time(timestamp_ms)
    has_many = value.lstrip()[:1] == b"["
    try:
        if is_frame(value):
            records, has_many = decode_frame(value), True
        else:
            records = _decode_many(value) if has_many else [_decode_one(value)]
            if (refusal := _refuse_whole(value, len(records))) is not None:
                return [], [refusal]
    except FrameError as error:
        return [], [Rejection(None, str(error))]
    except _BAD_JSON as error:
        return _decode_apart(value, latest) if has_many else ([], [_rejection(error, None)])
    usages: list[Usage] = []
    rejections: list[Rejection] = []
    for index, record in enumerate(records):
        _judge(record, latest, index if has_many else None, usages, rejections)
    return usages, rejections


def split_usage(value: bytes) -> list[bytes]:
    """The records of a message that holds several, each as its JSON.

    Raises:
        ValueError: it holds none that can be told apart.
    """
    if is_frame(value):
        return [encode_usage([record]) for record in decode_frame(value)]
    return [bytes(item) for item in _decode_items(value)]


def _decode_apart(value: bytes, latest: datetime) -> tuple[list[Usage], list[Rejection]]:
    """The same for an array that holds something bad: each record by itself."""
    try:
        items = _decode_items(value)
    except _BAD_JSON as error:
        return [], [_rejection(error, None)]
    if (refusal := _refuse_whole(value, len(items))) is not None:
        return [], [refusal]
    usages: list[Usage] = []
    rejections: list[Rejection] = []
    for index, item in enumerate(items):
        try:
            record = _decode_one(item)
        except _BAD_JSON as error:
            rejections.append(_rejection(error, index))
        else:
            _judge(record, latest, index, usages, rejections)
    return usages, rejections


def _judge(
    record: UsageRecord,
    latest: datetime,
    index: int | None,
    usages: list[Usage],
    rejections: list[Rejection],
) -> None:
    try:
        cost_nano = to_nano(record.cost_usd)
        reason = invalid_reason(record, cost_nano)
        if reason is None and record.occurred_at > latest:
            reason = f"occurred_at is more than {AHEAD_MAX_S} s ahead of the message's timestamp"
    except ValueError as error:
        reason = str(error)
    if reason is None:
        usages.append(Usage(record, cost_nano))
    else:
        rejections.append(Rejection(index, reason))


@lru_cache(maxsize=TIMES_CACHE_MAX)
def latest_time(timestamp_ms: int) -> datetime:
    """The last time that a record may be dated, in a message of this timestamp."""
    if not 0 <= timestamp_ms <= TIMESTAMP_MS_MAX:  # a producer that set none, or nonsense
        return datetime.max.replace(tzinfo=UTC)
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC) + timedelta(seconds=AHEAD_MAX_S)


def latest_us(timestamp_ms: int) -> int:
    """The same for a record in a frame, in microseconds since 1970."""
    if not 0 <= timestamp_ms <= TIMESTAMP_MS_MAX:
        return OCCURRED_S_MAX * US_PER_S
    return min(timestamp_ms * 1_000 + AHEAD_MAX_S * US_PER_S, OCCURRED_S_MAX * US_PER_S)


def _rejection(error: Exception, index: int | None) -> Rejection:
    if isinstance(error, RecursionError):
        return Rejection(None, _TOO_DEEP)
    return Rejection(index, str(error))


def _refuse_whole(value: bytes, count: int) -> Rejection | None:
    """What a message as a whole may not be, by rules of ours.

    Where the decoder itself gives up on nesting depends on how deep the caller's stack is, and
    two readers must agree. So what could come near is looked at exactly: more brackets than
    a record and its metadata have by themselves.
    """
    if count > RECORDS_PER_MESSAGE_MAX:
        return Rejection(None, f"the message holds {count} records, over {RECORDS_PER_MESSAGE_MAX}")
    plain = 1 + count + min(count, _PLAIN_METADATA_MAX)
    if value.count(b"{") + value.count(b"[") > plain + NESTING_MAX and depth_exceeds(
        value, NESTING_MAX
    ):
        return Rejection(None, _TOO_DEEP)
    return None
