"""Counting: what the messages of one usage partition come to, before it is added to any entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from outlay.frame import MAGIC, is_frame
from outlay.judging import Rejection, decode_usage, latest_us, split_usage
from outlay.window import window_names
from streams.batch import SourceRecord
from streams.counts import Count
from streams.dead_letters import DeadLetters
from streams.floor import Floor
from streams.plain import ARRAY_BYTE, RUN_MAX, PlainUsage, decode_plain
from streams.plain_frames import plain_frames
from streams.sums import Sums

SUMS_MAX = 100_000
"""How many sums may wait for a flush before the stage stops reading: each is of some ten entries,
nearly all of which it shares with others."""

FRAMES_TOGETHER_MAX = 16
"""How many frames are added up together: from some on, what a frame costs beside its records is
little."""

_MANY_BYTES = (ARRAY_BYTE, MAGIC[0])
"""What a message with many records begins with."""


class Counting:
    """What was read and waits for a flush: sums by whose it is, and dead letters."""

    def __init__(self, topic: str, partition: int, floor: Floor) -> None:
        self.sums = Sums()
        self.letters = DeadLetters(partition)
        self._topic = topic
        self._floor = floor
        self._counts: Counter[Count] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether so much waits for a flush that reading should pause."""
        return self.sums.size >= SUMS_MAX or self.letters.is_full

    def count(self, records: Sequence[SourceRecord], start: int) -> int:
        """Count some messages from `start` on, one or more; returns how many."""
        run = _run(records, start)
        timestamps = [message.timestamp for message in run]
        self._floor.rise_to(timestamps)
        taken = self._count_run(run, min(timestamps))
        self._counts["messages"] += taken
        return taken

    def count_apart(self, message: SourceRecord) -> Sums:
        """Count a message that a replay brings again; what it comes to."""
        sums = Sums()
        self._floor.rise_to([message.timestamp])
        self._judge(message, sums)
        self._counts["messages"] += 1
        return sums

    def reject(self, topic: str, message: SourceRecord, reason: str) -> None:
        """A message of another topic is none of those that belong there."""
        self._counts["rejected"] += 1
        self.letters.reject(topic, message, reason, message.value)

    def take_sums(self) -> Sums:
        """What was summed since the last time."""
        sums, self.sums = self.sums, Sums()
        return sums

    def take_counts(self) -> Mapping[Count, int]:
        """What was seen since the last time; a replay counts again."""
        counts, self._counts = self._counts, Counter()
        return counts

    def _count_run(self, run: Sequence[SourceRecord], earliest_ms: int) -> int:
        """Together where all of it is plain, else one by one; returns how many messages."""
        frames = is_frame(run[0].value or b"")
        if self._add_frames(run) if frames else self._add_json(run, earliest_ms):
            return len(run)
        some_plain = frames and len(run) > 1  # one alone has just been tried
        for number, message in enumerate(run):
            if self.is_full:
                return number
            if not (some_plain and self._add_frames([message])):
                self._judge(message, self.sums)
        return len(run)

    def _add_json(self, run: Sequence[SourceRecord], earliest_ms: int) -> bool:
        """Add what messages of JSON hold; False where they are to be looked at closely."""
        plain = decode_plain([message.value for message in run], earliest_ms)
        if plain is None:
            return False
        self._sum(self.sums, plain)
        return True

    def _add_frames(self, run: Sequence[SourceRecord]) -> bool:
        """Add what frames hold; False where they are to be looked at closely."""
        latest = min(latest_us(message.timestamp) for message in run)  # one may have no timestamp
        frames = plain_frames([message.value or b"" for message in run], latest)
        if frames is None or not self.sums.add_frames(frames):
            return False
        self._count_days({frames.day: frames.size})
        return True

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
            if self._floor.forgets(window_names(day)[0]):
                self._counts["late"] += count

    def _reject(self, message: SourceRecord, rejections: list[Rejection]) -> None:
        """A dead letter each; of a record in an array, with that record alone."""
        self._counts["rejected"] += len(rejections)
        value = message.value
        in_array = value is not None and any(r.index is not None for r in rejections)
        records = split_usage(value) if value is not None and in_array else []
        for rejection in rejections:
            index = rejection.index
            its_value = value if index is None else records[index]
            self.letters.reject(self._topic, message, rejection.reason, its_value, index)


def _run(records: Sequence[SourceRecord], start: int) -> Sequence[SourceRecord]:
    """The messages from `start` on that are best judged together: frames, one array, or records."""
    first = _kind(records[start])
    most = {MAGIC[0]: FRAMES_TOGETHER_MAX, ARRAY_BYTE: 1}.get(first, RUN_MAX)
    end = start + 1
    for record in records[end : start + most]:
        kind = _kind(record)
        if kind != first and (kind in _MANY_BYTES or first in _MANY_BYTES):
            break
        end += 1
    return records[start:end]


def _kind(record: SourceRecord) -> int:
    """The first byte of a message's value."""
    return record.value[0] if record.value else 0
