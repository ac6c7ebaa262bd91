"""Saving: when a stage writes its changelog, and commits up to where it has read.

What others wait for goes out with each flush. What only a successor reads can wait a little: a
successor reads again what was not committed, and comes to the same.
"""

from __future__ import annotations

from streams.batch import is_due

SAVE_INTERVAL_MS = 1_000
"""How often a partition saves, in milliseconds: a crash has so much read again."""

IDLE_SAVE_INTERVAL_MS = 3_600_000
"""How often a partition saves that has nothing to save, in milliseconds: a transaction at least,
since brokers forget a transactional id that none has used for days."""

STAGGER_MS = 250
"""By how much a partition saves later than the one before it, in milliseconds."""

UNSAVED_MAX = 500_000
"""How many entries may be told and not saved before the next flush saves them, counted as often as
they were told."""


class Saves:
    """When one owned partition saves: once in each interval, neighbours not at the same time.

    An interval of 0 has it save in each flush.
    """

    def __init__(self, partition: int, interval_ms: int = SAVE_INTERVAL_MS) -> None:
        self._shift_ms = partition * STAGGER_MS
        self._interval_ms = interval_ms
        self._saved_in: int | None = None
        self._saved_at_ms = 0

    def are_due(self, now_ms: int) -> bool:
        """Whether there was none in this interval; also when the clock was set back."""
        return not self._interval_ms or self._interval(now_ms) != self._saved_in

    def are_overdue(self, now_ms: int) -> bool:
        """Whether there was none in the interval before either; also by a clock set back."""
        if not self._interval_ms:
            return True
        return self._saved_in not in (self._interval(now_ms), self._interval(now_ms) - 1)

    def are_long_ago(self, now_ms: int) -> bool:
        """Whether it is to save although it has nothing to save."""
        return is_due(now_ms, self._saved_at_ms, IDLE_SAVE_INTERVAL_MS)

    def done(self, now_ms: int) -> None:
        """It saves now."""
        self._saved_at_ms = now_ms
        if self._interval_ms:
            self._saved_in = self._interval(now_ms)

    def _interval(self, now_ms: int) -> int:
        return (now_ms - self._shift_ms) // self._interval_ms
