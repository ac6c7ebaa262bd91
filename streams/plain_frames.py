"""Plain frames: frames whose records all count at first sight, their columns joined into one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from outlay.frame import (
    BOUNDS,
    NO_COLUMN,
    OCCURRED_S_MAX,
    RECORDS_MAX,
    US_PER_S,
    Column,
    Frame,
    FrameError,
    Header,
    open_frame,
)
from outlay.judging import MESSAGE_BYTES_MAX

SUM_MAX = 2**62
"""Up to where sums are kept here, in nano-dollars or tokens: far from the end of an int64."""

_US_PER_DAY = 86_400 * US_PER_S
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_TYPES = {"B": "<u1", "H": "<u2", "I": "<u4", "Q": "<u8"}
_HIGHEST = {"": 0, "B": 2**8 - 1, "H": 2**16 - 1, "I": 2**32 - 1, "Q": 2**64 - 1}
_NOTHING = np.zeros(RECORDS_MAX, np.uint8)
_IN_ORDER = np.arange(RECORDS_MAX, dtype=np.int64)
AMOUNTS = ("cost_nano", "executions", "input_tokens", "output_tokens")

Numbers = NDArray[np.int64]


class PlainFrames(NamedTuple):
    """What some frames hold whose `size` records are all of one day, and all count.

    `numbers` say which of the `spenders` each record is of; `amounts` are by amount and record, in
    nano-dollars, executions, input and output tokens. No sum of them exceeds `sum_max`.
    """

    size: int
    day: int
    spenders: list[str]
    numbers: Numbers
    amounts: list[Numbers]
    sum_max: int


def plain_frames(values: Sequence[bytes], latest_us: int) -> PlainFrames | None:
    """What frames add, when all their records plainly count; None when one may not.

    `latest_us` is up to when one may be dated, in microseconds since 1970. What is not plain
    together is to be tried one by one, and what is not plain alone is for `decode_usage` to judge.
    Never raises.
    """
    try:
        return _plain([_open(value) for value in values], latest_us)
    except (FrameError, _NotPlain):
        return None


class _NotPlain(Exception):
    """A frame is to be looked at closely."""


def _open(value: bytes) -> Frame:
    if len(value) > MESSAGE_BYTES_MAX:
        raise _NotPlain
    frame = open_frame(value)
    if frame.header.metadata:
        raise _NotPlain
    return frame


def _plain(frames: list[Frame], latest_us: int) -> PlainFrames:
    day = _day(frames, latest_us)
    size = sum_max = 0
    for frame in frames:
        _bound(frame, "sequence")
        size += frame.header.count
        sum_max += frame.header.count * max([_bound(frame, name) for name in AMOUNTS])
    if sum_max > SUM_MAX:
        raise _NotPlain
    _number(frames, "call", [len(frame.header.calls) for frame in frames])
    spenders = [_spenders(frame.header) for frame in frames]
    numbers = _number(frames, "spender", list(map(len, spenders)))
    amounts = [_column(frames, name) for name in AMOUNTS]
    return PlainFrames(size, day, list(chain(*spenders)), numbers, amounts, sum_max)


def _spenders(header: Header) -> list[str]:
    spenders = header.spenders.split(" ", header.count)  # no more than one too many is made
    if len(spenders) > header.count:
        raise _NotPlain
    return spenders


def _day(frames: list[Frame], latest_us: int) -> int:
    """The ordinal of the day that all records are of."""
    times = np.concatenate([
        np.frombuffer(frame.value, "<f8", frame.header.count, frame.times_at) for frame in frames
    ])  # fmt: skip
    first_s, last_s = float(times.min()), float(times.max())
    if not 0 <= first_s <= last_s <= OCCURRED_S_MAX:  # nor where one is no number
        raise _NotPlain
    first_us, last_us = round(first_s * US_PER_S), round(last_s * US_PER_S)
    day = first_us // _US_PER_DAY
    if last_us > latest_us or last_us // _US_PER_DAY != day:
        raise _NotPlain
    return _EPOCH_DAY + day


def _bound(frame: Frame, name: str) -> int:
    """A number that none of a column exceeds; all are in their bounds, and none is negative.

    Their width says it of nearly all columns: only where it does not are the numbers looked at.
    """
    column: Column = getattr(frame.header, name)
    if column.base < 0:
        raise _NotPlain
    high = BOUNDS[name][1]
    found = column.base + _HIGHEST[column.code]
    if found > high and column.code:
        found = column.base + int(_raw(frame, name).max())
    if found > high:
        raise _NotPlain
    return found


def _column(frames: list[Frame], name: str) -> Numbers:
    """A column's numbers in all frames, which an int64 holds."""
    return _based([_raw(frame, name) for frame in frames], frames, name)


def _based(parts: list[NDArray[Any]], frames: list[Frame], name: str) -> Numbers:
    numbers = np.concatenate(parts).astype(np.int64)
    bases = [getattr(frame.header, name).base for frame in frames]
    if any(bases):
        numbers += np.repeat(bases, [frame.header.count for frame in frames])
    return numbers


def _raw(frame: Frame, name: str) -> NDArray[np.unsignedinteger]:
    """A column's numbers in one frame, without the base."""
    code, count = getattr(frame.header, name).code, frame.header.count
    if not code:
        return _NOTHING[:count]
    return np.frombuffer(frame.value, _TYPES[code], count, frame.columns_at[name])


def _number(frames: list[Frame], name: str, sizes: list[int]) -> Numbers:
    """Which of all the `sizes` things in a row each record has; each is had, and no other."""
    counts = [frame.header.count for frame in frames]
    parts: list[NDArray[Any]] = []
    for frame, count, size in zip(frames, counts, sizes, strict=True):
        column: Column = getattr(frame.header, name)
        if not 0 <= column.base < size or column.width > 2:  # wider ones could wrap in an int64
            raise _NotPlain
        in_order = name == "spender" and size == count and column == NO_COLUMN
        parts.append(_IN_ORDER[:count] if in_order else _raw(frame, name))
    numbers = _based(parts, frames, name)
    if (numbers >= np.repeat(sizes, counts)).any():
        raise _NotPlain
    if len(frames) > 1:
        numbers += np.repeat(np.cumsum([0, *sizes[:-1]]), counts)
    if not np.bincount(numbers, minlength=sum(sizes)).all():
        raise _NotPlain
    return numbers
