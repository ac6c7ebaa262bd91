"""Frame sums: usage that came in frames, added up by spender, a column of many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from functools import lru_cache
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
from outlay.spender import Spender, parse_spender

SPENDERS_CACHE_MAX = 131_072
"""How many spenders' keys are kept ready, parsed."""

SUM_MAX = 2**62
"""Up to where sums are kept here, in nano-dollars or tokens: far from the end of an int64."""

_SLOTS_FIRST = 16  # frames of many days may come at once
_US_PER_DAY = 86_400 * US_PER_S
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_TYPES = {"B": "<u1", "H": "<u2", "I": "<u4", "Q": "<u8"}
_HIGHEST = {"": 0, "B": 2**8 - 1, "H": 2**16 - 1, "I": 2**32 - 1, "Q": 2**64 - 1}
_NOTHING = np.zeros(RECORDS_MAX, np.uint8)
_IN_ORDER = np.arange(RECORDS_MAX, dtype=np.int64)
_AMOUNTS = ("cost_nano", "executions", "input_tokens", "output_tokens")

_Numbers = NDArray[np.int64]
_parse_spender = lru_cache(maxsize=SPENDERS_CACHE_MAX)(parse_spender)


class PlainFrames(NamedTuple):
    """What some frames hold whose `size` records are all of one day, and all count.

    `numbers` say which of the `spenders` each record is of; `amounts` are by amount and record, in
    nano-dollars, executions, input and output tokens. No sum of them exceeds `sum_max`.
    """

    size: int
    day: int
    spenders: list[str]
    numbers: _Numbers
    amounts: list[_Numbers]
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
        sum_max += frame.header.count * max([_bound(frame, name) for name in _AMOUNTS])
    if sum_max > SUM_MAX:
        raise _NotPlain
    _number(frames, "call", [len(frame.header.calls) for frame in frames])
    spenders = [_spenders(frame.header) for frame in frames]
    numbers = _number(frames, "spender", list(map(len, spenders)))
    amounts = [_column(frames, name) for name in _AMOUNTS]
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


def _column(frames: list[Frame], name: str) -> _Numbers:
    """A column's numbers in all frames, which an int64 holds."""
    return _based([_raw(frame, name) for frame in frames], frames, name)


def _based(parts: list[NDArray[Any]], frames: list[Frame], name: str) -> _Numbers:
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


def _number(frames: list[Frame], name: str, sizes: list[int]) -> _Numbers:
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


class FrameSums:
    """The usage of some frames of one day."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self._spenders: list[Spender] = []
        self._amounts = np.zeros((len(_AMOUNTS), _SLOTS_FIRST), np.int64)
        self._sum_max = 0

    def __len__(self) -> int:
        """How many spenders there are."""
        return len(self._spenders)

    def add(self, frames: PlainFrames) -> bool:
        """Add frames; False, and nothing is added, where there is no room below `SUM_MAX`, or a
        spender's key is none.
        """
        if self._sum_max + frames.sum_max > SUM_MAX:
            return False
        slots = list(map(self._slots.get, frames.spenders))
        if None in slots:
            try:
                self._meet([k for k, s in zip(frames.spenders, slots, strict=True) if s is None])
            except ValueError:
                return False
            slots = list(map(self._slots.get, frames.spenders))
        at = np.array(slots, np.intp)[frames.numbers]
        for amounts, added in zip(self._amounts, frames.amounts, strict=True):
            np.add.at(amounts, at, added)
        self._sum_max += frames.sum_max
        return True

    def _meet(self, keys: list[str]) -> None:
        spenders = {key: _parse_spender(key) for key in keys}
        for key, spender in spenders.items():
            self._slots[key] = len(self._spenders)
            self._spenders.append(spender)
        missing = len(self._spenders) - self._amounts.shape[1]
        if missing > 0:
            room = max(missing, self._amounts.shape[1])
            self._amounts = np.pad(self._amounts, ((0, 0), (0, room)))

    def __iter__(self) -> Iterator[tuple[Spender, list[int]]]:
        """Each spender, and what it used."""
        amounts = self._amounts[:, : len(self._spenders)].T.tolist()
        return zip(self._spenders, amounts, strict=True)
