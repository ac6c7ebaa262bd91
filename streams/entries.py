"""Entries: the cumulative amounts of one usage partition, by window and scope."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from schemas.messages import Block
from streams.flush import Message
from streams.marks import Windows
from streams.month import Month, rows
from streams.window_table import Rows, Slots

_decode = msgspec.json.Decoder(Block).decode


class Entries:
    """All entries of one usage partition, and which of them the changelog does not show yet."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._months: defaultdict[str, Month] = defaultdict(Month)

    @property
    def reaches(self) -> int:
        """The highest offset that an entry has counted; -1 when there is none."""
        tables = [table for month in self._months.values() for table in month.windows.values()]
        return max((table.reaches for table in tables), default=-1)

    @property
    def unsaved(self) -> int:
        """How many entries wait to be written, as often as they have changed."""
        return sum(month.unsaved for month in self._months.values())

    def find(
        self, scopes: Sequence[str], windows: Iterable[str]
    ) -> Iterator[tuple[str, Slots, Rows]]:
        """The entries that some scopes have in some windows.

        By window: the places among `scopes` of those that have one, and the entries.
        """
        for month in self._months.values():
            yield from month.find(scopes, windows)

    def standing(self, scopes: Sequence[str]) -> Iterator[tuple[Windows, Slots]]:
        """All entries of some scopes, by window."""
        for month in self._months.values():
            yield from month.standing(scopes)

    # -- changing

    def add(
        self, scopes: Sequence[str], windows: Windows, amounts: Rows, offset: int
    ) -> tuple[Slots, dict[str, Rows]]:
        """Add what some scopes used, in messages up to `offset`, to windows of one month.

        Where an entry contains it already, nothing is added. Returns the scopes' slots, and what
        the entries are from then on, by window.
        """
        month = self._months[month_of(windows[0])]
        slots = month.slots(scopes)
        month.mark(windows, slots)
        return slots, {w: month.table(w).add(slots, amounts, offset) for w in windows}

    def take(self, told: Block) -> None:
        """Take over entries that are not older than those that are held."""
        months: defaultdict[str, list[str]] = defaultdict(list)
        for window in told.windows:
            months[month_of(window)].append(window)
        for name, windows in months.items():
            month = self._months[name]
            slots = month.slots(told.scopes)
            month.mark(tuple(windows), slots)
            for window in windows:
                month.table(window).take(slots, rows(told.windows[window]))

    def rows(self, windows: Windows, slots: Slots) -> tuple[list[str], dict[str, Rows]]:
        """The scopes of some slots, and their entries in windows of one month."""
        return self._months[month_of(windows[0])].rows(windows, slots)

    # -- the changelog

    def load(self, month: str, number: int, value: bytes | None) -> None:
        """Take over a block of the changelog; None where it was taken away."""
        self._months[month].load(number, None if value is None else _decode(value))

    def drop(self, forgets: Callable[[str], bool]) -> None:
        """Drop the windows that are too old; blocks of the changelog may still hold them."""
        for month in self._months.values():
            for window in list(filter(forgets, month.windows)):
                month.drop(window)

    def forget(self, forgets: Callable[[str], bool]) -> Iterator[Message]:
        """The same; yields what takes the blocks of months that are too old away."""
        self.drop(forgets)
        for name in list(filter(forgets, self._months)):
            for number in self._months.pop(name).numbers:
                yield self._key(name, number), None

    def take_changes(self) -> Iterator[Message]:
        """The changelog of all that changed; it counts as written from then on."""
        for name, month in self._months.items():
            for number, value in month.take_changes():
                yield self._key(name, number), value

    def _key(self, month: str, number: int) -> bytes:
        return f"{month} {self._partition} {number}".encode()


def parse_key(raw: bytes) -> tuple[str, int, int]:
    """The month, the usage partition and the number of a block, from its key.

    Raises:
        ValueError: it is no block's.
    """
    parts = raw.split(b" ")
    if len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):
        raise ValueError(f"{raw!r} is not the key of a block: was it written by an older version?")
    return parts[0].decode(), int(parts[1]), int(parts[2])


def month_of(window: str) -> str:
    """The name of the month that a window falls in."""
    return window[:7]
