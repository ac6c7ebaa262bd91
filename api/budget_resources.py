"""Budgets of all scopes: read one, set it, change it, take it away."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from api.any_path import ANY
from api.bodies import invalid_body, parse_body, read_body
from api.budget_view import budget_body, budget_written
from api.budget_writing import BudgetWrite, Written
from api.callers import Caller, needs
from api.etags import Condition, IfMatch, IfNoneMatch, condition_of, etag
from api.idempotency import IdempotencyKey, RequestIds
from api.problems import ProblemError, described
from api.scope_paths import BUDGETS_PATH, ScopePath, budget_path, path_scope
from api.services import STALE_HEADER, Services, services
from outlay.decision import Decision
from outlay.errors import FeedNotReady
from outlay.scope import Scope
from outlay.standing import KnownBudget
from schemas import http
from schemas.http_budgets import BudgetBody, BudgetPatch, BudgetPut, BudgetWritten

MIN_VERSION_WAIT_S = 5.0
"""How long a read waits for the version that it asks for, in seconds."""

VERSION_MAX = 10**18

VERSION_HEADER = "Outlay-Version"
"""Says which version was deleted; an `ETag` would name what is there now, which is nothing."""

router = APIRouter(
    prefix=BUDGETS_PATH,
    tags=["budgets"],
    responses=described("invalid-request", "not-found", "feed-unavailable"),
)

_PATH = f"/{{scope:{ANY}}}"  # the parts of a scope are segments
WRITE_PROBLEMS = described(
    "request-timeout",
    "invalid-request",
    "body-too-large",
    "budget-refused",
    "idempotency-key-reused",
    "not-found",
    "version-mismatch",
    "budget-timeout",
    "feed-unavailable",
)
_SET_ANSWERS: dict[int | str, dict[str, Any]] = {
    **WRITE_PROBLEMS,
    **described("budget-deleted"),
    201: {"model": BudgetWritten, "description": "Created"},
}
_VERSION = {VERSION_HEADER: {"description": "What was deleted", "schema": {"type": "integer"}}}
_Services = Annotated[Services, Depends(services)]
_Viewer = Annotated[Caller, Depends(needs("viewer"))]
_Operator = Annotated[Caller, Depends(needs("operator"))]
MinVersion = Annotated[
    int | None,
    Query(ge=1, le=VERSION_MAX, description="Wait until this version is seen, or a later one."),
]


def body_of(model: type[BaseModel], *media_types: str) -> dict[str, Any]:
    """What a route says of its body, which it reads itself."""
    schema = model.model_json_schema()
    content = {media_type: {"schema": schema} for media_type in media_types}
    return {"requestBody": {"required": True, "content": content}}


@router.get(
    _PATH,
    response_model=BudgetBody,
    responses=described("invalid-request", "not-found", "feed-unavailable", "version-not-seen"),
)
async def get_scope_budget(
    scope: ScopePath,
    request: Request,
    have: _Services,
    caller: _Viewer,
    min_version: MinVersion = None,
) -> Response:
    """A scope's budget and what is used of it. `ETag` is its version."""
    found = own_scope(request, caller)
    known = await known_budget(have, found, min_version)
    if known is None:
        raise ProblemError("not-found", f"there is no {request.url.path}")
    return _answer(have, found, known.decision, budget_body)


