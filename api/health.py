"""Health: whether the process lives, and whether it can answer."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from api.problems import described, problem
from api.services import Services, services
from schemas import http
from streams.clickhouse_errors import HistoryError

router = APIRouter(tags=["health"], responses=described())
_Services = Annotated[Services, Depends(services)]


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process lives; asks nobody else."""
    return {"status": "ok"}


@router.get("/readyz", response_model=http.Readiness, responses=described("not-ready"))
async def readyz(request: Request, have: _Services) -> Response:
    """Whether the feed has caught up and is fresh, and ClickHouse answers; 503 says what is not."""
    checks = {"feed": _feed(have), "clickhouse": await _clickhouse(have)}
    if have.sink is not None:
        checks["history"] = _sink(have)
    if all(check.ok for check in checks.values()):
        return Response(http.encode(http.Readiness(checks=checks)), media_type="application/json")
    broken = "; ".join(f"{name}: {check.detail}" for name, check in checks.items() if not check.ok)
    return problem(request.url.path, "not-ready", broken, {"checks": checks})


def _feed(have: Services) -> http.Check:
    if not have.feed.ready:
        return http.Check(ok=False, detail="the decisions feed has not caught up")
    age_s = feed_age_s(have)
    if age_s > have.settings.stale_after_s:
        return http.Check(ok=False, detail=f"the decisions feed is stale: silent for {age_s:.0f} s")
    return http.Check(ok=True, detail="caught up")


def feed_age_s(have: Services) -> float:
    """How long ago the last watermark of the most silent partition was seen; infinity: never."""
    ages = [have.feed.age_s(partition) for partition in range(have.feed.partitions)]
    return max(ages, default=float("inf"))


async def _clickhouse(have: Services) -> http.Check:
    try:
        await have.history.ping()
    except HistoryError as error:
        return http.Check(ok=False, detail=str(error)[:200])
    return http.Check(ok=True, detail="answers")


def _sink(have: Services) -> http.Check:
    assert have.sink is not None
    ok = have.sink.state == "running"
    return http.Check(
        ok=ok,
        detail=have.sink.state + (f": {have.sink.problem}"[:200] if have.sink.problem else ""),
    )
