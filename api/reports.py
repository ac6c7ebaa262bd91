"""Reports from the history."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api.callers import Caller, needs
from api.problems import ProblemError, described
from api.services import PREFIX, Services, services
from api.times import TIME_LENGTH_MAX, invalid, time_of
from outlay.budget import Amounts
from outlay.money import to_usd
from outlay.scope import ID_LENGTH_MAX
from schemas import http
from streams.clickhouse_queries import REPORT_ROWS_MAX, SpendReport, SpendRow

router = APIRouter(
    prefix=f"{PREFIX}/reports",
    tags=["reports"],
    responses=described("invalid-request", "report-too-large", "history-unavailable"),
)

_Time = Annotated[
    str, Query(max_length=TIME_LENGTH_MAX, description="A date, or a time with its zone; UTC.")
]
_From = Annotated[
    str,
    Query(
        alias="from",
        max_length=TIME_LENGTH_MAX,
        description="A date, or a time with its zone; UTC.",
    ),
]


@router.get("/spend", response_model=http.SpendReportBody)
async def get_spend(
    from_: _From,
    to: _Time,
    caller: Annotated[Caller, Depends(needs("viewer"))],
    request: Request,
    have: Annotated[Services, Depends(services)],
    interval: Literal["day", "month"] = "day",
    group_by: Literal["organization", "team", "user", "agent", "model"] = "organization",
    organization_id: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=ID_LENGTH_MAX,
            description="Of one organization alone; a key of one organization sees no other.",
        ),
    ] = None,
) -> Response:
    """Spend of records dated from `from` up to and without `to`, by interval and group."""
    if organization_id is None:
        organization_id = caller.organization_id
    else:
        caller.check(organization_id, request.url.path)
    start, end = time_of("query.from", from_), time_of("query.to", to)
    try:
        report = SpendReport(start, end, interval, group_by, organization_id)
    except ValueError as error:
        raise invalid("query.from", str(error)) from None
    rows = await have.history.ask(report)
    if len(rows) > REPORT_ROWS_MAX:
        raise ProblemError(
            "report-too-large",
            f"the report has over {REPORT_ROWS_MAX} rows: ask for a shorter range, a month's"
            " interval, or one organization",
        )
    return Response(http.encode(_body(report, rows)), media_type="application/json")


def _body(report: SpendReport, rows: list[SpendRow]) -> http.SpendReportBody:
    total = sum((row.amounts for row in rows), Amounts())
    return http.SpendReportBody(
        start=report.start.astimezone(UTC),
        end=report.end.astimezone(UTC),
        interval=report.interval,
        group_by=report.group_by,
        organization_id=report.organization_id,
        rows=[
            http.SpendRowBody(
                window=row.window,
                organization_id=row.organization_id,
                group=row.group,
                **_amounts(row.amounts, row.records),
            )
            for row in rows
        ],
        total=http.SpendTotal(**_amounts(total, sum(row.records for row in rows))),
    )


def _amounts(amounts: Amounts, records: int) -> dict[str, Any]:
    return {
        "cost_usd": to_usd(amounts.cost_nano),
        "executions": amounts.executions,
        "input_tokens": amounts.input_tokens,
        "output_tokens": amounts.output_tokens,
        "records": records,
    }
