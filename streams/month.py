"""Months: the entries of one usage partition whose windows fall in one month.

Most scopes of a day are those of its month. They are found once, by a number that stands for the
scope in all windows of the month, its slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from msgspec.structs import astuple

from schemas.messages import Block, Columns
from streams.blocks import Blocks, SavedBlock
from streams.marks import Marks, Windows
from streams.messages import encode
from streams.pieces import MESSAGE_SCOPES_MAX, pieces
from streams.window_table import Rows, Slots, WindowTable, numbers

REWRITTEN_MIN = 1_000
"""How many entries of sparse blocks a save may write anew; as many as it writes anyway where these
are more, which is enough to keep up."""


class Month:
    """The entries of a month and of its days, and where the changelog has them."""

    def __init__(self) -> None:
        self.windows: dict[str, WindowTable] = {}
        self._slots: dict[str, int] = {}
        self._scopes: list[str] = []
        self._blocks = Blocks()
        self._unsaved = Marks()

    # -- finding

    def slots(self, scopes: Sequence[str]) -> Slots:
        """The slots of some scopes, each of which is there once; new ones are given one."""
        found = list(map(self._slots.get, scopes))
        if None in found:
            start = len(self._scopes)
            new = [s for s, slot in zip(scopes, found, strict=True) if slot is None]
            self._slots.update(zip(new, range(start, start + len(new)), strict=True))
            self._scopes += new
            if len(new) == len(scopes):
                return np.arange(start, len(self._scopes))
            found = list(map(self._slots.get, scopes))
        return np.array(found, np.intp)

    def find(
        self, scopes: Sequence[str], windows: Iterable[str]
    ) -> Iterator[tuple[str, Slots, Rows]]:
        """The entries that some scopes have in some windows: by window, whose and which."""
        windows = [window for window in windows if window in self.windows]
        if not windows:
            return
        found = list(map(self._slots.get, scopes))
        places = np.arange(len(found))
        if None in found:
            places = np.array([p for p, slot in enumerate(found) if slot is not None], np.intp)
            found = [slot for slot in found if slot is not None]
        slots = np.array(found, np.intp)
        for window in windows:
            table = self.windows[window]
            has = table.has(slots)
            if has.all():  # as nearly always: they need not be picked
                yield window, places, table.rows(slots)
            else:
                yield window, places[has], table.rows(slots[has])

    def standing(self, scopes: Sequence[str]) -> Iterator[tuple[Windows, Slots]]:
        """The entries that some scopes have, by window."""
        found = [slot for slot in map(self._slots.get, scopes) if slot is not None]
        slots = np.array(found, np.intp)
        for window, table in self.windows.items():
            yield (window,), slots[table.has(slots)]

    def rows(self, windows: Windows, slots: Slots) -> tuple[list[str], dict[str, Rows]]:
        """The scopes of some slots, and their entries in some windows."""
        scopes = list(map(self._scopes.__getitem__, slots.tolist()))
        return scopes, {window: self.windows[window].rows(slots) for window in windows}

    # -- changing

    def table(self, window: str) -> WindowTable:
        """The entries of a window, which may be new."""
        table = self.windows.get(window)
        if table is None:
            table = self.windows[window] = WindowTable()
        return table

    def mark(self, windows: Windows, slots: Slots) -> None:
        """Some entries have changed: the changelog does not show them as they are."""
        self._unsaved.add(windows, slots)

    def drop(self, window: str) -> None:
        """Drop a window's entries."""
        self._blocks.leave(self.windows.pop(window).blocks)

    # -- the changelog

    @property
    def unsaved(self) -> int:
        """How many entries wait to be written, as often as they have changed."""
        return self._unsaved.size

    @property
    def numbers(self) -> list[int]:
        """The numbers of all blocks that stand in the changelog."""
        return list(self._blocks)

    def load(self, number: int, found: Block | None) -> None:
        """A block of the changelog, or that it was taken away."""
        self._blocks.drop(number)  # a block may stand there twice, where a producer tried again
        if found is None:
            return
        slots, newest = self.slots(found.scopes), 0
        for window, columns in found.windows.items():
            taken = slots[self.table(window).take(slots, rows(columns))]
            self._blocks.leave(self.windows[window].move(taken, number))
            newest += len(taken)
        self._blocks.load(number, tuple(found.windows), slots, newest)

    def take_changes(self) -> Iterator[tuple[int, bytes | None]]:
        """The blocks to write, by number, and those to take away after them."""
        written = 0
        for number, value, size in self._write():
            written += size
            yield number, value
        for number, worn in self._blocks.take_worn(max(written, REWRITTEN_MIN)):
            self._mark_newest(number, worn)
        for number, value, _ in self._write():
            yield number, value
        for number in self._blocks.take_empty():
            yield number, None

    def _mark_newest(self, number: int, block: SavedBlock) -> None:
        """Mark the entries of which a block has the newest value."""
        windows = tuple(window for window in block.windows if window in self.windows)
        stand = [self.windows[window].stand_in(block.slots, number) for window in windows]
        if all(np.array_equal(stand[0], other) for other in stand[1:]):
            self._unsaved.add(windows, block.slots[stand[0]])
            return
        for window, there in zip(windows, stand, strict=True):
            self._unsaved.add((window,), block.slots[there])

    def _write(self) -> Iterator[tuple[int, bytes, int]]:
        """New blocks of all that is marked: their numbers, values, and how many entries."""
        for marked, slots in self._unsaved.take():
            if windows := tuple(window for window in marked if window in self.windows):
                for start in range(0, len(slots), MESSAGE_SCOPES_MAX):
                    yield from self._write_some(windows, slots[start : start + MESSAGE_SCOPES_MAX])

    def _write_some(self, windows: Windows, slots: Slots) -> Iterator[tuple[int, bytes, int]]:
        found = block(*self.rows(windows, slots))
        for piece in pieces(found.scopes, len(windows)):
            number = self._blocks.begin(windows, slots[piece])
            for window in windows:
                self._blocks.leave(self.windows[window].move(slots[piece], number))
            yield number, encode(cut(found, piece)), len(windows) * len(slots[piece])


def block(scopes: list[str], tables: dict[str, Rows]) -> Block:
    """The block of some entries, by window."""
    return Block(scopes, {w: Columns(*map(np.ndarray.tolist, t.T)) for w, t in tables.items()})


def cut(whole: Block, piece: slice) -> Block:
    """A piece of a block."""
    if piece == slice(0, len(whole.scopes)):
        return whole
    return Block(
        whole.scopes[piece],
        {w: Columns(*(c[piece] for c in astuple(columns))) for w, columns in whole.windows.items()},
    )


def rows(columns: Columns) -> Rows:
    """The entries of a window as rows."""
    return numbers(astuple(columns))
