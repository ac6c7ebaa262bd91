"""Checks: may this call be made? For gateways that do not hold the decisions themselves.

There are two, with one answer, that of `BudgetGateway.check`:

- `POST /check` is asked by programs that act on the answer. It is 200 whether the call is allowed
  or not: the question was answered.
- `POST /external-agents/{id}/check` is asked by those who pass the status on: 200 allows, 402
  blocks, as a problem that names the window, what remains and what was asked.

Both are 503 while the decisions feed is not there: then no budget is known. Where it has merely
gone silent, a budget's `on_stale` decides; one that blocks then is `allowed: false` with `stale` in
the first, and 503 in the second: nothing is wrong with what was spent.

A check holds nothing. Several that are asked at once may all be allowed where only one has room:
`BudgetGateway.reserve` of the library is for that.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api.any_path import ANY
from api.bodies import parse_body, read_body
from api.callers import Caller, needs
from api.checking import Checked, check
from api.live import Live, live
from api.problems import Kind, ProblemError, described
from api.services import PREFIX, STALE_HEADER
from outlay.scope import ID_LENGTH_MAX
from schemas import http
from schemas.http_check import AgentCheckRequest, CheckAnswer, CheckRequest

router = APIRouter(
    prefix=PREFIX,
    tags=["checks"],
    responses=described("request-timeout", "invalid-request", "body-too-large", "feed-unavailable"),
)

_Caller = Annotated[Caller, Depends(needs("emitter", "viewer"))]
_Live = Annotated[Live, Depends(live)]
_Organization = Annotated[str | None, Query(min_length=1, max_length=ID_LENGTH_MAX)]


def _body_of(model: type[AgentCheckRequest], *, required: bool) -> dict[str, Any]:
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": required, "content": content}}


@router.post(
    "/check",
    response_model=CheckAnswer,
    openapi_extra=_body_of(CheckRequest, required=True),
)
async def post_check(request: Request, caller: _Caller, have: _Live) -> Response:
    """What the budgets of all scopes of a call say to it: 200, also where they block it."""
    ask = parse_body(CheckRequest, await read_body(request))
    caller.check(ask.organization_id, request.url.path)
    return _answer(check(have.gateway, ask, have.now()))


@router.post(
    f"/external-agents/{{external_agent_id:{ANY}}}/check",
    response_model=CheckAnswer,
    openapi_extra=_body_of(AgentCheckRequest, required=False),
    responses=described("budget-exceeded"),
)
async def post_agent_check(
    external_agent_id: str,
    request: Request,
    caller: _Caller,
    have: _Live,
    organization_id: _Organization = None,
) -> Response:
    """The same for an agent, with the answer in the status: 402 where a budget blocks the call."""
    organization = caller.organization(organization_id, request.url.path)
    content = await read_body(request)
    asked = parse_body(AgentCheckRequest, content) if content else AgentCheckRequest()
    ids: dict[str, Any] = {"organization_id": organization, "agent_id": external_agent_id}
    # Not validated again: the gateway looks at the ids itself.
    ask = CheckRequest.model_construct(None, **asked.model_dump(), **ids)
    checked = check(have.gateway, ask, have.now())
    if checked.result.allowed:
        return _answer(checked)
    kind: Kind = "feed-unavailable" if checked.is_unavailable else "budget-exceeded"
    refusal = ProblemError(kind, checked.result.reason, **checked.blocking)
    refusal.headers = checked.headers | _stale(checked)
    raise refusal


def _answer(checked: Checked) -> Response:
    headers = checked.headers | _stale(checked)
    return Response(http.encode(checked.body), 200, headers, "application/json")


def _stale(checked: Checked) -> dict[str, str]:
    return {STALE_HEADER: "true"} if checked.result.stale else {}
