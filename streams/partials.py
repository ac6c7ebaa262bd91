"""Partials: the cumulative totals of one usage partition, by window and scope.

A partial is a pure function of a prefix of the log: no clock takes part. Each entry carries the
offset up to which it has counted, so that a replay skips what it contains. What is new is summed by
agent first, and added to the entries at the next flush.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from outlay.frame import MAGIC, is_frame
from outlay.judging import Rejection, decode_usage, latest_us, split_usage
from outlay.plain import ARRAY_BYTE, RUN_MAX, PlainUsage, decode_plain
from outlay.topics import TopicNames
from outlay.window import floor_names, is_forgotten, window_names
from schemas.messages import DeadLetter, Windows
from streams import messages
from streams.adding import add_amounts
from streams.batch import DAY_MAX, Batch, SourceRecord, day_of, day_start_ms, is_due, unseen
from streams.counts import Count
from streams.flush import Flush, Outgoing, Unit, apart, cut
from streams.frame_sums import plain_frame
from streams.sums import Sums
from streams.telling import Teller

SUMS_MAX = 100_000
"""How many sums may wait for a flush before the stage stops reading: each is of some ten entries,
nearly all of which it shares with others."""

DIRTY_MAX = 500_000
"""How many entries may wait for a flush in a replay before the stage stops reading."""

REJECTED_MAX = 10_000
"""How many dead letters may wait for a flush before the stage stops reading."""

SETTLED_TOGETHER_MAX = 3_000
"""How many scopes are added to the entries and told at a time: what stays in the processor's cache,
and fills a message for each of a few totals partitions."""

HEARTBEAT_MS = 1_000
"""How often the progress is told at least, in milliseconds, also with nothing to add."""

_MANY_BYTES = (ARRAY_BYTE, MAGIC[0])
"""What a message with many records begins with."""


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
    ) -> None:
        self.partition = partition
        self.entries: Windows = {}
        self._counts: Counter[Count] = Counter()
        self.position = 0
        """The next offset to apply."""
        self._topics = topics
        self._changelog = changelog
        self._teller = Teller(
            topics.partials, Outgoing(changelog, partition, ()), totals_partitions
        )
        self._sums = Sums()
        self._dirty: Windows = {}
        self._dirty_count = 0
        self._rejected: list[DeadLetter] = []
        self._replay_until = -1
        self._committed = 0
        self._floor_day = 0
        self._floor = ("", "")
        self._floor_dirty = False
        self._next_day_ms = 0
        self._told_at_ms = 0

    # -- recovery

    def load(self, changelog: str, records: Sequence[SourceRecord]) -> None:
        """Take over records of the changelog, in their order."""
        entries = self.entries
        for record in records:
            key, value = messages.key_of(record), record.value
            if key == messages.FLOOR_KEY:
                if value is not None:
                    self._raise_floor(messages.decode_int(value))
                    self._floor_dirty = False
                continue
            scope, window = messages.parse_changelog_key(key)
            if value is not None:
                entries.setdefault(window, {})[scope] = messages.decode_entry(value)
            elif window in entries:
                entries[window].pop(scope, None)

    def begin(self, positions: dict[str, int], ends: dict[str, int]) -> None:
        """Start to apply at the committed offset of the usage topic."""
        self.position = self._committed = positions[self._topics.usage]
        self._replay_until = self.reaches[self.partition]
        self._floor_dirty = self._floor_day > 0  # what is below it goes with the next flush

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
                taken += self._count(_run(records, taken))
        self._counts["messages"] += taken
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

    def _count(self, run: Sequence[SourceRecord]) -> int:
        """Count messages that no entry contains; returns how many it took."""
        timestamps = [message.timestamp for message in run]
        if max(timestamps) >= self._next_day_ms:
            for timestamp_ms in timestamps:  # each: one that is nonsense raises nothing
                self._raise_floor(day_of(timestamp_ms))
        if is_frame(run[0].value or b"") and self._add_frame(run[0]):
            return 1
        plain = decode_plain([message.value for message in run], min(timestamps))
        if plain is not None:
            self._sum(self._sums, plain)
            return len(run)
        for number, message in enumerate(run):
            if self.is_full:
                return number
            self._judge(message, self._sums)
        return len(run)

    def _add_frame(self, message: SourceRecord) -> bool:
        """Count a message with a frame; False where it is to be looked at closely."""
        frame = plain_frame(message.value or b"", latest_us(message.timestamp))
        if frame is None or not self._sums.add_frame(frame):
            return False
        self._count_days({frame.day: frame.size})
        return True

    def _replay(self, message: SourceRecord) -> None:
        """Count a message in those entries that do not contain it."""
        sums = Sums()
        self._raise_floor(day_of(message.timestamp))
        self._judge(message, sums)
        self._add(sums, message.offset)

    def _judge(self, message: SourceRecord, sums: Sums) -> None:
        usages, rejections = decode_usage(message.value, message.timestamp)
        if usages:
            records, costs_nano = zip(*usages, strict=True)
            self._sum(sums, PlainUsage(records, costs_nano, None))
        if rejections:
            self._reject(message, rejections)

    def _sum(self, sums: Sums, usage: PlainUsage) -> None:
        if usage.day is None:
            days = sums.add_apart(usage.records, usage.costs_nano)
        else:
            sums.add(usage.records, usage.costs_nano, usage.day)
            days = {usage.day: len(usage.records)}
        self._count_days(days)

    def _count_days(self, days: Mapping[int, int]) -> None:
        for day, count in days.items():
            self._counts["records"] += count
            if window_names(day)[0] < self._floor[0]:
                self._counts["late"] += count

    def _reject(self, message: SourceRecord, rejections: list[Rejection]) -> None:
        """A dead letter each; of a record in an array, with that record alone."""
        self._counts["rejected"] += len(rejections)
        value = message.value
        in_array = value is not None and any(r.index is not None for r in rejections)
        records = split_usage(value) if value is not None and in_array else []
        for rejection in rejections:
            self._rejected.append(
                messages.dead_letter(
                    rejection.reason,
                    value if rejection.index is None else records[rejection.index],
                    topic=self._topics.usage,
                    partition=self.partition,
                    offset=message.offset,
                    timestamp_ms=message.timestamp,
                    index=rejection.index,
                )
            )

    def _add(self, sums: Sums, offset: int) -> None:
        """Add the sums of some messages, the last of which stands at `offset` or before it."""
        for window, scopes in sums.by_window().items():
            if is_forgotten(window, self._floor):
                continue  # a window that has been forgotten never starts again at zero
            entries = add_amounts(self.entries.setdefault(window, {}), scopes, offset)
            dirty = self._dirty.setdefault(window, {})
            before = len(dirty)
            # Also what was skipped: a crash may have cut its publication off.
            dirty.update(zip(scopes, entries, strict=True))
            self._dirty_count += len(dirty) - before

    def _raise_floor(self, day: int) -> None:
        if self._floor_day < day <= DAY_MAX:
            self._floor_day = day
            self._floor = floor_names(day)
            self._floor_dirty = True
            self._next_day_ms = day_start_ms(day + 1)

    # -- writing

    @property
    def is_full(self) -> bool:
        """Whether so much waits for a flush that reading should pause."""
        return (
            self._sums.size >= SUMS_MAX
            or self._dirty_count >= DIRTY_MAX
            or len(self._rejected) >= REJECTED_MAX
        )

    def take_counts(self) -> Mapping[Count, int]:
        """What was seen since the last time; a replay counts again."""
        counts, self._counts = self._counts, Counter()
        return counts

    def flush(self, now_ms: int) -> Flush | None:
        """What is to be written now, taken over as written; None when there is nothing to say."""
        heartbeat = is_due(now_ms, self._told_at_ms, HEARTBEAT_MS)
        if not (
            self._floor_dirty
            or heartbeat
            or self._dirty
            or self._rejected
            or self.position != self._committed
        ):
            return None
        self._told_at_ms = now_ms
        flush = cut(self._units(), {(self._topics.usage, self.partition): self.position})
        self._committed = self.position
        self._dirty = {}
        self._dirty_count = 0
        self._rejected.clear()
        self._floor_dirty = False
        return flush

    def _units(self) -> Iterator[Unit]:
        if self._floor_dirty:
            floor = (messages.FLOOR_KEY, messages.encode(self._floor_day))
            yield Unit([], [Outgoing(self._changelog, self.partition, [floor])])
            yield from self._forget()
        for letter in self._rejected:
            yield Unit([messages.dead_letter_message(self._topics.rejected, letter)], [])
        for window, dirty in self._dirty.items():
            entries = {window: list(dirty.values())}
            yield from self._teller.tell(self._floor_day, list(dirty), entries)
        yield from self._settle()
        yield from self._teller.end(self._floor_day, self.position - 1)

    def _settle(self) -> Iterator[Unit]:
        """Add to the entries what was summed beside them: they contain all that was applied."""
        sums, self._sums = self._sums, Sums()
        for windows, scopes in sums.alike():
            kept = [window for window in windows if not is_forgotten(window, self._floor)]
            items = iter(scopes.items())
            while kept and (some := dict(islice(items, SETTLED_TOGETHER_MAX))):
                entries = {
                    window: add_amounts(
                        self.entries.setdefault(window, {}), some, self.position - 1
                    )
                    for window in kept
                }
                yield from self._teller.tell(self._floor_day, list(some), entries)

    def _forget(self) -> Iterator[Unit]:
        """Drop the windows below the floor, which has risen."""
        for window in [w for w in self.entries if is_forgotten(w, self._floor)]:
            self._dirty.pop(window, None)
            gone = messages.tombstones(window, self.entries.pop(window))
            for outgoing in apart(Outgoing(self._changelog, self.partition, gone)):
                yield Unit([], [outgoing])


def _run(records: Sequence[SourceRecord], start: int) -> Sequence[SourceRecord]:
    """The messages from `start` on that are best judged together: one array, or single records."""
    end = start
    for record in records[start : start + RUN_MAX]:
        value = record.value
        if value and value[0] in _MANY_BYTES:
            end += end == start  # an array by itself
            break
        end += 1
    return records[start:end]
