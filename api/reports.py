"""Reports from the history."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from api.problems import ProblemError, described
from api.services import PREFIX, Services, services
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

_Time = Annotated[str, Query(max_length=40, description="A date, or a time with its zone; UTC.")]
_From = Annotated[
    str, Query(alias="from", max_length=40, description="A date, or a time with its zone; UTC.")
]


@router.get("/spend", response_model=http.SpendReportBody)
async def get_spend(
    from_: _From,
    to: _Time,
    have: Annotated[Services, Depends(services)],
    interval: Literal["day", "month"] = "day",
    group_by: Literal["organization", "team", "user", "agent", "model"] = "organization",
    organization_id: Annotated[str | None, Query(min_length=1, max_length=ID_LENGTH_MAX)] = None,
) -> Response:
    """Spend of records dated from `from` up to and without `to`, by interval and group."""
    start, end = _time("query.from", from_), _time("query.to", to)
    try:
        report = SpendReport(start, end, interval, group_by, organization_id)
    except ValueError as error:
        raise _invalid("query.from", str(error)) from None
    rows = await have.history.ask(report)
    if len(rows) > REPORT_ROWS_MAX:
        raise ProblemError(
            "report-too-large",
            f"the report has over {REPORT_ROWS_MAX} rows: ask for a shorter range, a month's"
            " interval, or one organization",
        )
    return Response(http.encode(_body(report, rows)), media_type="application/json")


def _time(location: str, text: str) -> datetime:
    try:
        if len(text) == len("2026-11-21"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        at = datetime.fromisoformat(text)
    except ValueError:
        detail = "write a date, 2026-11-21, or a time with its zone, 2026-11-21T12:00:00Z"
        raise _invalid(location, detail) from None
    if at.utcoffset() is None:
        raise _invalid(location, "a time needs its zone, such as Z (a + in a URL is %2B)")
    return at


def _invalid(location: str, message: str) -> ProblemError:
    errors = [{"location": location, "message": message}]
    return ProblemError("invalid-request", f"{location}: {message}", errors=errors)


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
