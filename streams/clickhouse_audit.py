"""The audit's query: who asked for which change of a budget, the newest first, page by page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from streams.clickhouse_queries import YEAR_MAX, YEAR_MIN
from streams.history_rows import OCCURRED_AT_MAX, OCCURRED_AT_MIN

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MS_MIN = (OCCURRED_AT_MIN - _EPOCH) // _MILLISECOND
_MS_MAX = (OCCURRED_AT_MAX - _EPOCH) // _MILLISECOND
_PLACE = re.compile(r"(-?[0-9]{1,14})\.([0-9]{1,10})\.([0-9]{1,18})")


def check_time(at: datetime) -> None:
    """See that the audit can be asked for a time, which has a zone.

    Raises:
        ValueError: ClickHouse cannot hold it.
    """
    if not YEAR_MIN <= at.year <= YEAR_MAX:
        raise ValueError(f"times are from {YEAR_MIN} to {YEAR_MAX}: {at.isoformat()}")


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
        if not (_MS_MIN <= place.requested_at_ms <= _MS_MAX and place.partition < 2**31):
            raise ValueError(f"not a place in the audit: {text!r}")
        return place

    def __str__(self) -> str:
        return ".".join(map(str, self))


class AuditRow(NamedTuple):
    """An entry; budgets are the JSON that was published, None where the scope had none."""

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

    @property
    def requested_at(self) -> datetime:
        """When the request's message was sent."""
        return _EPOCH + self.place.requested_at_ms * _MILLISECOND


@dataclass(frozen=True, slots=True)
class AuditLog:
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

    def __post_init__(self) -> None:
        for at in (self.start, self.end):
            if at is not None:
                check_time(at)

    def to_sql(self) -> str:
        """The statement."""
        where = "".join(f"\n  AND {condition}" for condition in self._conditions())
        return f"""SELECT
    organization_id, scope, request_id, requested_by, action, accepted, reason, version,
    budget_before, budget_after,
    toUnixTimestamp64Milli(requested_at), request_partition, request_offset
FROM audit
WHERE true{where}
ORDER BY requested_at DESC, request_partition DESC, request_offset DESC
LIMIT {{limit:UInt32}}"""

    def _conditions(self) -> list[str]:
        known = self.parameters()
        return [text for name, text in _CONDITIONS.items() if name in known]

    def parameters(self) -> dict[str, Any]:
        """Those of what is asked for."""
        given: dict[str, Any] = {
            "limit": self.limit,
            "organization_id": self.organization_id,
            "scope": self.scope,
            "start": None if self.start is None else _ms(self.start),
            "end": None if self.end is None else _ms(self.end),
        }
        if self.behind is not None:
            at_ms, partition, offset = self.behind
            given |= {"at": at_ms, "partition": partition, "offset": offset}
        return {name: value for name, value in given.items() if value is not None}

    def row(self, values: Sequence[Any]) -> AuditRow:
        """One entry."""
        *told, before, after, at_ms, partition, offset = values
        place = AuditPlace(at_ms, partition, offset)
        return AuditRow._make([*told, before or None, after or None, place])


_CONDITIONS = {
    "organization_id": "organization_id = {organization_id:String}",
    "scope": "scope = {scope:String}",
    "start": "requested_at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')",
    "end": "requested_at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')",
    "at": "(requested_at, request_partition, request_offset) <"
    " (fromUnixTimestamp64Milli({at:Int64}, 'UTC'), {partition:Int32}, {offset:Int64})",
}
"""By the parameter that each needs."""


def _ms(at: datetime) -> int:
    """The first millisecond that is not before a time, as far as ClickHouse has it."""
    return -((_EPOCH - min(max(at, OCCURRED_AT_MIN), OCCURRED_AT_MAX)) // _MILLISECOND)
