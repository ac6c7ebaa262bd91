"""Alert configurations of budgets: read the one that holds, set an own one, and try it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response

from api.any_path import ANY
from api.bodies import invalid_body, parse_body, read_body
from api.budget_resources import (
    WRITE_PROBLEMS,
    MinVersion,
    body_of,
    budget_write,
    known_budget,
    own_scope,
)
from api.budget_writing import BudgetWrite
from api.callers import Caller, needs
from api.etags import FREE, Condition, IfMatch, condition_of, etag
from api.idempotency import IdempotencyKey, RequestIds
from api.problems import ProblemError, described
from api.scope_paths import BUDGETS_PATH, ScopePath, SentPathRoute
from api.services import Services, services
from api.times import invalid
from outlay.alert_config import AlertConfig
from outlay.decision import Decision
from outlay.errors import BudgetRefused
from outlay.scope import Scope
from schemas import http
from schemas.http_alerts import AlertsBody, AlertsPut, AlertsShown, AlertTested
from streams.alerting.trying import build_test_alert

_END, _TEST_END = "/alerts", "/alerts/test"
_PATH = f"{BUDGETS_PATH}/{{scope:{ANY}}}{_END}"
_TEST_PATH = f"{BUDGETS_PATH}/{{scope:{ANY}}}{_TEST_END}"

_READ_PROBLEMS = described("invalid-request", "not-found", "feed-unavailable", "version-not-seen")
_ANSWERS: dict[int | str, dict[str, Any]] = {**WRITE_PROBLEMS, **described("budget-deleted")}

router = APIRouter(tags=["alerts"], route_class=SentPathRoute)

_NoneMatch = Annotated[
    list[str] | None,
    Header(alias="If-None-Match", description="Refused: alerts share their budget's version."),
]
_Services = Annotated[Services, Depends(services)]
_Viewer = Annotated[Caller, Depends(needs("viewer"))]
_Operator = Annotated[Caller, Depends(needs("operator"))]


@router.get(_PATH, response_model=AlertsBody, responses=_READ_PROBLEMS)
async def get_alerts_of_budget(
    scope: ScopePath,
    request: Request,
    have: _Services,
    caller: _Viewer,
    min_version: MinVersion = None,
) -> Response:
    """The alert configuration that holds for a budget; `source` says whose it is.

    `ETag` is the budget's version, which its own configuration shares. Secrets are never answered.
    """
    found = own_scope(request, caller, _END)
    decision = await _decision(have, found, request, min_version)
    if min_version is not None:  # configurations stand before the decisions with their versions
        await have.alerts.catch_up()
    return _answer(have, found, decision)


@router.put(
    _PATH,
    response_model=AlertsBody,
    responses=_ANSWERS,
    openapi_extra=body_of(AlertsPut, "application/json"),
)
async def put_alerts_of_budget(
    scope: ScopePath,
    request: Request,
    have: _Services,
    caller: _Operator,
    if_match: IfMatch = None,
    if_none_match: _NoneMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Set a budget's own alert configuration, as a whole: answered when it is in force.

    What the body leaves out is what it is by default; `webhook_secrets` alone stay as they are. A
    URL that is masked, as answers have it, is refused.
    """
    found, condition = own_scope(request, caller, _END), _condition(if_match, if_none_match)
    body = parse_body(AlertsPut, await read_body(request))
    try:
        body.config()
    except ValueError as error:
        raise invalid_body(str(error)) from None
    asked = (found.key, "put_alerts", body.asked())
    ids = RequestIds.of(caller, found.organization_id, idempotency_key, asked, condition)
    if body.keeps_secrets:
        condition = _seen(have, found, condition)
    write = BudgetWrite(have, found, condition, ids, caller.name)
    written = await write.set(partial(_put, have, found, body))
    await have.alerts.catch_up()  # so that whoever asks here now is answered with it
    return _answer(have, found, written.decision)


def _condition(if_match: list[str] | None, if_none_match: list[str] | None) -> Condition:
    if if_none_match is not None:  # to pass over it would change what shall only be made
        raise invalid("header.If-None-Match", "not for alerts, which share their budget's version")
    return condition_of(if_match, None)


