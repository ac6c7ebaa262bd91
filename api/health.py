"""Health: whether the process lives, and whether it can answer."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from api.in_flight import InFlight
from api.problems import described, problem
from api.seams import OwnAlerts
from api.services import Services, services
from schemas import http
from streams.clickhouse_errors import HistoryError

router = APIRouter(tags=["health"], responses=described())
_Services = Annotated[Services, Depends(services)]

USAGE_WAIT_S = 5.0
"""For how long the broker may take no records, though there are some, in seconds."""

DETAIL_LENGTH_MAX = 200
"""How much of what a part was told is told on, in characters."""


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process lives; asks nobody else."""
    return {"status": "ok"}


@router.get("/readyz", response_model=http.Readiness, responses=described("not-ready"))
async def readyz(request: Request, have: _Services) -> Response:
    """Whether each part is in order, by its name; 503 says what is not, and of which.

    The parts: `feed` has caught up and is fresh; `clickhouse` answers; `budgets`: the broker that
    changes of budgets go to answers; `usage`: nothing waits for it in vain; `history`, where this
    process keeps it, runs. None is waited for longer than seconds.
    """
    held = request.app.state.usage.ingest.held
    found = await asyncio.gather(_clickhouse(have), _broker(have))
    checks = {"feed": _feed(have), "clickhouse": found[0], "usage": _usage(held)}
    if found[1] is not None:
        checks["budgets"] = found[1]
    if have.alerts.own is not None:
        checks["alerts"] = _alerts(have.alerts.own)
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


def feed_lag_s(have: Services) -> float:
    """How old what the feed knows is at most, in seconds; infinity where that is not known."""
    complete_ms = None if have.live is None else have.live.hub.complete_ms
    if complete_ms is None:
        return float("inf")
    return have.now().timestamp() - complete_ms / 1000


async def _clickhouse(have: Services) -> http.Check:
    try:
        await have.history.ping()
    except HistoryError as error:
        return http.Check(ok=False, detail=str(error)[:DETAIL_LENGTH_MAX])
    return http.Check(ok=True, detail="answers")


async def _broker(have: Services) -> http.Check | None:
    if have.ask_broker is None:
        return None
    try:
        await have.ask_broker()
    except OSError as error:
        detail = f"the broker does not answer: {error}"[:DETAIL_LENGTH_MAX]
        return http.Check(ok=False, detail=detail)
    return http.Check(ok=True, detail="the broker answers")


def _usage(held: InFlight) -> http.Check:
    if held.problem:
        detail = f"the broker takes none: {held.problem}"[:DETAIL_LENGTH_MAX]
        return http.Check(ok=False, detail=detail)
    if held.waits_s > USAGE_WAIT_S:
        detail = f"{held.records} records wait for the broker, for {held.waits_s:.0f} s"
        return http.Check(ok=False, detail=detail)
    return http.Check(ok=True, detail=f"{held.records} records in flight")


def _alerts(own: OwnAlerts) -> http.Check:
    if own.problem:
        return http.Check(ok=False, detail=own.problem[:DETAIL_LENGTH_MAX])
    if not own.ready:
        return http.Check(ok=False, detail="the alert configurations are not known yet")
    return http.Check(ok=True, detail="caught up")


def _sink(have: Services) -> http.Check:
    assert have.sink is not None
    ok = have.sink.state == "running"
    return http.Check(
        ok=ok,
        detail=have.sink.state
        + (f": {have.sink.problem}"[:DETAIL_LENGTH_MAX] if have.sink.problem else ""),
    )
