"""Telling: what the entries of a usage partition become on the way to the totals.

They are told some thousand scopes at a time, which are in the processor's cache from one step to
the next: to go over all of a large flush for each step takes longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from schemas.messages import Entry, PartialsMessage, Windows
from streams import messages
from streams.flush import Outgoing, Unit
from streams.pieces import pieces
from streams.placing import partitions_of

MESSAGE_BYTES_MAX = 524_288
"""Where a partials message is split, in bytes; half of what a topic takes by default."""

MESSAGE_ENTRIES_MAX = 2_000
"""How many entries a partials message holds at most."""

ENTRY_BYTES_MAX = 220
"""How long an entry's JSON may get without its scope, in bytes: five numbers of forty digits."""


Keep = Callable[[Windows], Sequence[Outgoing]]
"""Takes note of entries that are told; returns the changelog that is to say so along with it."""


class Teller:
    """Makes the partials messages of one usage partition.

    In each flush, `tell` comes for some scopes at a time, and `end` after the last of them.
    """

    def __init__(self, topic: str, partition: int, totals_partitions: int, keep: Keep) -> None:
        self._topic = topic
        self._partition = partition
        self._keep = keep
        self._lasts: list[Windows] = [{} for _ in range(totals_partitions)]

    def tell(
        self, floor_day: int, scopes: Sequence[str], windows: Mapping[str, Sequence[Entry]]
    ) -> Iterator[Unit]:
        """Entries of some scopes: by window, in the scopes' order, and split by size.

        The last part for each partition is kept back: the progress goes with it.
        """
        targets = partitions_of([scope.encode() for scope in scopes], len(self._lasts))
        told: list[Windows] = [{} for _ in self._lasts]
        for window, entries in windows.items():
            tables: list[dict[str, Entry]] = [{} for _ in told]
            for scope, entry, target in zip(scopes, entries, targets, strict=True):
                tables[target][scope] = entry
            for its_windows, table in zip(told, tables, strict=True):
                if table:
                    its_windows[window] = table
        for target, its_windows in enumerate(told):
            for part in _parts(its_windows):
                if last := self._lasts[target]:
                    yield self._unit(target, floor_day, None, last)
                self._lasts[target] = part

    def end(self, floor_day: int, progress: int) -> Iterator[Unit]:
        """What was kept back, with the progress for every partition."""
        for target, last in enumerate(self._lasts):
            self._lasts[target] = {}
            yield self._unit(target, floor_day, progress, last)

    def _unit(self, target: int, floor_day: int, progress: int | None, windows: Windows) -> Unit:
        value = messages.encode(PartialsMessage(self._partition, floor_day, progress, windows))
        told = Outgoing(self._topic, target, [(None, value)])
        return Unit(told=[told], changelog=self._keep(windows))


def _parts(windows: Windows) -> Iterator[Windows]:
    """The entries in parts that fit a message each."""
    if sum(map(len, windows.values())) <= MESSAGE_ENTRIES_MAX and _fit(windows):
        if windows:
            yield windows
        return
    for window, scopes in windows.items():
        for part in pieces(scopes, MESSAGE_ENTRIES_MAX):
            yield from _halves(window, part)


def _halves(window: str, scopes: dict[str, Entry]) -> Iterator[Windows]:
    """The same in halves, as often as needed."""
    if len(scopes) == 1 or _fit({window: scopes}):
        yield {window: scopes}
        return
    items = list(scopes.items())
    middle = len(items) // 2
    yield from _halves(window, dict(items[:middle]))
    yield from _halves(window, dict(items[middle:]))


def _fit(windows: Windows) -> bool:
    """Whether the entries surely fit a message; a scope's key is ASCII."""
    return (
        sum(sum(map(len, scopes)) + len(scopes) * ENTRY_BYTES_MAX for scopes in windows.values())
        <= MESSAGE_BYTES_MAX
    )
