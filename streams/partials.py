"""Partials: the cumulative totals of one usage partition, by window and scope.

A partial is a pure function of a prefix of the log: no clock takes part. Each entry carries the
offset up to which it has counted, so that a replay skips what it contains. What is new is summed by
agent first, and added to the entries at the next flush.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from outlay.topics import TopicNames
from schemas.messages import Windows
from streams import messages
from streams.adding import add_amounts
from streams.batch import Batch, SourceRecord, is_due, unseen
from streams.counting import Counting
from streams.counts import Count
from streams.floor import Floor
from streams.flush import Flush, Offsets, Outgoing, Unit, apart, cut
from streams.pieces import pieces
from streams.saving import SAVE_INTERVAL_MS, UNSAVED_MAX, Saves, Unsaved
from streams.sums import Sums
from streams.telling import Teller

DIRTY_MAX = 500_000
"""How many entries may wait for a flush in a replay before the stage stops reading."""

SETTLED_TOGETHER_MAX = 3_000
"""How many scopes are added to the entries and told at a time: what stays in the processor's cache,
and fills a message for each of a few totals partitions."""

HEARTBEAT_MS = 1_000
"""How often the progress is told at least, in milliseconds, also with nothing to add."""


class Partials:
    """The state of one partition of the partials stage.

    Its life: `load` for each batch of the changelog, `begin`, then `apply` and `flush` in turn.
    """

    def __init__(
        self,
        partition: int,
        *,
        topics: TopicNames,
        changelog: str,
        totals_partitions: int,
        save_interval_ms: int = SAVE_INTERVAL_MS,
    ) -> None:
        self.partition = partition
        self.entries: Windows = {}
        self.position = 0
        """The next offset to apply."""
        self._topics = topics
        self._changelog = changelog
        self._teller = Teller(topics.partials, partition, totals_partitions, self._keep)
        self._floor = Floor()
        self._counting = Counting(topics.usage, partition, self._floor)
        self._dirty: Windows = {}
        self._dirty_count = 0
        self._unsaved = Unsaved(changelog, partition)
        self._saves = Saves(partition, save_interval_ms)
        self._saves_along = False
        self._replay_until = -1
        self._told = self._committed = 0
        self._told_at_ms = 0

    # -- recovery

    def load(self, changelog: str, records: Sequence[SourceRecord]) -> None:
        """Take over records of the changelog, in their order."""
        entries = self.entries
        for record in records:
            key, value = messages.key_of(record), record.value
            if key == messages.FLOOR_KEY:
                if value is not None:
                    self._floor.rise(messages.decode_int(value))
                continue
            scope, window = messages.parse_changelog_key(key)
            if value is not None:
                entries.setdefault(window, {})[scope] = messages.decode_entry(value)
            elif window in entries:
                entries[window].pop(scope, None)

    def begin(self, positions: dict[str, int], ends: dict[str, int]) -> None:
        """Start to apply at the committed offset of the usage topic."""
        self.position = self._told = positions[self._topics.usage]
        self._committed = -1  # also where nothing is: else messages might go that none has counted
        self._replay_until = self.reaches[self.partition]
        self._floor.rose = self._floor.day > 0  # what is below it goes with the next save

    @property
    def reaches(self) -> dict[int, int]:
        """The highest offset that this state has counted, by usage partition."""
        offsets = (e.offset for scopes in self.entries.values() for e in scopes.values())
        return {self.partition: max(offsets, default=-1)}

    @property
    def decided(self) -> dict[str, int]:
        """The highest offset that this state has decided, by source topic."""
        return {self._topics.usage: self._replay_until}

    @property
    def positions(self) -> dict[str, int]:
        """The next offset to apply, by source topic."""
        return {self._topics.usage: self.position}

    # -- reading

    def apply(self, batch: Batch) -> Batch | None:
        """Count a batch of usage messages; returns the rest of it when dead letters pile up.

        Raises:
            GapError: messages before it are missing.
        """
        records = unseen(batch, self.position)
        if not records:
            self.position = max(self.position, batch.end)
            return None
        split = self._replayed(records)
        taken = 0
        while taken < len(records) and not self.is_full:
            if taken < split:  # each against every key's offset
                self._replay(records[taken])
                taken += 1
            else:
                taken += self._counting.count(records, taken)
        return self._rest(batch, records, taken)

    def _rest(self, batch: Batch, records: Sequence[SourceRecord], taken: int) -> Batch | None:
        if taken == len(records):
            self.position = batch.end
            return None
        self.position = records[taken].offset
        return Batch(
            batch.topic, batch.partition, records[taken:], self.position, batch.end, batch.lag
        )

    def _replayed(self, records: Sequence[SourceRecord]) -> int:
        """How many of the records some entry may contain already."""
        if records[0].offset > self._replay_until:
            return 0
        return sum(record.offset <= self._replay_until for record in records)

    def _replay(self, message: SourceRecord) -> None:
        """Count a message in those entries that do not contain it."""
        self._add(self._counting.count_apart(message), message.offset)

    def _add(self, sums: Sums, offset: int) -> None:
        """Add the sums of some messages, the last of which stands at `offset` or before it."""
        for window, scopes in sums.by_window().items():
            if self._floor.forgets(window):
                continue  # a window that has been forgotten never starts again at zero
            entries = add_amounts(self.entries.setdefault(window, {}), scopes, offset)
            dirty = self._dirty.setdefault(window, {})
            before = len(dirty)
            # Also what was skipped: a crash may have cut its publication off.
            dirty.update(zip(scopes, entries, strict=True))
            self._dirty_count += len(dirty) - before

    # -- writing

    @property
    def is_full(self) -> bool:
        """Whether so much waits for a flush that reading should pause."""
        return self._counting.is_full or self._dirty_count >= DIRTY_MAX

    def take_counts(self) -> Mapping[Count, int]:
        """What was seen since the last time; a replay counts again."""
        return self._counting.take_counts()

    def flush(self, now_ms: int, *, last: bool = False) -> Flush | None:
        """What is to be written now, taken over as written; None when there is nothing to say.

        Others are told each time; the changelog and the offset can wait for the next save, or for
        the `last` flush.
        """
        saves = self._is_to_save(now_ms, last=last)
        heartbeat = is_due(now_ms, self._told_at_ms, HEARTBEAT_MS)
        if not (saves or heartbeat or self._counting.letters or self.position != self._told):
            return None
        flush = cut(self._units(saves), self._offsets if saves else {})
        self._told_at_ms, self._told = now_ms, self.position
        self._dirty = {}
        self._dirty_count = 0
        self._counting.letters.clear()
        if saves:
            self._saves.done(now_ms)
            self._committed = self.position
            self._floor.rose = False
        return flush

    @property
    def _offsets(self) -> Offsets:
        return {(self._topics.usage, self.partition): self.position}

    def _is_to_save(self, now_ms: int, *, last: bool) -> bool:
        if self._floor.rose or self.position != self._committed:
            return last or self._saves.are_due(now_ms) or len(self._unsaved) >= UNSAVED_MAX
        return self._saves.are_long_ago(now_ms)

    def _units(self, saves: bool) -> Iterator[Unit]:
        self._saves_along = saves and not self._unsaved
        if saves and self._floor.rose:
            floor = (messages.FLOOR_KEY, messages.encode(self._floor.day))
            yield Unit(changelog=[Outgoing(self._changelog, self.partition, [floor])])
            yield from self._forget()
        for letter in self._counting.letters:
            yield Unit(told=[messages.dead_letter_message(self._topics.rejected, letter)])
        for window, dirty in self._dirty.items():
            if self._floor.forgets(window):
                continue  # since it was counted; it goes with the next save
            entries = {window: list(dirty.values())}
            yield from self._teller.tell(self._floor.day, list(dirty), entries)
        yield from self._settle()
        yield from self._teller.end(self._floor.day, self.position - 1)
        if saves:
            yield from self._unsaved.take()

    def _keep(self, windows: Windows) -> Sequence[Outgoing]:
        """The changelog of what is told, where it goes out along with it."""
        if self._saves_along:
            return self._unsaved.rows(windows)
        self._unsaved.add(windows)
        return ()

    def _settle(self) -> Iterator[Unit]:
        """Add to the entries what was summed beside them: they contain all that was applied."""
        for windows, scopes in self._counting.take_sums().alike():
            kept = [window for window in windows if not self._floor.forgets(window)]
            for some in pieces(scopes, SETTLED_TOGETHER_MAX) if kept else ():
                entries = {
                    window: add_amounts(
                        self.entries.setdefault(window, {}), some, self.position - 1
                    )
                    for window in kept
                }
                yield from self._teller.tell(self._floor.day, list(some), entries)

    def _forget(self) -> Iterator[Unit]:
        """Drop the windows below the floor, which has risen."""
        for window in list(filter(self._floor.forgets, self.entries)):
            self._dirty.pop(window, None)
            self._unsaved.forget(window)
            gone = messages.tombstones(window, self.entries.pop(window))
            for outgoing in apart(Outgoing(self._changelog, self.partition, gone)):
                yield Unit(changelog=[outgoing])
