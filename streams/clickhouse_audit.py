"""The audit's query: who asked for which change of a budget, the newest first, page by page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

from streams.clickhouse_log import MS_MAX, MS_MIN, LogQuery, check_time, ms_from, time_at

_PLACE = re.compile(r"(-?[0-9]{1,14})\.([0-9]{1,10})\.([0-9]{1,18})")


class AuditPlace(NamedTuple):
    """Where an entry stands among all: its time in milliseconds, and its request's place."""

    requested_at_ms: int
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> AuditPlace:
        """The place in a text like `1795262400250.1.77`.

        Raises:
            ValueError: it is none, or none that ClickHouse can hold.
        """
        found = _PLACE.fullmatch(text)
        if found is None:
            raise ValueError(f"not a place in the audit: {text[:80]!r}")
        place = cls(*map(int, found.groups()))
        if not (MS_MIN <= place.requested_at_ms <= MS_MAX and place.partition < 2**31):
            raise ValueError(f"not a place in the audit: {text!r}")
        return place

    def __str__(self) -> str:
        return ".".join(map(str, self))


class AuditRow(NamedTuple):
    """An entry; budgets and alert configurations are the JSON that was published.

    They are None where the scope had none.
    """

    organization_id: str
    scope: str
    request_id: str
    requested_by: str
    action: str
    accepted: bool
    reason: str
    version: int
    before: str | None
    after: str | None
    place: AuditPlace
    alerts_before: str | None = None
    alerts_after: str | None = None

    @property
    def requested_at(self) -> datetime:
        """When the request's message was sent."""
        return time_at(self.place.requested_at_ms)


@dataclass(frozen=True, slots=True)
class AuditLog(LogQuery):
    """Entries, the newest first, of requests from `start` up to and without `end`.

    `behind` is the place of the last entry of the page before; entries that came in meanwhile
    shift nothing. Times have a zone.

    Raises:
        ValueError: a time that ClickHouse cannot hold.
    """

    limit: int
    organization_id: str | None = None
    scope: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    behind: AuditPlace | None = None

    selected: ClassVar[str] = """organization_id, scope, request_id, requested_by, action,
    accepted, reason, version, budget_before, budget_after, alerts_before, alerts_after,
    toUnixTimestamp64Milli(requested_at), request_partition, request_offset"""
    view: ClassVar[str] = "audit"
    order: ClassVar[str] = "requested_at DESC, request_partition DESC, request_offset DESC"
    conditions: ClassVar[dict[str, str]] = {
        "organization_id": "organization_id = {organization_id:String}",
        "scope": "scope = {scope:String}",
        "start": "requested_at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')",
        "end": "requested_at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')",
        "at": "(requested_at, request_partition, request_offset) <"
        " (fromUnixTimestamp64Milli({at:Int64}, 'UTC'), {partition:Int32}, {offset:Int64})",
    }

    def __post_init__(self) -> None:
        for at in (self.start, self.end):
            if at is not None:
                check_time(at)

    def given(self) -> dict[str, Any]:
        """All parameters; None where it was not asked for."""
        at_ms, partition, offset = self.behind or (None, None, None)
        return {
            "limit": self.limit,
            "organization_id": self.organization_id,
            "scope": self.scope,
            "start": None if self.start is None else ms_from(self.start),
            "end": None if self.end is None else ms_from(self.end),
            "at": at_ms,
            "partition": partition,
            "offset": offset,
        }

    def row(self, values: Sequence[Any]) -> AuditRow:
        """One entry."""
        *told, at_ms, partition, offset = values
        known, texts = told[:-4], [text or None for text in told[-4:]]
        place = AuditPlace(at_ms, partition, offset)
        return AuditRow._make([*known, *texts[:2], place, *texts[2:]])
