"""The audit: who changed which budget when, from what to what. `client.audit`."""

from __future__ import annotations

from datetime import date, datetime

import msgspec

from outlay.client.addresses import scope_key, time_text
from outlay.client.alerts import ShownAlerts
from outlay.client.amounts import AnsweredBudget, make_plain
from outlay.client.calls import Ask, Page, reading_page
from outlay.client.operations import R, Resource, all_of, operation
from outlay.scope import Scope

PAGE_SIZE = 100
"""How many entries a page holds by default; 500 at most."""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A request to change a budget that was decided, once.

    `requested_by` is the name of the key. `before` and `after` are the budget before the request
    and after it, None where the scope had none; of a refused request, whose `reason` says why, they
    are equal. So are `alerts_before` and `alerts_after`, the budget's own alert configuration.
    `version` is the budget's after it, 0 when there is none. `partition` and `offset` are where the
    request stands in the log.
    """

    request_id: str
    requested_at: datetime
    requested_by: str
    organization_id: str
    scope: str
    action: str
    accepted: bool
    reason: str
    version: int
    before: AnsweredBudget | None = None
    after: AnsweredBudget | None = None
    alerts_before: ShownAlerts | None = None
    alerts_after: ShownAlerts | None = None
    partition: int
    offset: int

    def __post_init__(self) -> None:
        make_plain(self, "before", "after")


class Audit(Resource[R]):
    """Requests to change budgets, from `start` up to and without `end`, the newest first."""

    @operation("GET", "/api/v1/audit")
    def page(
        self,
        *,
        organization_id: str | None = None,
        scope: Scope | str | None = None,
        start: datetime | date | str | None = None,
        end: datetime | date | str | None = None,
        page_size: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> Ask[Page[AuditEntry]]:
        """Some of the entries."""
        return Ask(
            read=reading_page(AuditEntry, cursor),
            query={
                "organization_id": organization_id,
                "scope": None if scope is None else scope_key(scope),
                "from": time_text(start),
                "to": time_text(end),
                "limit": page_size,
                "cursor": cursor,
            },
        )

    @all_of(page)
    def list(
        self,
        *,
        organization_id: str | None = None,
        scope: Scope | str | None = None,
        start: datetime | date | str | None = None,
        end: datetime | date | str | None = None,
        page_size: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> None:
        """All entries, page by page."""
