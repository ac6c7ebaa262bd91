"""Totals in memory: what each scope used in each window, and which messages that contains."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from outlay.budget import NOTHING, Amounts
from outlay.scope import scope_keys
from outlay.testing.memory_usage import Arrived
from outlay.usage import UsageRecord
from outlay.window import day_ordinal, floor_names, is_forgotten, window_names


class Total(NamedTuple):
    """The amounts of a scope in a window, and by usage partition the last offset in them."""

    amounts: Amounts
    offsets: dict[int, int]


class MemoryTotals:
    """All totals, by the stream's rules: five scopes, a day and a month, old windows forgotten."""

    def __init__(self, partitions: int) -> None:
        self.progress = dict.fromkeys(range(partitions), -1)
        """By usage partition, the offset up to which everything is counted; -1: nothing yet."""
        self._windows: dict[str, dict[str, Total]] = {}
        self._floor_day = 0
        self._floor = ("", "")

    def count(self, message: Arrived) -> set[str]:
        """Count a message; the keys of the scopes that it concerns."""
        self._raise_floor(message.timestamp_ms)
        concerned: set[str] = set()
        for record, cost_nano in message.usages:
            amounts = Amounts(
                cost_nano, record.executions, record.input_tokens, record.output_tokens
            )
            concerned.update(self._add(record, amounts, message))
        self.progress[message.partition] = message.offset
        return concerned

    def _add(self, record: UsageRecord, amounts: Amounts, message: Arrived) -> tuple[str, ...]:
        keys = scope_keys(record.organization_id, record.team_id, record.user_id, record.agent_id)
        for window in window_names(day_ordinal(record.occurred_at)):
            if is_forgotten(window, self._floor):
                continue  # it never starts again at zero
            totals = self._windows.setdefault(window, {})
            for key in keys:
                total = totals.get(key, _NOTHING)
                totals[key] = Total(
                    total.amounts + amounts, total.offsets | {message.partition: message.offset}
                )
        return keys

    def total(self, scope_key: str, window: str) -> Total | None:
        """What a scope used in a window; None when nothing is known."""
        return self._windows.get(window, {}).get(scope_key)

    def amounts(self, scope_key: str, window: str) -> Amounts:
        """The same without the offsets; nothing when nothing is known."""
        total = self.total(scope_key, window)
        return NOTHING if total is None else total.amounts

    def _raise_floor(self, timestamp_ms: int) -> None:
        day = datetime.fromtimestamp(timestamp_ms / 1000, UTC).toordinal()
        if day > self._floor_day:
            self._floor_day = day
            self._floor = floor_names(day)
            for window in [name for name in self._windows if is_forgotten(name, self._floor)]:
                del self._windows[window]


_NOTHING = Total(NOTHING, {})
