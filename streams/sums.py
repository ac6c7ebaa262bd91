"""Sums: usage added up by whose it is, before it is added to any scope's total.

Records and frames of each day are added up apart, each in the way that is quick for them, and come
together when they are asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from outlay.scope import wide_scope_keys
from outlay.usage import UsageRecord
from outlay.window import day_ordinal, window_names
from streams.amounts import Amounts, add_to
from streams.frame_sums import FrameSums
from streams.plain_frames import PlainFrames
from streams.record_sums import RecordSums
from streams.whose import Whose


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

    def by_window(self) -> dict[str, dict[str, Amounts]]:
        """The sums by window name and scope key, each once."""
        windows: dict[str, dict[str, Amounts]] = {}
        merged: set[str] = set()
        for day in self._records.keys() | self._frames.keys():
            scopes = self._by_scope(day)
            for window in window_names(day):
                held = windows.setdefault(window, scopes)
                if held is scopes:
                    continue  # the only one so far: of the day and of the month alike
                if window not in merged:
                    merged.add(window)
                    held = windows[window] = {scope: a.copy() for scope, a in held.items()}
                for scope, amounts in scopes.items():
                    add_to(held, scope, amounts)
        return windows

    def alike(self) -> Iterator[tuple[list[str], dict[str, Amounts]]]:
        """The same by scope key, with the names of the windows that have just these sums."""
        found: dict[int, tuple[list[str], dict[str, Amounts]]] = {}
        for window, scopes in self.by_window().items():
            found.setdefault(id(scopes), ([], scopes))[0].append(window)
        yield from found.values()

    def _by_scope(self, day: int) -> dict[str, Amounts]:
        scopes: dict[str, Amounts] = {}
        spent: list[tuple[Whose, Amounts]] = []
        for sums in (self._records.get(day), self._frames.get(day)):
            if sums is None:
                continue
            agents = sums.by_agent()
            if scopes:
                for scope, amounts in agents.items():
                    add_to(scopes, scope, amounts)
            else:
                scopes = agents
            spent += sums.by_whose().items()
        more: defaultdict[str, list[Amounts]] = defaultdict(list)
        for whose, amounts in spent:
            for scope in wide_scope_keys(*whose):
                held = scopes.setdefault(scope, amounts)
                if held is not amounts:
                    more[scope].append(amounts)
        for scope, parts in more.items():
            scopes[scope] = [sum(each) for each in zip(scopes[scope], *parts, strict=True)]
        return scopes
