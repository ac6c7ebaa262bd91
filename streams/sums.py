"""Sums: usage added up by whose it is, before it is added to any scope's total.

Records and frames of each day are added up apart, each in the way that is quick for them, and come
together when they are asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple, TypeVar

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
_ByScope = tuple[list[str], Rows]


class Used(NamedTuple):
    """What some scopes used in each of some windows: all of them agents, or none of them."""

    windows: Windows
    scopes: list[str]
    amounts: Rows
    are_agents: bool


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

    def by_windows(self) -> Iterator[Used]:
        """The sums by the windows that they are of, which are of one month, and by scope key.

        Each window comes once for agents and once for all others, together with the other window
        that has just these sums.
        """
        months: defaultdict[str, list[str]] = defaultdict(list)
        days: dict[str, tuple[_ByScope, _ByScope]] = {}
        for ordinal in self._records.keys() | self._frames.keys():
            day, month = window_names(ordinal)
            months[month].append(day)
            days[day] = self._by_scope(ordinal)
        for month, its_days in months.items():
            for kind, are_agents in enumerate((True, False)):
                if len(its_days) == 1:
                    yield Used((its_days[0], month), *days[its_days[0]][kind], are_agents)
                    continue
                for day in its_days:
                    yield Used((day,), *days[day][kind], are_agents)
                together = _together([days[day][kind] for day in its_days])
                yield Used((month,), *together, are_agents)

    def _by_scope(self, day: int) -> tuple[_ByScope, _ByScope]:
        """The sums of a day: of agents, and of all other scopes."""
        found = [
            sums for sums in (self._records.get(day), self._frames.get(day)) if sums is not None
        ]
        agents = _together([sums.by_agent() for sums in found])
        whose, spent = _together([sums.by_whose() for sums in found])
        scopes = [wide_scope_keys(*each) for each in whose]
        counts = list(map(len, scopes))
        return agents, summed(list(chain.from_iterable(scopes)), np.repeat(spent, counts, axis=0))


def _together(parts: list[tuple[list[_K], Rows]]) -> tuple[list[_K], Rows]:
    """Sums by their keys, of which each part has some."""
    if len(parts) == 1:
        return parts[0]
    keys = list(chain.from_iterable(keys for keys, _ in parts))
    return summed(keys, np.concatenate([amounts for _, amounts in parts]))
