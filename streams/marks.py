"""Marks: which entries something is still to be done with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from streams.window_table import Slots

Windows = tuple[str, ...]
"""Names of windows of one month."""

SPREAD_MAX = 64
"""Up to how many places a mark there is no need to sort them."""


class Marks:
    """Entries that are marked, by their windows; each once, however often it was."""

    def __init__(self) -> None:
        self._slots: defaultdict[Windows, list[Slots]] = defaultdict(list)
        self.size = 0
        """How many there are, counted as often as they were marked."""

    def add(self, windows: Windows, slots: Slots) -> None:
        """Mark the entries of some slots in each of some windows."""
        if len(slots):
            self._slots[windows].append(slots)
            self.size += len(windows) * len(slots)

    def take(self) -> Iterator[tuple[Windows, Slots]]:
        """What is marked, by windows; nothing is from then on."""
        marked, self._slots, self.size = self._slots, defaultdict(list), 0
        for windows, slots in marked.items():
            yield windows, slots[0] if len(slots) == 1 else _once(np.concatenate(slots))


def _once(slots: Slots) -> Slots:
    """Each slot once, in order."""
    if (end := int(slots.max()) + 1) > SPREAD_MAX * len(slots):
        return np.unique(slots)
    is_there = np.zeros(end, np.bool_)  # takes a tenth of the time that sorting takes
    is_there[slots] = True
    return np.flatnonzero(is_there)
