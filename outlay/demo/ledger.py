"""The demo's own books: what was really sent, kept apart from everything that is checked."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC

from outlay.emitter import Delivered
from outlay.money import to_nano
from outlay.scope import scope_keys
from outlay.usage import UsageRecord


@dataclass(frozen=True, slots=True)
class Sum:
    """Some records: how many, and what they cost together."""

    records: int = 0
    cost_nano: int = 0

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.records + other.records, self.cost_nano + other.cost_nano)


class Ledger:
    """The sums of all delivered records, by scope and month, and how far into the log they reach.

    `delivered` is an emitter's `on_delivered`; it and the readers may run in different threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: defaultdict[tuple[str, str], Sum] = defaultdict(Sum)
        self._offsets: dict[int, int] = {}
        self._months: set[str] = set()

    def delivered(self, details: Delivered) -> None:
        """Enter the records of a message that the broker has taken."""
        with self._lock:
            reached = self._offsets.get(details.partition, -1)
            self._offsets[details.partition] = max(reached, details.offset)
            self._enter(details.records)

    def _enter(self, records: Iterable[UsageRecord]) -> None:
        for record in records:
            month = record.occurred_at.astimezone(UTC).strftime("%Y-%m")
            self._months.add(month)
            one = Sum(1, to_nano(record.cost_usd))
            for key in scope_keys(
                record.organization_id, record.team_id, record.user_id, record.agent_id
            ):
                self._sums[key, month] += one

    @property
    def months(self) -> list[str]:
        """The months that records fell into: one, or two where the demo runs across midnight."""
        with self._lock:
            return sorted(self._months)

    @property
    def offsets(self) -> dict[int, int]:
        """By partition of the usage topic, the offset of the last message."""
        with self._lock:
            return dict(self._offsets)

    def sums(self) -> dict[str, Sum]:
        """What was sent, by the key of every scope that it counts in, over all months."""
        with self._lock:
            sums: defaultdict[str, Sum] = defaultdict(Sum)
            for (scope_key, _), total in self._sums.items():
                sums[scope_key] += total
            return dict(sums)
