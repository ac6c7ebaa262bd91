"""Alerts that were raised, and what became of their deliveries. From the history."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api.callers import Caller, needs
from api.log_queries import From, Organization, ScopeKey, To, place_of, time_range, whose
from api.paging import PAGE_ITEMS_DEFAULT, PageCursor, PageLimit, cursor_after
from api.problems import described
from api.services import PREFIX, Services, services
from schemas import http
from schemas.http_alert_log import AlertEntry, AlertPage, DeliveryEntry, DeliveryPage
from streams.clickhouse_alerts import AlertLog, AlertRow, DeliveryLog, DeliveryRow

WORD_LENGTH_MAX = 64
"""The longest event, window, status or channel that is asked for, in characters."""

ALERT_ID_LENGTH_MAX = 128
"""The longest id of an alert that is asked for, in characters."""

_ALERTS, _DELIVERIES = "alerts", "alert deliveries"

router = APIRouter(
    prefix=f"{PREFIX}/alerts",
    tags=["alerts"],
    responses=described("invalid-request", "history-unavailable"),
)

_Viewer = Annotated[Caller, Depends(needs("viewer"))]
_Services = Annotated[Services, Depends(services)]


def _word(example: str) -> Any:
    return Query(min_length=1, max_length=WORD_LENGTH_MAX, examples=[example])


_Event = Annotated[str | None, _word("budget.exceeded")]
_Window = Annotated[str | None, _word("2026-11")]
_Status = Annotated[str | None, _word("failed")]
_Channel = Annotated[str | None, _word("webhook")]
_AlertId = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=ALERT_ID_LENGTH_MAX,
        description="Attempts that carried this alert, alone or merged with others.",
    ),
]


@router.get("", response_model=AlertPage)
async def get_alerts(
    caller: _Viewer,
    request: Request,
    have: _Services,
    organization_id: Organization = None,
    scope: ScopeKey = None,
    event: _Event = None,
    window: _Window = None,
    from_: From = None,
    to: To = None,
    limit: PageLimit = PAGE_ITEMS_DEFAULT,
    cursor: PageCursor = None,
) -> Response:
    """Alerts that were detected from `from` up to and without `to`, the newest first, each once.

    They are there whether or not anybody is told, within seconds, as long as ClickHouse answers.
    """
    organization_id = whose(caller, organization_id, scope, request.url.path)
    times = time_range(from_, to)
    behind = place_of(_ALERTS, cursor)
    query = AlertLog(limit + 1, organization_id, scope, event, window, *times, behind)
    rows = await have.history.ask(query)
    more = cursor_after(_ALERTS, str(rows[limit - 1].place)) if len(rows) > limit else None
    page = AlertPage(items=[_alert(row) for row in rows[:limit]], next_cursor=more)
    return Response(http.encode(page), media_type="application/json")


@router.get("/deliveries", response_model=DeliveryPage)
async def get_deliveries(
    caller: _Viewer,
    request: Request,
    have: _Services,
    organization_id: Organization = None,
    scope: ScopeKey = None,
    status: _Status = None,
    channel: _Channel = None,
    alert_id: _AlertId = None,
    from_: From = None,
    to: To = None,
    limit: PageLimit = PAGE_ITEMS_DEFAULT,
    cursor: PageCursor = None,
) -> Response:
    """Attempts to deliver alerts, made from `from` up to and without `to`, the newest first."""
    organization_id = whose(caller, organization_id, scope, request.url.path)
    times = time_range(from_, to)
    behind = place_of(_DELIVERIES, cursor)
    query = DeliveryLog(
        limit + 1, organization_id, scope, status, channel, alert_id, *times, behind
    )
    rows = await have.history.ask(query)
    more = cursor_after(_DELIVERIES, str(rows[limit - 1].place)) if len(rows) > limit else None
    page = DeliveryPage(items=[_delivery(row) for row in rows[:limit]], next_cursor=more)
    return Response(http.encode(page), media_type="application/json")


def _alert(row: AlertRow) -> AlertEntry:
    return AlertEntry.model_validate(msgspec.to_builtins(row.alert))


def _delivery(row: DeliveryRow) -> DeliveryEntry:
    told = {name: value for name, value in row._asdict().items() if name != "place"}
    return DeliveryEntry(
        **told | {"alert_ids": list(row.alert_ids), "attempted_at": row.attempted_at}
    )
