"""Partials: the cumulative totals of one usage partition, by window and scope.

A partial is a pure function of a prefix of the log: no clock takes part. Each entry carries the
offset up to which it has counted, so that a replay skips what it contains. What is new is summed by
agent first, and added to the entries at the next flush.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from outlay.topics import TopicNames
from streams import messages, wants
from streams.batch import Batch, SourceRecord, is_due, unseen
from streams.counting import Counting
from streams.counts import Count
from streams.entries import Entries, parse_key
from streams.floor import Floor
from streams.flush import Flush, Message, Offsets, Outgoing, Unit, cut
from streams.marks import Marks
from streams.saving import SAVE_INTERVAL_MS, UNSAVED_MAX, Saves
from streams.sums import Sums, Used
from streams.telling import Teller
from streams.wants import Wants

DIRTY_MAX = 500_000
"""How many entries may wait for a flush, in a replay or since they are wanted, before the stage
stops reading; counted anew each time that they are met."""

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
        self.entries = Entries(partition)
        self.wants = Wants()
        self.positions = {topics.usage: 0, topics.wants: 0}
        """The next offset to apply, by source topic."""
        self._topics = topics
        self._changelog = changelog
        self._teller = Teller(topics.partials, partition, totals_partitions, self.wants)
        self._floor = Floor()
        self._counting = Counting(topics.usage, partition, self._floor)
        self._dirty = Marks()
        self._asked = Marks()
        self._saves = Saves(partition, save_interval_ms)
        self._replay_until = -1
        self._told: dict[str, int] = {}
        self._committed: dict[str, int] = {}
        self._told_at_ms = 0

    # -- recovery

    def load(self, changelog: str, records: Sequence[SourceRecord]) -> None:
        """Take over records of the changelog, in their order."""
        for record in records:
            key, value = messages.key_of(record), record.value
            if wants.is_key(key):
                self.wants.load(key, value)
            elif key != messages.FLOOR_KEY:
                month, _, number = parse_key(key)
                self.entries.load(month, number, value)
            elif value is not None:
                self._floor.rise(messages.decode_int(value))

    def begin(self, positions: dict[str, int], ends: dict[str, int]) -> None:
        """Start to apply at the committed offsets."""
        self.positions = dict(positions)
        self._told = dict(positions)
        self._committed = {}  # also where nothing is: else messages might go that none has counted
        self._replay_until = self.reaches[self.partition]
        self.entries.drop(self._floor.forgets)
        self._floor.rose = self._floor.day > 0  # what is below it goes with the next save

    @property
    def reaches(self) -> dict[int, int]:
        """The highest offset that this state has counted, by usage partition."""
        return {self.partition: self.entries.reaches}

    @property
    def decided(self) -> dict[str, int]:
        """The highest offset that this state has decided, by source topic."""
        return {self._topics.usage: self._replay_until}

    @property
    def position(self) -> int:
        """The next offset of the usage topic to apply."""
        return self.positions[self._topics.usage]

    # -- reading

    def apply(self, batch: Batch) -> Batch | None:
        """Count a batch of usage messages, or take over one of wants.

        Returns the rest of it when too much waits for a flush.

        Raises:
            GapError: messages before it are missing.
        """
        take = self._take_wants if batch.topic == self._topics.wants else self._count_usage
        position = self.positions[batch.topic]
        records = unseen(batch, position)
        taken = take(records)
        if taken == len(records):
            self.positions[batch.topic] = max(position, batch.end)
            return None
        self.positions[batch.topic] = records[taken].offset
        return batch.rest(records, taken)

    def _count_usage(self, records: Sequence[SourceRecord]) -> int:
        """Count usage messages until too much waits for a flush; how many."""
        split = self._replayed(records)
        taken = 0
        while taken < len(records) and not self.is_full:
            if taken < split:  # each against every key's offset
                self._replay(records[taken])
                taken += 1
            else:
                taken += self._counting.count(records, taken)
        return taken

    def _take_wants(self, records: Sequence[SourceRecord]) -> int:
        """Take over messages of wants until too much waits for a flush; how many."""
        for taken, record in enumerate(records):
            if self.is_full:
                return taken
            try:
                message = messages.decode_wants(record.value)
            except messages.MessageError as error:
                self._counting.reject(self._topics.wants, record, str(error))
                continue
            for windows, slots in self.entries.standing(self.wants.take(message)):
                self._asked.add(windows, slots)
        return len(records)

    def _replayed(self, records: Sequence[SourceRecord]) -> int:
        """How many of the records some entry may contain already."""
        if not records or records[0].offset > self._replay_until:
            return 0
        return sum(record.offset <= self._replay_until for record in records)

    def _replay(self, message: SourceRecord) -> None:
        """Count a message in those entries that do not contain it."""
        self._add(self._counting.count_apart(message), message.offset)

    def _add(self, sums: Sums, offset: int) -> None:
        """Add the sums of some messages, the last of which stands at `offset` or before it."""
        for windows, scopes, amounts, _ in self._kept(sums):
            slots, _ = self.entries.add(scopes, windows, amounts, offset)
            # Also what was skipped: a crash may have cut its publication off.
            self._dirty.add(windows, slots)

    def _kept(self, sums: Sums) -> Iterator[Used]:
        """Sums by scope, with those of their windows that are not forgotten.

        A window that has been forgotten never starts again at zero.
        """
        for used in sums.by_windows():
            if kept := tuple(w for w in used.windows if not self._floor.forgets(w)):
                yield used._replace(windows=kept)

    # -- writing

    @property
    def is_full(self) -> bool:
        """Whether so much waits for a flush that reading should pause."""
        return self._counting.is_full or self._dirty.size + self._asked.size >= DIRTY_MAX

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
        if not (saves or heartbeat or self._counting.letters or self.positions != self._told):
            return None
        flush = cut(self._units(saves), self._offsets if saves else {})
        self._told_at_ms, self._told = now_ms, dict(self.positions)
        self._counting.letters.clear()
        if saves:
            self._saves.done(now_ms)
            self._committed = dict(self.positions)
            self._floor.rose = False
        return flush

    @property
    def _offsets(self) -> Offsets:
        return {(topic, self.partition): at for topic, at in self.positions.items()}

    def _is_to_save(self, now_ms: int, *, last: bool) -> bool:
        if self._floor.rose or self.positions != self._committed:
            return last or self._saves.are_due(now_ms) or self.entries.unsaved >= UNSAVED_MAX
        return self._saves.are_long_ago(now_ms)

    def _units(self, saves: bool) -> Iterator[Unit]:
        if saves and self._floor.rose:
            yield self._saved((messages.FLOOR_KEY, messages.encode(self._floor.day)))
            yield from map(self._saved, self.entries.forget(self._floor.forgets))
        for letter in self._counting.letters.to(self._topics.rejected):
            yield Unit(told=[letter])
        yield from self._tell_marked(self._dirty)
        yield from self._tell_marked(self._asked, asked=True)
        yield from self._settle()
        yield from self._teller.end(self._floor.day, self.position - 1)
        if saves:
            yield from map(self._saved, self.entries.take_changes())
            yield from map(self._saved, self.wants.take_changes())

    def _saved(self, message: Message) -> Unit:
        return Unit(changelog=[Outgoing(self._changelog, self.partition, [message])])

    def _tell_marked(self, marks: Marks, *, asked: bool = False) -> Iterator[Unit]:
        """Tell what a replay has met, or what is wanted now."""
        day = self._floor.day
        for marked, slots in marks.take():
            # What was forgotten since goes with the next save.
            if windows := tuple(w for w in marked if not self._floor.forgets(w)):
                for some in _thousands(len(slots)):
                    scopes, rows = self.entries.rows(windows, slots[some])
                    places = self.wants.told(scopes)
                    yield from self._teller.tell(day, scopes, rows, places, asked=asked)

    def _settle(self) -> Iterator[Unit]:
        """Add to the entries what was summed beside them: they contain all that was applied."""
        day, offset = self._floor.day, self.position - 1
        for windows, scopes, amounts, are_agents in self._kept(self._counting.take_sums()):
            for some in _thousands(len(scopes)):
                those = scopes[some]
                _, rows = self.entries.add(those, windows, amounts[some], offset)
                places = self.wants.wanted(those) if are_agents else range(len(those))
                yield from self._teller.tell(day, those, rows, places)


def _thousands(count: int) -> Iterator[slice]:
    """The places of so many things, as many at a time as are best told together."""
    for start in range(0, count, SETTLED_TOGETHER_MAX):
        yield slice(start, start + SETTLED_TOGETHER_MAX)
