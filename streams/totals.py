"""Totals: the sum of a (scope, window)'s partials, one per usage partition.

A total keeps one entry per usage partition and replaces it when one with a higher offset arrives,
so a duplicate, a re-ordering or a replay changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from outlay.budget import Amounts
from schemas.messages import Block, PartialsMessage
from streams import messages
from streams.batch import SourceRecord
from streams.entries import Entries, parse_key
from streams.floor import Floor
from streams.flush import Message
from streams.joined import Joined, some_at_a_time


class Reached(msgspec.Struct, frozen=True):
    """How far the usage partitions have told, by partition: their progress, and the wants."""

    progress: dict[int, int]
    wants: dict[int, int]


_decode_reached = msgspec.json.Decoder(Reached).decode


class Totals:
    """All totals of one totals partition, and how far into the usage topic they reach."""

    def __init__(self) -> None:
        self.parts: dict[int, Entries] = {}
        """By usage partition, what it adds to the totals."""
        self.progress: dict[int, int] = {}
        """By usage partition, the offset up to which everything wanted has arrived."""
        self.wants: dict[int, int] = {}
        """By usage partition, the last budget request whose wants that offset speaks of."""
        self.late = 0
        """Partials that came for a window that was forgotten before."""
        self.floor = Floor()
        """By the newest day that any usage partition has told."""
        self._progress_dirty = False

    # -- recovery

    def load(self, records: Sequence[SourceRecord]) -> None:
        """Take over records of the changelog, in their order."""
        for record in records:
            key, value = messages.key_of(record), record.value
            if key == messages.FLOOR_KEY:
                if value is not None:
                    self.floor.rise(messages.decode_int(value))
            elif key == messages.PROGRESS_KEY:
                if value is not None:
                    reached = _decode_reached(value)
                    self.progress, self.wants = reached.progress, reached.wants
            else:
                month, partition, number = parse_key(key)
                self._part(partition).load(month, number, value)

    def begin(self) -> None:
        """All of the changelog was loaded."""
        for part in self.parts.values():
            part.drop(self.floor.forgets)

    @property
    def reaches(self) -> dict[int, int]:
        """The highest offset that some total has counted, by usage partition."""
        reached = dict(self.progress)
        for partition, entries in self.parts.items():
            reached[partition] = max(reached.get(partition, -1), entries.reaches)
        return reached

    # -- reading

    def merge(self, message: PartialsMessage) -> list[str]:
        """Take over what one usage partition tells; returns the windows that are not forgotten.

        Its entries are true whoever tells them. Its progress speaks of what was wanted by then: of
        one that has lost the partition without knowing, it may speak of less than is wanted by
        now. So it counts only where it is not behind in wants, and wants only with a progress that
        is not behind: an agent's entries reach as far as the watermark from the first.
        """
        self.floor.rise(message.floor_day)
        partition, told = message.partition, message.entries
        forgotten = list(filter(self.floor.forgets, told.windows))
        if forgotten:  # here: they never start again
            if not message.asked:
                self.late += len(forgotten) * len(told.scopes)
            kept = {w: told.windows[w] for w in told.windows if w not in forgotten}
            told = Block(told.scopes, kept)
        if told.windows:
            self._part(partition).take(told)
        if message.progress is not None:
            self._reach(partition, message.progress, message.wants)
        return list(told.windows)

    def _reach(self, partition: int, progress: int, wants: int) -> None:
        held = self.progress.get(partition, -2), self.wants.get(partition, -1)
        if progress >= held[0] and wants >= held[1] and (progress, wants) != held:
            self.progress[partition], self.wants[partition] = progress, wants
            self._progress_dirty = True

    def wants_taken(self, usage_partitions: int) -> int:
        """The last budget request whose wants are spoken of by all partitions' progress."""
        return min(self.wants.get(partition, -1) for partition in range(usage_partitions))

    def _part(self, partition: int) -> Entries:
        part = self.parts.get(partition)
        if part is None:
            part = self.parts[partition] = Entries(partition)
        return part

    def joined(self, scopes: Sequence[str], windows: Sequence[str]) -> dict[str, Joined]:
        """What some scopes have used, by window."""
        found = {window: Joined(len(scopes)) for window in windows}
        for partition, entries in self.parts.items():
            for window, places, rows in entries.find(scopes, windows):
                found[window].add(partition, places, rows)
        return found

    def amounts(self, scopes: Sequence[str], window: str) -> Iterator[Amounts]:
        """What each of some scopes has used of a window; nothing where it is not known."""
        for some in some_at_a_time(scopes):
            yield from self.joined(some, (window,))[window].amounts

    # -- writing

    @property
    def unsaved(self) -> int:
        """How many entries wait to be written, as often as they were told."""
        return sum(part.unsaved for part in self.parts.values())

    def take_changes(self) -> Iterator[Message]:
        """The changelog messages of all that changed; they count as written from then on."""
        if self.floor.rose:
            yield messages.FLOOR_KEY, messages.encode(self.floor.day)
            for part in self.parts.values():
                yield from part.forget(self.floor.forgets)
        for part in self.parts.values():
            yield from part.take_changes()
        if self._progress_dirty:
            yield messages.PROGRESS_KEY, messages.encode(Reached(self.progress, self.wants))
        self.floor.rose = self._progress_dirty = False
