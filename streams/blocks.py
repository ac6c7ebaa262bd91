"""Blocks: where the changelog has the entries of a month.

What is saved together is written together, in blocks that bear a number. An entry that is saved
again stands in a later block, and the earlier one holds an old value of it. A block that holds
nothing else is taken away; of one that holds mostly old values the rest is to be written anew, so
that the changelog has at most about twice as many entries as there are. Small blocks, as many as
come of agents that are new one by one, are to be written anew as large ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.marks import Windows
from streams.window_table import Slots

SMALL_MAX = 50
"""Of how many entries a small block has the newest value, at most: what a block takes by itself,
in memory and in time, is more than what these take."""

SMALL_BLOCKS_MAX = 64
"""How many small blocks there may be before they are written anew together; twice as many as were
left of them the last time, where that is more: entries of many windows do not make one block."""


@dataclass(slots=True)
class SavedBlock:
    """A block that stands in the changelog; of so many entries it has the newest value."""

    windows: Windows
    slots: Slots
    newest: int

    @property
    def is_sparse(self) -> bool:
        """Whether most of its values are old."""
        return 2 * self.newest < len(self.slots) * len(self.windows)


class Blocks:
    """The blocks of one month of one usage partition."""

    def __init__(self) -> None:
        self._blocks: dict[int, SavedBlock] = {}
        self._sparse: set[int] = set()
        self._small: set[int] = set()
        self._small_max = SMALL_BLOCKS_MAX
        self._empty: set[int] = set()
        self._next = 0

    def __iter__(self) -> Iterator[int]:
        return iter(self._blocks)

    def begin(self, windows: Windows, slots: Slots) -> int:
        """The number of a new block, which has the newest values of all its entries."""
        number = self._next
        self.load(number, windows, slots, len(windows) * len(slots))
        return number

    def load(self, number: int, windows: Windows, slots: Slots, newest: int) -> None:
        """A block stands in the changelog."""
        self._blocks[number] = SavedBlock(windows, slots.astype(np.int32), newest)
        self._next = max(self._next, number + 1)
        self._look(number)

    def drop(self, number: int) -> None:
        """A block stands in the changelog no more."""
        self._blocks.pop(number, None)
        for kind in (self._sparse, self._small, self._empty):
            kind.discard(number)
        self._next = max(self._next, number + 1)

    def leave(self, numbers: NDArray[np.int32]) -> None:
        """Entries that stood in these blocks, as often as these are named, do so no more."""
        left, counts = np.unique_counts(numbers)
        for number, count in zip(left.tolist(), counts.tolist(), strict=True):
            if number in self._blocks:
                self._blocks[number].newest -= count
                self._look(number)

    def _look(self, number: int) -> None:
        block = self._blocks[number]
        if block.newest > SMALL_MAX:
            if block.is_sparse:
                self._sparse.add(number)
            return
        self._sparse.discard(number)
        if block.newest:
            self._small.add(number)
        else:
            self._small.discard(number)
            self._empty.add(number)

    def take_worn(self, entries_max: int) -> list[tuple[int, SavedBlock]]:
        """Blocks whose newest values are to be written anew.

        Of sparse ones about so many entries, and one block at least. Those with the fewest come
        first: most is won with them.
        """
        taken: list[tuple[int, SavedBlock]] = []
        if len(self._small) > self._small_max:
            taken += ((number, self._blocks[number]) for number in sorted(self._small))
            self._small.clear()
            self._small_max = 0  # until it is seen what is left
        sparse = len(taken)
        for number in sorted(self._sparse, key=lambda number: self._blocks[number].newest):
            entries_max -= self._blocks[number].newest
            if entries_max < 0 and len(taken) > sparse:
                break
            taken.append((number, self._blocks[number]))
        self._sparse.difference_update(number for number, _ in taken)
        return taken

    def take_empty(self) -> list[int]:
        """The blocks that only hold old values; they count as taken away."""
        if not self._small_max:
            self._small_max = max(SMALL_BLOCKS_MAX, 2 * len(self._small))
        empty = sorted(self._empty)
        for number in empty:
            self.drop(number)
        return empty