@router.put(
    _PATH,
    response_model=BudgetWritten,
    responses=_SET_ANSWERS,
    openapi_extra=body_of(BudgetPut, "application/json"),
)
async def put_scope_budget(
    scope: ScopePath,
    request: Request,
    have: _Services,
    caller: _Operator,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Set the whole budget of a scope, or make one: answered when it is in force."""
    found, condition = own_scope(request, caller), condition_of(if_match, if_none_match)
    body = parse_body(BudgetPut, await read_body(request))
    try:
        budget = body.budget()
    except ValueError as error:
        raise invalid_body(str(error)) from None
    write = budget_write(have, found, condition, caller, idempotency_key, ("put", body.given()))
    written = await write.set(partial(have.budgets.aput, found, budget))
    return _answer_written(have, found, written)


@router.patch(
    _PATH,
    response_model=BudgetWritten,
    responses=_SET_ANSWERS,
    openapi_extra=body_of(BudgetPatch, "application/json", "application/merge-patch+json"),
)
async def patch_scope_budget(
    scope: ScopePath,
    request: Request,
    have: _Services,
    caller: _Operator,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Change some fields of a scope's budget, or make one: answered when that is in force."""
    found, condition = own_scope(request, caller), condition_of(if_match, if_none_match)
    body = parse_body(BudgetPatch, await read_body(request))
    try:
        changes = body.changes()
    except ValueError as error:
        raise invalid_body(str(error)) from None
    write = budget_write(have, found, condition, caller, idempotency_key, ("patch", changes))
    written = await write.set(partial(have.budgets.apatch, found, changes))
    return _answer_written(have, found, written)


@router.delete(
    _PATH,
    status_code=204,
    responses=WRITE_PROBLEMS | {204: {"description": "Deleted", "headers": _VERSION}},
)
async def delete_scope_budget(
    scope: ScopePath,
    request: Request,
    have: _Services,
    caller: _Operator,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Take a scope's budget away: answered when its decision is gone, too.

    `Outlay-Version` is the version that was there. Asked again under the same key it may be absent.
    """
    found, condition = own_scope(request, caller), condition_of(if_match, if_none_match)
    write = budget_write(have, found, condition, caller, idempotency_key, ("delete",))
    version = await write.delete(partial(have.budgets.adelete, found))
    headers = {} if version is None else {VERSION_HEADER: str(version)}
    return Response(status_code=204, headers=headers)


def own_scope(request: Request, caller: Caller, end: str = "") -> Scope:
    """The scope of the path, before its `end`, which is one of the caller's.

    Raises:
        ProblemError: it is none, or another's: then there is nothing there.
    """
    scope = path_scope(request, end)
    caller.check(scope.organization_id, request.url.path)
    return scope


def budget_write(
    have: Services,
    scope: Scope,
    condition: Condition,
    caller: Caller,
    key: str | None,
    content: tuple[object, ...],
) -> BudgetWrite:
    """A write of a scope's budget; under one key only the same `content` may be asked again."""
    asked = (scope.key, *content)
    ids = RequestIds.of(caller, scope.organization_id, key, asked, condition)
    return BudgetWrite(have, scope, condition, ids, caller.name)


async def known_budget(have: Services, scope: Scope, min_version: int | None) -> KnownBudget | None:
    """What the feed knows; with `min_version` once it knows of that version, within a bound.

    Raises:
        ProblemError: the feed has not caught up, or does not see the version in time.
        FeedNotReady: it was closed meanwhile.
    """
    if not have.feed.ready:
        raise ProblemError("feed-unavailable", "the decisions feed has not caught up yet")
    if min_version is None:
        return have.feed.decisions.get(scope.key)

    def look() -> KnownBudget | None:
        known = have.feed.decisions.get(scope.key)
        return known if known is not None and known.decision.version >= min_version else None

    if (known := look()) is not None:
        return known
    try:
        return await have.feed.await_until(look, MIN_VERSION_WAIT_S)
    except FeedNotReady:
        raise
    except TimeoutError:
        detail = f"version {min_version} was not seen within {MIN_VERSION_WAIT_S:g} s"
        raise ProblemError("version-not-seen", detail) from None


def _answer_written(have: Services, scope: Scope, written: Written) -> Response:
    response = _answer(have, scope, written.decision, budget_written)
    if written.created:
        response.status_code = 201
        response.headers["Location"] = budget_path(scope)
    return response


def _answer(
    have: Services, scope: Scope, decision: Decision, view: Callable[..., BudgetBody]
) -> Response:
    stale = have.feed.is_stale(scope.key)
    headers = {"ETag": etag(decision.version)} | ({STALE_HEADER: "true"} if stale else {})
    content = http.encode(view(decision, have.now(), stale, have.alert_source(scope)))
    return Response(content, 200, headers, "application/json")
