"""Telling: what the entries of a usage partition become on the way to the totals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from schemas.messages import Entry, PartialsMessage, Windows
from streams import messages
from streams.flush import Outgoing, Unit

MESSAGE_BYTES_MAX = 524_288
"""Where a partials message is split, in bytes; half of what a topic takes by default."""

MESSAGE_ENTRIES_MAX = 2_000
"""How many entries a partials message holds at most."""

ENTRY_BYTES_MAX = 220
"""How long an entry's JSON may get without its scope, in bytes: five numbers of forty digits."""

TARGETS_MAX = 1_048_576
"""How many scopes' totals partitions are kept ready; asking for one costs microseconds."""


class Teller:
    """Makes the partials messages of one usage partition, and the changelog that says they are out.

    `changelog` is where that goes; `totals_partition` says whose a scope is.
    """

    def __init__(
        self,
        topic: str,
        changelog: Outgoing,
        totals_partition: Callable[[str], int],
        totals_partitions: int,
    ) -> None:
        self._topic = topic
        self._changelog = changelog
        self._totals_partition = totals_partition
        self._totals_partitions = totals_partitions
        self._targets: dict[str, int] = {}

    def units(self, dirty: Windows, floor_day: int, progress: int) -> Iterator[Unit]:
        """The entries, split by size; the last part for each partition tells the progress."""
        lasts = []
        for target, windows in enumerate(self._by_target(dirty)):
            parts = list(_parts(windows)) or [{}]
            for part in parts[:-1]:
                yield self._unit(target, floor_day, None, part)
            lasts.append(self._unit(target, floor_day, progress, parts[-1]))
        yield from lasts

    def _by_target(self, dirty: Windows) -> list[Windows]:
        if len(self._targets) > TARGETS_MAX:
            self._targets.clear()
        by_target: list[Windows] = [{} for _ in range(self._totals_partitions)]
        targets = self._targets
        for window, scopes in dirty.items():
            tables = [windows.setdefault(window, {}) for windows in by_target]
            for scope, entry in scopes.items():
                target = targets.get(scope)
                if target is None:
                    target = targets[scope] = self._totals_partition(scope)
                tables[target][scope] = entry
        return [{w: scopes for w, scopes in each.items() if scopes} for each in by_target]

    def _unit(self, target: int, floor_day: int, progress: int | None, windows: Windows) -> Unit:
        value = messages.encode(
            PartialsMessage(self._changelog.partition, floor_day, progress, windows)
        )
        changelog = [
            message
            for window, scopes in windows.items()
            for message in messages.changelog_messages(window, scopes.items())
        ]
        return Unit(
            [Outgoing(self._topic, target, [(None, value)])],
            [self._changelog._replace(messages=changelog)] if changelog else [],
        )


def _parts(windows: Windows) -> Iterator[Windows]:
    """The entries in parts that fit a message each."""
    if sum(map(len, windows.values())) <= MESSAGE_ENTRIES_MAX and _fit(windows):
        if windows:
            yield windows
        return
    for window, scopes in windows.items():
        items = iter(scopes.items())
        while part := dict(islice(items, MESSAGE_ENTRIES_MAX)):
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
