"""Frame sums: usage that came in frames, added up by spender, a column at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from outlay.frame import (
    BOUNDS,
    NO_COLUMN,
    OCCURRED_S_MAX,
    US_PER_S,
    Column,
    Frame,
    FrameError,
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
_AMOUNTS = ("cost_nano", "executions", "input_tokens", "output_tokens")

_Numbers = NDArray[np.int64]
_parse_spender = lru_cache(maxsize=SPENDERS_CACHE_MAX)(parse_spender)


class PlainFrame(NamedTuple):
    """What a frame holds whose `size` records are all of one day, and all count.

    `amounts` are by amount and spender, in nano-dollars, executions, input and output tokens; one
    number where it is the same for all. No sum of them exceeds `sum_max`.
    """

    size: int
    day: int
    spenders: list[str]
    amounts: list[_Numbers | int]
    sum_max: int


def plain_frame(value: bytes, latest_us: int) -> PlainFrame | None:
    """What a frame adds, when all its records plainly count; None when one may not.

    `latest_us` is up to when one may be dated, in microseconds since 1970. What is not plain is
    for `decode_usage` to judge. Never raises.
    """
    if len(value) > MESSAGE_BYTES_MAX:
        return None
    try:
        frame = open_frame(value)
    except FrameError:
        return None
    header = frame.header
    spenders = header.spenders.split(" ")
    try:
        if header.metadata:
            raise _NotPlain
        _check_numbers(frame, "call", len(header.calls))
        day = _day(frame, latest_us)
        _bound(frame, "sequence", *BOUNDS["sequence"])
        high = max(_bound(frame, name, 0, BOUNDS[name][1]) for name in _AMOUNTS)
        if high * header.count > SUM_MAX:
            raise _NotPlain
        amounts = [_column(frame, name) for name in _AMOUNTS]
        if len(spenders) != header.count or header.spender != NO_COLUMN:
            _check_numbers(frame, "spender", len(spenders))
            amounts = _by_spender(frame, amounts, len(spenders))
    except _NotPlain:
        return None
    return PlainFrame(header.count, day, spenders, amounts, high * header.count)


class _NotPlain(Exception):
    """A frame is to be looked at closely."""


def _column(frame: Frame, name: str) -> _Numbers | int:
    """A column's numbers, which an int64 holds; one where all are the same."""
    column: Column = getattr(frame.header, name)
    if not column.code:
        return column.base
    numbers = _raw(frame, name).astype(np.int64)
    if column.base:
        numbers += column.base
    return numbers


def _raw(frame: Frame, name: str) -> NDArray[np.unsignedinteger]:
    """The same without the base."""
    code = getattr(frame.header, name).code
    return np.frombuffer(frame.value, _TYPES[code], frame.header.count, frame.columns_at[name])


def _bound(frame: Frame, name: str, low: int, high: int) -> int:
    """A number that none of a column exceeds, itself in these bounds.

    Their width says it of nearly all columns: only where it does not are the numbers looked at.
    """
    column: Column = getattr(frame.header, name)
    if column.base < low:
        raise _NotPlain
    found = column.base + (1 << 8 * column.width) - 1
    if found > high and column.code:
        found = column.base + int(_raw(frame, name).max())
    if found > high:
        raise _NotPlain
    return found


def _day(frame: Frame, latest_us: int) -> int:
    """The ordinal of the day that all records are of."""
    times = np.frombuffer(frame.value, "<f8", frame.header.count, frame.times_at)
    first_s, last_s = float(times.min()), float(times.max())
    if not 0 <= first_s <= last_s <= OCCURRED_S_MAX:  # nor where one is no number
        raise _NotPlain
    first_us, last_us = round(first_s * US_PER_S), round(last_s * US_PER_S)
    day = first_us // _US_PER_DAY
    if last_us > latest_us or last_us // _US_PER_DAY != day:
        raise _NotPlain
    return _EPOCH_DAY + day


def _check_numbers(frame: Frame, name: str, size: int) -> None:
    """See to it that a column holds all numbers below `size`, and no other."""
    if getattr(frame.header, name) == NO_COLUMN and size == 1:
        return
    _bound(frame, name, 0, size - 1)
    if not np.bincount(_all(frame, name), minlength=size).all():
        raise _NotPlain


def _all(frame: Frame, name: str) -> _Numbers:
    """A column's numbers, one for each record."""
    numbers = _column(frame, name)
    return np.full(frame.header.count, numbers) if isinstance(numbers, int) else numbers


def _by_spender(frame: Frame, amounts: list[_Numbers | int], size: int) -> list[_Numbers | int]:
    """The amounts of records, added up for each spender."""
    numbers = _all(frame, "spender")
    found: list[_Numbers | int] = []
    for column in amounts:
        added = np.zeros(size, np.int64)
        np.add.at(added, numbers, column)
        found.append(added)
    return found


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

    def add(self, frame: PlainFrame) -> bool:
        """Add a frame; False, and nothing is added, where there is no room below `SUM_MAX`, or a
        spender's key is none.
        """
        if self._sum_max + frame.sum_max > SUM_MAX:
            return False
        slots = list(map(self._slots.get, frame.spenders))
        if None in slots:
            try:
                self._meet([k for k, s in zip(frame.spenders, slots, strict=True) if s is None])
            except ValueError:
                return False
            slots = list(map(self._slots.get, frame.spenders))
        at = np.array(slots, np.intp)
        for amounts, added in zip(self._amounts, frame.amounts, strict=True):
            np.add.at(amounts, at, added)
        self._sum_max += frame.sum_max
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
