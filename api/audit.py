"""The audit: who changed which budget when, from what to what. From the history."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from api.callers import Caller, needs
from api.log_queries import From, Organization, ScopeKey, To, time_range, whose
from api.paging import PAGE_ITEMS_DEFAULT, PageCursor, PageLimit, cursor_after, position_of
from api.problems import described
from api.services import PREFIX, Services, services
from api.times import invalid
from outlay.alert_config import AlertConfig
from outlay.budget import Budget
from schemas import http
from schemas.http_alerts import AlertsShown
from schemas.http_audit import AuditEntry, AuditPage
from schemas.http_budgets import BudgetFields
from streams.clickhouse_audit import AuditLog, AuditPlace, AuditRow

_COLLECTION = "audit"

router = APIRouter(
    prefix=PREFIX, tags=["audit"], responses=described("invalid-request", "history-unavailable")
)


@router.get("/audit", response_model=AuditPage)
async def get_audit(
    caller: Annotated[Caller, Depends(needs("operator"))],
    request: Request,
    have: Annotated[Services, Depends(services)],
    organization_id: Organization = None,
    scope: ScopeKey = None,
    from_: From = None,
    to: To = None,
    limit: PageLimit = PAGE_ITEMS_DEFAULT,
    cursor: PageCursor = None,
) -> Response:
    """Requests to change budgets, from `from` up to and without `to`, the newest first.

    Each request that was decided is there once, also a refused one. An entry follows its change
    within seconds, as long as ClickHouse answers.
    """
    organization_id = whose(caller, organization_id, scope, request.url.path)
    behind = None if cursor is None else _place(cursor)
    query = AuditLog(limit + 1, organization_id, scope, *time_range(from_, to), behind)
    rows = await have.history.ask(query)
    page = AuditPage(
        items=[_entry(row) for row in rows[:limit]],
        next_cursor=_cursor(rows[limit - 1].place) if len(rows) > limit else None,
    )
    return Response(http.encode(page), media_type="application/json")


def _cursor(place: AuditPlace) -> str:
    return cursor_after(_COLLECTION, str(place))


def _place(cursor: str) -> AuditPlace:
    position = position_of(_COLLECTION, cursor)
    try:
        return AuditPlace.parse(position)
    except ValueError as error:
        raise invalid("query.cursor", str(error)) from None


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        request_id=row.request_id,
        requested_at=row.requested_at,
        requested_by=row.requested_by,
        organization_id=row.organization_id,
        scope=row.scope,
        action=row.action,
        accepted=row.accepted,
        reason=row.reason,
        version=row.version,
        before=_budget(row.before),
        after=_budget(row.after),
        alerts_before=_alerts(row.alerts_before),
        alerts_after=_alerts(row.alerts_after),
        partition=row.place.partition,
        offset=row.place.offset,
    )


def _plain(value: object) -> Any:
    return format(value, "f") if isinstance(value, Decimal) else value


_DEFAULTS = {
    name: _plain(getattr(Budget(), name))
    for name in Budget.__struct_fields__
    if name in BudgetFields.model_fields
}
"""What the JSON of a budget leaves out."""


def _budget(text: str | None) -> BudgetFields | None:
    """The budget that was published; what only a newer version knows is left out."""
    if text is None:
        return None
    told = json.loads(text)
    known = {name: told.get(name, default) for name, default in _DEFAULTS.items()}
    return BudgetFields.model_construct(**known)


_ALERT_DEFAULTS = AlertsShown.of(AlertConfig()).model_dump()


def _alerts(text: str | None) -> AlertsShown | None:
    """The alert configuration that was published; what only a newer version knows is left out."""
    if text is None:
        return None
    told = json.loads(text)
    known = {name: told.get(name, default) for name, default in _ALERT_DEFAULTS.items()}
    return AlertsShown.model_construct(**known)
