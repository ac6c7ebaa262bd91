"""Sums: usage added up by whose it is, before it is added to any scope's total.

Records and frames of each day are added up apart, each in the way that is quick for them, and come
together when they are asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from itertools import chain
from typing import TypeVar

import numpy as np

from outlay.scope import wide_scope_keys
from outlay.usage import UsageRecord
from outlay.window import day_ordinal, window_names
from streams.amounts import summed
from streams.frame_sums import FrameSums
from streams.marks import Windows
from streams.plain_frames import PlainFrames
from streams.record_sums import RecordSums
from streams.window_table import Rows

_K = TypeVar("_K", bound=Hashable)


class Sums:
    """The usage of some messages."""

    def __init__(self) -> None:
        self._records: dict[int, RecordSums] = {}
        self._frames: dict[int, FrameSums] = {}
        self.size = 0
        """How many sums there are."""

    def add(self, records: Iterable[UsageRecord], costs_nano: Iterable[int], day: int) -> None:
        """Add records of one day."""
        sums = self._records.get(day)
        if sums is None:
            sums = self._records[day] = RecordSums()
        before = len(sums)
        sums.add(records, costs_nano)
        self.size += len(sums) - before

    def add_frames(self, frames: PlainFrames) -> bool:
        """Add the records of frames; False when they are to be added one by one instead."""
        sums = self._frames.get(frames.day)
        if sums is None:
            sums = FrameSums()
        before = len(sums)
        if not sums.add(frames):
            return False
        self._frames[frames.day] = sums
        self.size += len(sums) - before
        return True

    def add_apart(
        self, records: Iterable[UsageRecord], costs_nano: Iterable[int]
    ) -> dict[int, int]:
        """Add records of several days; returns how many there are of each."""
        days: dict[int, int] = {}
        for record, cost_nano in zip(records, costs_nano, strict=True):
            day = day_ordinal(record.occurred_at)
            days[day] = days.get(day, 0) + 1
            self.add((record,), (cost_nano,), day)
        return days

    def by_windows(self) -> Iterator[tuple[Windows, list[str], Rows]]:
        """The sums by the windows that they are of, which are of one month, and by scope key.

        Each window comes once, together with the other that has just these sums.
        """
        months: defaultdict[str, list[str]] = defaultdict(list)
        days = {}
        for ordinal in self._records.keys() | self._frames.keys():
            day, month = window_names(ordinal)
            months[month].append(day)
            days[day] = self._by_scope(ordinal)
        for month, its_days in months.items():
            if len(its_days) == 1:
                yield (its_days[0], month), *days[its_days[0]]
                continue
            for day in its_days:
                yield (day,), *days[day]
            yield (month,), *_together([days[day] for day in its_days])

    def _by_scope(self, day: int) -> tuple[list[str], Rows]:
        found = [
            sums for sums in (self._records.get(day), self._frames.get(day)) if sums is not None
        ]
        agents, used = _together([sums.by_agent() for sums in found])
        whose, spent = _together([sums.by_whose() for sums in found])
        scopes = [wide_scope_keys(*each) for each in whose]
        counts = list(map(len, scopes))
        wide, sums = summed(list(chain.from_iterable(scopes)), np.repeat(spent, counts, axis=0))
        return agents + wide, np.concatenate([used, sums])


def _together(parts: list[tuple[list[_K], Rows]]) -> tuple[list[_K], Rows]:
    """Sums by their keys, of which each part has some."""
    if len(parts) == 1:
        return parts[0]
    keys = list(chain.from_iterable(keys for keys, _ in parts))
    return summed(keys, np.concatenate([amounts for _, amounts in parts]))
