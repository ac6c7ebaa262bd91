"""Joined: what some scopes have used of a window, added up over the usage partitions.

It is done for many scopes at a time: one by one, to find an entry takes longer than to publish it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from outlay.budget import Amounts
from outlay.decision import WindowUsage, window_usage
from streams.window_table import INT64_MAX, Rows, largest

TOGETHER_MAX = 1_000
"""How many scopes are best joined at a time: what they come to stays in the processor's cache."""

Places = NDArray[np.integer[Any]] | list[int]
"""Which of the scopes, by their places among them."""

_NO_OFFSET = np.iinfo(np.int64).min
_T = TypeVar("_T")


class Joined:
    """The totals of some scopes in one window, in their order."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._amounts: Rows = np.zeros((count, 4), np.int64)
        self._largest = 0  # no amount is larger
        self._offsets: dict[int, NDArray[np.int64]] = {}

    def add(self, partition: int, places: Places, rows: Rows) -> None:
        """Add the entries that a usage partition has of some of the scopes."""
        self._largest += largest(rows[:, 1:])
        if self._largest > INT64_MAX:
            self._amounts = self._amounts.astype(object)
        self._amounts[places] += rows[:, 1:].astype(self._amounts.dtype, copy=False)
        offsets = self._offsets[partition] = np.full(self._count, _NO_OFFSET)
        offsets[places] = rows[:, 0]

    @property
    def amounts(self) -> list[Amounts]:
        """What each has used; nothing where it is not known."""
        return [Amounts(*row) for row in self._amounts.tolist()]

    def offsets(self, places: Places) -> list[dict[int, int]]:
        """The offsets that some of the totals contain, by usage partition; none where unknown."""
        if not self._offsets:
            return [{} for _ in places]
        partitions = list(self._offsets)
        offsets = np.column_stack(list(self._offsets.values()))[places]
        if (offsets != _NO_OFFSET).all():
            return [dict(zip(partitions, row, strict=True)) for row in offsets.tolist()]
        return [
            {p: offset for p, offset in zip(partitions, row, strict=True) if offset != _NO_OFFSET}
            for row in offsets.tolist()
        ]

    def usages(self, places: Places) -> Iterator[WindowUsage | None]:
        """What is published of some of the totals; None of one that is not known."""
        amounts = self._amounts[places].tolist()
        for row, offsets in zip(amounts, self.offsets(places), strict=True):
            yield window_usage(Amounts(*row), offsets) if offsets else None


def some_at_a_time(things: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The things, `TOGETHER_MAX` at a time."""
    for start in range(0, len(things), TOGETHER_MAX):
        yield things[start : start + TOGETHER_MAX]
