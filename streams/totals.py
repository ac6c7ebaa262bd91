"""Totals: the sum of a (scope, window)'s partials, one per usage partition.

A total keeps one part per usage partition and replaces it when a partial with a higher offset
arrives, so a duplicate, a re-ordering or a replay changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from sys import intern

import msgspec

from outlay.budget import NOTHING, Amounts
from outlay.window import floor_names, is_forgotten
from schemas.messages import PartialEntry, PartialsMessage
from streams import messages
from streams.batch import DAY_MAX
from streams.messages import Entry, Key


class Part(msgspec.Struct, gc=False):
    """What one usage partition adds to a total."""

    partition: int
    entry: Entry


class Totals:
    """All totals of one totals partition, and how far into the usage topic they reach."""

    def __init__(self) -> None:
        self.parts: dict[Key, tuple[Part, ...]] = {}
        self.progress: dict[int, int] = {}
        """By usage partition, the offset up to which everything has arrived."""
        self.late = 0
        """Partials that came for a window that was forgotten before."""
        self._dirty: set[tuple[Key, int]] = set()
        self.floor_day = 0
        """The newest day that any usage partition has told, as an ordinal."""
        self._floor = ("", "")
        self.floor_rose = False
        """Whether that is not written yet, and nothing was forgotten for it."""
        self._progress_dirty = False

    # -- recovery

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take over one record of the changelog."""
        if key == messages.FLOOR_KEY:
            if value is not None:
                self._raise_floor(messages.decode_int(value))
        elif key == messages.PROGRESS_KEY:
            if value is not None:
                self.progress = messages.decode_offsets(value)
        else:
            parsed, partition = messages.parse_totals_changelog_key(key)
            self._replace(
                parsed, partition, None if value is None else messages.decode_entry(value)
            )

    @property
    def reaches(self) -> dict[int, int]:
        """The highest offset that some total has counted, by usage partition."""
        reached = dict(self.progress)
        for parts in self.parts.values():
            for part in parts:
                reached[part.partition] = max(reached.get(part.partition, -1), part.entry.offset)
        return reached

    # -- reading

    def merge(self, message: PartialsMessage) -> set[str]:
        """Take over what one usage partition tells; returns the scopes that it concerns."""
        self._raise_floor(message.floor_day)
        scopes = set()
        for partial in message.entries:
            if is_forgotten(partial.window, self._floor):
                self.late += 1  # forgotten here: it never starts again
                continue
            key = self._merge_entry(message.partition, partial)
            self._dirty.add((key, message.partition))  # also when it brings nothing new
            scopes.add(key[0])
        told = message.progress
        if told is not None and told > self.progress.get(message.partition, -2):
            self.progress[message.partition] = told
            self._progress_dirty = True
        return scopes

    def _merge_entry(self, partition: int, partial: PartialEntry) -> Key:
        key = (intern(partial.scope), intern(partial.window))
        for part in self.parts.get(key, ()):
            if part.partition == partition:
                if partial.offset > part.entry.offset:
                    part.entry = Entry(*partial[2:])
                return key
        self._replace(key, partition, Entry(*partial[2:]))
        return key

    def _replace(self, key: Key, partition: int, entry: Entry | None) -> None:
        others = tuple(part for part in self.parts.get(key, ()) if part.partition != partition)
        if entry is not None:
            others += (Part(partition, entry),)
        if others:
            self.parts[key] = others
        else:
            self.parts.pop(key, None)

    def total(self, key: Key) -> tuple[Amounts, dict[int, int]] | None:
        """The total of a (scope, window), and the offsets that it contains; None when unknown."""
        parts = self.parts.get(key)
        if parts is None:
            return None
        total = NOTHING
        for part in parts:
            total += part.entry.amounts
        return total, {part.partition: part.entry.offset for part in parts}

    # -- forgetting

    def _raise_floor(self, day: int) -> None:
        if self.floor_day < day <= DAY_MAX:
            self.floor_day = day
            self._floor = floor_names(day)
            self.floor_rose = True

    def _forget(self) -> Iterator[tuple[bytes, None]]:
        """Drop the windows below the floor, when it has risen; yields their tombstones."""
        if not self.floor_rose:
            return
        for key in [key for key in self.parts if is_forgotten(key[1], self._floor)]:
            for part in self.parts.pop(key):
                self._dirty.discard((key, part.partition))
                yield messages.totals_changelog_key(key, part.partition), None

    # -- writing

    @property
    def dirty_count(self) -> int:
        return len(self._dirty)

    def take_changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The changelog records of all that changed; they count as written from then on."""
        yield from self._forget()
        if self.floor_rose:
            yield messages.FLOOR_KEY, messages.encode(self.floor_day)
        for key, partition in self._dirty:
            for part in self.parts[key]:
                if part.partition == partition:
                    entry = messages.encode(part.entry)
                    yield messages.totals_changelog_key(key, partition), entry
        if self._progress_dirty:
            yield messages.PROGRESS_KEY, messages.encode(self.progress)
        self._dirty.clear()
        self.floor_rose = self._progress_dirty = False
