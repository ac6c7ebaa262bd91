"""Reports from the history: `client.reports`."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Literal

import msgspec

from outlay.client.addresses import time_text
from outlay.client.calls import Ask, reading
from outlay.client.operations import R, Resource, operation

Interval = Literal["day", "month"]
GroupBy = Literal["organization", "team", "user", "agent", "model"]


class SpendTotal(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts of all rows together; the cost is in USD."""

    cost_usd: Decimal
    executions: int
    input_tokens: int
    output_tokens: int
    records: int


class SpendRow(SpendTotal, frozen=True, kw_only=True):
    """What a group spent in a window; `group` is None for records that name no such id."""

    window: str
    organization_id: str | None = None
    group: str | None = None


class SpendReport(msgspec.Struct, frozen=True, kw_only=True):
    """Spend from `start` up to and without `end`, in UTC."""

    start: datetime = msgspec.field(name="from")
    end: datetime = msgspec.field(name="to")
    interval: str
    group_by: str
    organization_id: str | None = None
    rows: tuple[SpendRow, ...]
    total: SpendTotal


class Reports(Resource[R]):
    """Reports."""

    @operation("GET", "/api/v1/reports/spend")
    def spend(
        self,
        start: datetime | date | str,
        end: datetime | date | str,
        *,
        interval: Interval = "day",
        group_by: GroupBy = "organization",
        organization_id: str | None = None,
    ) -> Ask[SpendReport]:
        """Spend of records dated from `start` up to and without `end`, by interval and group.

        A time is a date, in UTC, or has its zone.
        """
        return Ask(
            read=reading(SpendReport),
            query={
                "from": time_text(start),
                "to": time_text(end),
                "interval": interval,
                "group_by": group_by,
                "organization_id": organization_id,
            },
        )
