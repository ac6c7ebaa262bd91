"""The write-behind table: a Faust table whose state lives with the partition's owner.

Faust names its changelog, assigns it together with the source, and recovers it. The hot loop
writes only the owner's state, and the flush writes the changelog (see `streams.writer`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import faust
from faust.types import TP, EventT


class WriteBehindTable(faust.Table):
    """A table that hands each batch of its changelog to `app.ownership`."""

    def apply_changelog_batch(self, batch: Iterable[EventT]) -> None:
        for event in batch:
            self.app.ownership.load(event.message.value)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        await super().on_recovery_completed(active_tps, standby_tps)
        self.app.ownership.recovered(self.changelog_topic_name)


def write_behind_table(app: Any, name: str, changelog: str, partitions: int) -> WriteBehindTable:
    """Declare a table; its changelog topic exists already, compacted (see `streams.topics`)."""
    table = WriteBehindTable(
        app,
        name=name,
        partitions=partitions,
        key_type=bytes,
        value_type=bytes,
        changelog_topic=app.topic(
            changelog, partitions=partitions, key_type=bytes, value_type=bytes, compacting=True
        ),
        # One batch holds thousands of records. Not 1: Faust reads on after recovery then.
        recovery_buffer_size=2,
    )
    added = app.tables.add(table)
    assert isinstance(added, WriteBehindTable)
    return added