def _seen(have: Services, scope: Scope, condition: Condition) -> Condition:
    """The condition of a write that keeps secrets: that nobody has changed them in between."""
    if condition != FREE:
        return condition
    return Condition("present" if scope.key in have.feed.decisions else "absent")


async def _put(have: Services, scope: Scope, body: AlertsPut, **options: Any) -> Decision:
    kept: AlertConfig | None = None
    if body.keeps_secrets:
        await have.alerts.catch_up()
        kept = have.alerts.own_config(scope)
    config = body.config(() if kept is None else kept.webhook_secrets)
    return await have.budgets.aput_alerts(scope, config, **options)


@router.delete(
    _PATH,
    status_code=204,
    responses=_ANSWERS
    | {204: {"description": "Deleted", "headers": {"ETag": {"schema": {"type": "string"}}}}},
)
async def delete_alerts_of_budget(
    scope: ScopePath,
    request: Request,
    have: _Services,
    caller: _Operator,
    if_match: IfMatch = None,
    if_none_match: _NoneMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Take a budget's own alert configuration away: its organization's, or the default, holds then.

    `ETag` is the version that the budget, which stays, has by that.
    """
    found, condition = own_scope(request, caller, _END), _condition(if_match, if_none_match)
    write = budget_write(have, found, condition, caller, idempotency_key, ("delete_alerts",))
    try:
        written = await write.set(partial(have.budgets.adelete_alerts, found))
    except BudgetRefused:
        await have.alerts.catch_up()
        if have.alerts.own_config(found) is None:
            raise ProblemError("not-found", f"there is no {request.url.path}") from None
        raise
    await have.alerts.catch_up()
    return Response(status_code=204, headers={"ETag": etag(written.decision.version)})


@router.post(
    _TEST_PATH,
    status_code=202,
    response_model=AlertTested,
    responses=described(
        "invalid-request", "not-found", "idempotency-key-reused", "feed-unavailable",
        "broker-unavailable",
    ),
)  # fmt: skip
async def try_alerts_of_budget(
    scope: ScopePath,
    request: Request,
    have: _Services,
    caller: _Operator,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Send a test alert of a budget, marked as one, to whom its alerts go; no cooldown holds it.

    202 says that it is on its way. Under one `Idempotency-Key` it is delivered once.
    """
    found = own_scope(request, caller, _TEST_END)
    decision = await _decision(have, found, request, None)
    await have.alerts.catch_up()
    holding = have.alerts.holding(found)
    asked = (found.key, "test_alerts")
    ids = RequestIds.of(caller, found.organization_id, idempotency_key, asked, FREE)
    alert = build_test_alert(
        found,
        request_id=ids.of_attempt(0),
        now=have.now(),
        budget=decision.budget,
        version=decision.version,
    )
    await have.alerts.publish(alert)
    told = AlertTested(
        alert_id=alert.alert_id,
        scope=found.key,
        source=holding.source,
        channels=_channels(holding.config),
    )
    return Response(http.encode(told), 202, media_type="application/json")


async def _decision(
    have: Services, scope: Scope, request: Request, min_version: int | None
) -> Decision:
    known = await known_budget(have, scope, min_version)
    if known is None:
        raise ProblemError("not-found", f"there is no {request.url.path}")
    return known.decision


def _channels(config: AlertConfig) -> list[Any]:
    channels = {"webhook": config.webhook_url, "email": config.email_recipients}
    return [name for name, target in channels.items() if target]


def _answer(have: Services, scope: Scope, decision: Decision) -> Response:
    holding = have.alerts.holding(scope)
    body = AlertsBody(
        scope=scope.key,
        source=holding.source,
        version=decision.version,
        alerts=AlertsShown.of(holding.config),
        webhook_secret_count=len(holding.config.webhook_secrets),
    )
    headers = {"ETag": etag(decision.version)}
    return Response(http.encode(body), 200, headers, "application/json")
