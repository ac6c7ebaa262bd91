"""Partials: the cumulative totals of one usage partition, by (scope, window).

A partial is a pure function of a prefix of the log: no clock takes part. Each entry carries the
offset up to which it has counted, so that a replay skips what it contains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from outlay.judging import Rejection, decode_usage, split_usage
from outlay.scope import scope_keys
from outlay.topics import TopicNames
from outlay.window import day_ordinal, floor_names, is_forgotten, window_names
from schemas.messages import DeadLetter
from streams import messages
from streams.batch import DAY_MAX, Batch, SourceRecord, day_of, day_start_ms, is_due, unseen
from streams.counts import Count
from streams.flush import Flush, Outgoing, Unit, cut
from streams.messages import Entry, Key

MESSAGE_BYTES_MAX = 524_288
"""Where a partials message is split, in bytes; half of what a topic takes by default."""

DIRTY_MAX = 500_000
"""How many entries may wait for a flush before the stage stops reading."""

REJECTED_MAX = 10_000
"""How many dead letters may wait for a flush before the stage stops reading."""

HEARTBEAT_MS = 1_000
"""How often the progress is told at least, in milliseconds, also with nothing to add."""

Group = tuple[str, str | None, str | None, str, int]
"""Whose usage it is: organization, team, user, agent, and the day's ordinal."""


