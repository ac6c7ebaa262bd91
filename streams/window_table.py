"""Window tables: the entries of one window, as rows of numbers.

A million entries are a million rows of one array: they are found, added to and written some
thousand at a time, for a fraction of what an object each takes, in time and in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.messages import Columns

NO_BLOCK = -1
"""The number of no block: the changelog does not show the entry yet."""

INT64_MAX = 2**63 - 1

ROWS_FIRST = 16
"""How many rows a table has room for at first: it doubles where there are more."""

_NO_ROW = -1
_COLUMNS = len(Columns.__struct_fields__)

Slots = NDArray[np.integer[Any]]
"""Numbers of scopes, each once; a month gives them (see `streams.month`)."""

Rows = NDArray[Any]
"""A row for each entry: its offset and its amounts, in the order of `Columns`. They are int64, or
Python's integers where some amount is larger than that."""


class WindowTable:
    """The entries of one window, by the slots of their scopes."""

    def __init__(self) -> None:
        self.size = 0
        """How many entries there are."""
        self._at = np.full(ROWS_FIRST, _NO_ROW, np.int32)  # by slot, where its row is
        self._rows: Rows = np.empty((ROWS_FIRST, _COLUMNS), np.int64)
        self._blocks = np.empty(ROWS_FIRST, np.int32)  # by row, where the changelog has it
        self._largest = 0  # no amount is larger

    @property
    def reaches(self) -> int:
        """The highest offset that an entry has counted; -1 when there is none."""
        return int(self._rows[: self.size, 0].max(initial=-1))

    def has(self, slots: Slots) -> NDArray[np.bool_]:
        """Which of some slots have an entry."""
        found = np.zeros(len(slots), np.bool_)
        known = slots < len(self._at)
        found[known] = self._at[slots[known]] != _NO_ROW
        return found

    def rows(self, slots: Slots) -> Rows:
        """The entries of some slots, all of which have one."""
        found: Rows = self._rows[self._at[slots]]
        return found

    def add(self, slots: Slots, amounts: Rows, offset: int) -> Rows:
        """Add amounts, of messages up to `offset`, where an entry lacks them; returns the entries.

        An entry that reaches this offset contains them: they are replayed.
        """
        if not self._is_wide:
            added = largest(amounts)
            if self._largest + added > INT64_MAX:  # what was added may have been taken away again
                self._largest = largest(self._rows[: self.size, 1:])
            self._fit(self._largest + added)
        before = self.size
        at = self._place(slots)
        if self.size - before == len(slots):  # all of them are new, and stand in this order
            rows: Rows = self._rows[before : self.size]
            rows[:, 0], rows[:, 1:] = offset, amounts
            return rows.copy()
        rows = self._rows[at]
        lacks = rows[:, 0] < offset
        if lacks.all():
            rows[:, 1:] += amounts.astype(rows.dtype, copy=False)
            rows[:, 0] = offset
        else:
            rows[lacks, 1:] += amounts[lacks].astype(rows.dtype, copy=False)
            rows[lacks, 0] = offset
        self._rows[at] = rows
        return rows

    def take(self, slots: Slots, rows: Rows) -> NDArray[np.bool_]:
        """Take over entries that are not older; returns which these are."""
        if not self._is_wide:
            self._fit(largest(rows[:, 1:]))
        at = self._place(slots)
        taken: NDArray[np.bool_] = rows[:, 0] >= self._rows[at, 0]
        if taken.all():
            self._rows[at] = rows
        else:
            self._rows[at[taken]] = rows[taken]
        return taken

    def move(self, slots: Slots, block: int) -> NDArray[np.int32]:
        """Entries stand in another block from now on; returns in which they stood."""
        at = self._at[slots]
        left: NDArray[np.int32] = self._blocks[at]
        self._blocks[at] = block
        return left

    def stand_in(self, slots: Slots, block: int) -> NDArray[np.bool_]:
        """Which of some entries stand in a block."""
        found: NDArray[np.bool_] = self._blocks[self._at[slots]] == block
        return found

    @property
    def blocks(self) -> NDArray[np.int32]:
        """The blocks that its entries stand in."""
        return self._blocks[: self.size]

    def _place(self, slots: Slots) -> NDArray[np.int32]:
        """Where the rows of some slots are; new ones have counted nothing."""
        if not len(slots):
            return np.empty(0, np.int32)
        self._at = grown(self._at, int(slots.max()) + 1, _NO_ROW)
        at: NDArray[np.int32] = self._at[slots]
        absent = at == _NO_ROW
        if count := int(np.count_nonzero(absent)):
            start, self.size = self.size, self.size + count
            at[absent] = self._at[slots[absent]] = np.arange(start, self.size, dtype=np.int32)
            self._rows = grown(self._rows, self.size)
            self._rows[start : self.size] = 0
            self._rows[start : self.size, 0] = -1
            self._blocks = grown(self._blocks, self.size)
            self._blocks[start : self.size] = NO_BLOCK
        return at

    @property
    def _is_wide(self) -> bool:
        """Whether the rows hold Python's integers, of any size."""
        return self._rows.dtype == object

    def _fit(self, amount: int) -> None:
        """See that an amount fits, beside all that are held."""
        if amount > INT64_MAX:
            self._rows = self._rows.astype(object)
        self._largest = max(self._largest, amount)


def largest(amounts: Rows) -> int:
    """The largest of some amounts, whatever their signs."""
    return max(int(amounts.max(initial=0)), -int(amounts.min(initial=0)))


def numbers(columns: Sequence[Sequence[int]]) -> Rows:
    """A row for each place of some lists of numbers."""
    rows: Rows = np.empty((len(columns[0]), len(columns)), np.int64)
    try:
        for place, column in enumerate(columns):
            rows[:, place] = column
    except OverflowError:
        rows = np.array(columns, object).T
    return rows


def grown(array: NDArray[Any], size: int, fill: int | None = None) -> NDArray[Any]:
    """An array with room for so many, the same where it has it."""
    held = len(array)
    if size <= held:
        return array
    more = np.empty((max(size, 2 * held), *array.shape[1:]), array.dtype)
    more[:held] = array
    if fill is not None:
        more[held:] = fill
    return more
