"""The floor: the oldest windows that are kept. It only rises, with the log's own timestamps."""

from __future__ import annotations

from outlay.window import floor_names, is_forgotten
from streams.batch import DAY_MAX, day_of, day_start_ms


class Floor:
    """How far one partition's log has come, and what is forgotten by that.

    `day` is the newest that any of its messages is of, as an ordinal; `rose` is for its owner, who
    says when that was written and what is below it was dropped.
    """

    def __init__(self) -> None:
        self.day = 0
        self.rose = False
        self._names = ("", "")
        self._next_day_ms = 0

    def rise(self, day: int) -> None:
        """The log has come to a day; one beyond the calendar is nonsense, and nothing."""
        if self.day < day <= DAY_MAX:
            self.day = day
            self.rose = True
            self._names = floor_names(day)
            self._next_day_ms = day_start_ms(day + 1)

    def rise_to(self, timestamps_ms: list[int]) -> None:
        """The same, for the timestamps of messages: each, since one may be nonsense."""
        if max(timestamps_ms) >= self._next_day_ms:
            for timestamp_ms in timestamps_ms:
                self.rise(day_of(timestamp_ms))

    def forgets(self, window: str) -> bool:
        """Whether a window is older than what is kept."""
        return is_forgotten(window, self._names)