class Partials:
    """The state of one partition of the partials stage.

    Its life: `load` for each changelog record, `begin`, then `apply` and `flush` in turn.
    """

    def __init__(
        self,
        partition: int,
        *,
        topics: TopicNames,
        changelog: str,
        totals_partition: Callable[[str], int],
        totals_partitions: int,
    ) -> None:
        self.partition = partition
        self.entries: dict[Key, Entry] = {}
        self._counts: Counter[Count] = Counter()
        self.position = 0
        """The next offset to apply."""
        self._topics = topics
        self._changelog = changelog
        self._totals_partition = totals_partition
        self._totals_partitions = totals_partitions
        self._dirty: set[Key] = set()
        self._rejected: list[DeadLetter] = []
        self._replay_until = -1
        self._committed = 0
        self._floor_day = 0
        self._floor = ("", "")
        self._floor_dirty = False
        self._next_day_ms = 0
        self._told_at_ms = 0

    # -- recovery

    def load(self, changelog: str, key: bytes, value: bytes | None) -> None:
        """Take over one record of the changelog."""
        if key == messages.FLOOR_KEY:
            if value is not None:
                self._raise_floor(messages.decode_int(value))
                self._floor_dirty = False
            return
        parsed = messages.parse_changelog_key(key)
        if value is None:
            self.entries.pop(parsed, None)
        else:
            self.entries[parsed] = messages.decode_entry(value)

    def begin(self, positions: dict[str, int], ends: dict[str, int]) -> None:
        """Start to apply at the committed offset of the usage topic."""
        self.position = self._committed = positions[self._topics.usage]
        self._replay_until = self.reaches[self.partition]
        self._floor_dirty = self._floor_day > 0  # what is below it goes with the next flush

    @property
    def reaches(self) -> dict[int, int]:
        """The highest offset that this state has counted, by usage partition."""
        return {self.partition: max((e.offset for e in self.entries.values()), default=-1)}

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
        while taken < split and not self.is_full:  # each against every key's offset
            sums, _ = self._sums(records[taken : taken + 1])
            self._add(sums, records[taken].offset)
            taken += 1
        if taken == split and taken < len(records):
            sums, more = self._sums(records[split:])
            taken += more
            if more:
                self._add(sums, records[taken - 1].offset)
        self._counts["messages"] += taken
        return self._rest(batch, records, taken)

    def _rest(self, batch: Batch, records: Sequence[SourceRecord], taken: int) -> Batch | None:
        if taken == len(records):
            self.position = batch.end
            return None
        self.position = records[taken].offset
        return Batch(batch.topic, batch.partition, records[taken:], self.position, batch.end)

    def _replayed(self, records: Sequence[SourceRecord]) -> int:
        """How many of the records some entry may contain already."""
        if records[0].offset > self._replay_until:
            return 0
        return sum(record.offset <= self._replay_until for record in records)

    def _sums(self, records: Sequence[SourceRecord]) -> tuple[dict[Group, list[int]], int]:
        """The amounts of some messages by whose they are, and of how many messages.

        It stops before all of them when dead letters pile up: one message may make thousands.
        """
        sums: dict[Group, list[int]] = {}
        counts = self._counts
        for number, message in enumerate(records):
            if len(self._rejected) >= REJECTED_MAX:
                return sums, number
            timestamp_ms = message.timestamp
            if timestamp_ms >= self._next_day_ms:
                self._raise_floor(day_of(timestamp_ms))
            usages, rejections = decode_usage(message.value, timestamp_ms)
            for record, cost_nano in usages:
                day = day_ordinal(record.occurred_at)
                group = (
                    record.organization_id, record.team_id, record.user_id, record.agent_id, day
                )  # fmt: skip
                amounts = sums.get(group)
                if amounts is None:
                    amounts = sums[group] = [0, 0, 0, 0]
                amounts[0] += cost_nano
                amounts[1] += record.executions
                amounts[2] += record.input_tokens
                amounts[3] += record.output_tokens
                if window_names(day)[0] < self._floor[0]:
                    counts["late"] += 1
            counts["records"] += len(usages)
            if rejections:
                self._reject(message, rejections)
        return sums, len(records)

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

    def _add(self, sums: dict[Group, list[int]], offset: int) -> None:
        """Add the sums of some messages, the last of which stands at `offset`."""
        entries, dirty = self.entries, self._dirty
        for key, (cost_nano, executions, input_tokens, output_tokens) in self._keyed(sums):
            dirty.add(key)  # also when skipped: a crash may have cut its publication off
            entry = entries.get(key)
            if entry is None:
                entry = entries[key] = Entry(-1)
            elif offset <= entry.offset:
                continue  # a replay: it contains these messages
            entry.offset = offset
            entry.cost_nano += cost_nano
            entry.executions += executions
            entry.input_tokens += input_tokens
            entry.output_tokens += output_tokens

    def _keyed(self, sums: dict[Group, list[int]]) -> Iterable[tuple[Key, list[int]]]:
        """The sums by (scope, window), each of them once."""
        keyed: dict[Key, list[int]] = {}
        for (organization, team, user, agent, day), amounts in sums.items():
            for window in window_names(day):
                if is_forgotten(window, self._floor):
                    continue  # a window that has been forgotten never starts again at zero
                for scope in scope_keys(organization, team, user, agent):
                    held = keyed.get((scope, window))
                    if held is None:
                        keyed[scope, window] = amounts.copy()
                    else:
                        for i, amount in enumerate(amounts):
                            held[i] += amount
        return keyed.items()

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
        return len(self._dirty) >= DIRTY_MAX or len(self._rejected) >= REJECTED_MAX

    def take_counts(self) -> Mapping[Count, int]:
        """What was seen since the last time; a replay counts again."""
        counts, self._counts = self._counts, Counter()
        return counts

    def flush(self, now_ms: int) -> Flush | None:
        """What is to be written now, taken over as written; None when there is nothing to say."""
        gone = self._forget()
        heartbeat = is_due(now_ms, self._told_at_ms, HEARTBEAT_MS)
        if not (gone or heartbeat or self._dirty or self._rejected or self._moved):
            return None
        self._told_at_ms = now_ms
        flush = cut(self._units(gone), {(self._topics.usage, self.partition): self.position})
        self._committed = self.position
        self._dirty.clear()
        self._rejected.clear()
        self._floor_dirty = False
        return flush

    @property
    def _moved(self) -> bool:
        return self.position != self._committed

    def _forget(self) -> list[Key]:
        """Drop the windows below the floor, when it has risen."""
        if not self._floor_dirty:
            return []
        gone = [key for key in self.entries if is_forgotten(key[1], self._floor)]
        for key in gone:
            del self.entries[key]
            self._dirty.discard(key)
        return gone

    def _units(self, gone: list[Key]) -> Iterable[Unit]:
        if self._floor_dirty:
            floor = self._changelog_record(messages.FLOOR_KEY, messages.encode(self._floor_day))
            yield Unit([], [floor])
        for key in gone:
            yield Unit([], [self._changelog_record(messages.changelog_key(key), None)])
        for letter in self._rejected:
            yield Unit([messages.dead_letter_message(self._topics.rejected, letter)], [])
        yield from self._partials_units()

    def _changelog_record(self, key: bytes, value: bytes | None) -> Outgoing:
        return Outgoing(self._changelog, self.partition, key, value)

    def _partials_units(self) -> Iterable[Unit]:
        """The dirty entries, split by size; the last part for each partition tells the progress."""
        lasts = []
        by_target: dict[int, list[Key]] = {q: [] for q in range(self._totals_partitions)}
        for key in self._dirty:
            by_target[self._totals_partition(key[0])].append(key)
        for target, keys in by_target.items():
            parts: list[bytes] = []
            changelog: list[Outgoing] = []
            size = 0
            for key in keys:
                value = messages.encode(self.entries[key])
                part = b'["%b","%b",%b' % (key[0].encode(), key[1].encode(), value[1:])
                if size and size + len(part) > MESSAGE_BYTES_MAX:
                    yield Unit([self._partials_message(target, None, parts)], changelog)
                    parts, changelog, size = [], [], 0
                parts.append(part)
                changelog.append(self._changelog_record(messages.changelog_key(key), value))
                size += len(part)
            lasts.append(
                Unit([self._partials_message(target, self.position - 1, parts)], changelog)
            )
        yield from lasts

    def _partials_message(self, target: int, progress: int | None, parts: list[bytes]) -> Outgoing:
        value = b'{"partition":%d,"floor_day":%d,"progress":%b,"entries":[%b]}' % (
            self.partition,
            self._floor_day,
            b"null" if progress is None else b"%d" % progress,
            b",".join(parts),
        )
        return Outgoing(self._topics.partials, target, None, value)
