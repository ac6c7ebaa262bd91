"""The audit: who changed which budget when, from what to what. From the history."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api.callers import Caller, needs
from api.paging import PAGE_ITEMS_DEFAULT, PageCursor, PageLimit, cursor_after, position_of
from api.problems import described
from api.services import PREFIX, Services, services
from api.times import TIME_LENGTH_MAX, invalid, time_of
from outlay.budget import Budget
from outlay.scope import ID_LENGTH_MAX, Scope
from schemas import http
from schemas.http_audit import AuditEntry, AuditPage
from schemas.http_budgets import BudgetFields
from streams.clickhouse_audit import AuditLog, AuditPlace, AuditRow, check_time

SCOPE_LENGTH_MAX = 10_240
"""The longest key of a scope asked for, in characters: three ids, each of them percent-encoded."""

_COLLECTION = "audit"

router = APIRouter(
    prefix=PREFIX, tags=["audit"], responses=described("invalid-request", "history-unavailable")
)

_TIME = "A date, or a time with its zone; UTC."
_From = Annotated[str | None, Query(alias="from", max_length=TIME_LENGTH_MAX, description=_TIME)]
_To = Annotated[str | None, Query(max_length=TIME_LENGTH_MAX, description=_TIME)]
_Organization = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=ID_LENGTH_MAX,
        description="Of one organization alone; a key of one organization sees no other.",
    ),
]
_ScopeKey = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=SCOPE_LENGTH_MAX,
        description="Of one budget alone, by its scope's key: `organization:acme/team:search`.",
    ),
]


@router.get("/audit", response_model=AuditPage)
async def get_audit(
    caller: Annotated[Caller, Depends(needs("operator"))],
    request: Request,
    have: Annotated[Services, Depends(services)],
    organization_id: _Organization = None,
    scope: _ScopeKey = None,
    from_: _From = None,
    to: _To = None,
    limit: PageLimit = PAGE_ITEMS_DEFAULT,
    cursor: PageCursor = None,
) -> Response:
    """Requests to change budgets, from `from` up to and without `to`, the newest first.

    Each request that was decided is there once, also a refused one. An entry follows its change
    within seconds, as long as ClickHouse answers.
    """
    path = request.url.path
    if organization_id is None:
        organization_id = caller.organization_id
    else:
        caller.check(organization_id, path)
    if scope is not None:
        caller.check(_scope(scope).organization_id, path)
    query = _query(limit + 1, organization_id, scope, from_, to, cursor)
    rows = await have.history.ask(query)
    page = AuditPage(
        items=[_entry(row) for row in rows[:limit]],
        next_cursor=_cursor(rows[limit - 1].place) if len(rows) > limit else None,
    )
    return Response(http.encode(page), media_type="application/json")


def _query(
    limit: int,
    organization_id: str | None,
    scope: str | None,
    from_: str | None,
    to: str | None,
    cursor: str | None,
) -> AuditLog:
    start, end = _bound("query.from", from_), _bound("query.to", to)
    if start is not None and end is not None and start >= end:
        raise invalid("query.from", "the range is empty: from must be before to")
    behind = None if cursor is None else _place(cursor)
    return AuditLog(limit, organization_id, scope, start, end, behind)


def _bound(location: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    at = time_of(location, text)
    try:
        check_time(at)
    except ValueError as error:
        raise invalid(location, str(error)) from None
    return at


def _scope(key: str) -> Scope:
    try:
        return Scope.parse(key)
    except ValueError as error:
        raise invalid("query.scope", str(error)) from None


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
