"""Watching: being told what becomes of the records that an emitter takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from outlay.usage import UsageRecord

WATCHERS_MAX = 100
"""How many watchers an emitter takes."""


class SpendWatcher(Protocol):
    """Told of an emitter's records; `emitted` where `emit` was called, else in the background."""

    def emitted(self, record: UsageRecord | None, fields: dict[str, Any], at_s: float, /) -> None:
        """Emitted is a record, or the fields of one, at a time in seconds since the epoch.

        Fields without an id are given one, by which the record is known again.
        """

    def delivered(self, partition: int, offset: int, records: Sequence[UsageRecord], /) -> None:
        """Records have arrived as one message of the usage topic; the offset may be -1."""

    def failed(self, records: Sequence[UsageRecord], /) -> None:
        """Records could not be delivered, and are not tried again."""

    def invalid(self, record_id: object, /) -> None:
        """What was emitted under an id is no valid record."""

    def ended(self) -> None:
        """The emitter is closed: what it has not delivered will not be."""
