"""Budgets of external agents: their status, and changing them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api.any_path import ANY
from api.bodies import invalid_body, parse_body, read_body
from api.budget_writing import BudgetWrite
from api.callers import Caller, needs
from api.etags import FREE
from api.idempotency import IdempotencyKey, RequestIds
from api.problems import described
from api.services import PREFIX, Services, agent_scope, services
from api.status import budget_status, config_updated, governance_status
from outlay.scope import ID_LENGTH_MAX
from schemas import http

router = APIRouter(
    prefix=PREFIX,
    tags=["budgets"],
    responses=described("invalid-request", "feed-unavailable", "history-unavailable"),
)

Organization = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=ID_LENGTH_MAX,
        description="Required of a key for all organizations; else the key's own.",
    ),
]
_Viewer = Annotated[Caller, Depends(needs("viewer"))]
_Operator = Annotated[Caller, Depends(needs("operator"))]
_Services = Annotated[Services, Depends(services)]

_PATCH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": http.BudgetConfigPatch.model_json_schema()},
        },
    }
}


# An id may hold a slash (percent-encoded), which `ANY` lets through.
@router.get(
    f"/external-agents/{{external_agent_id:{ANY}}}/budget", response_model=http.BudgetStatusBody
)
async def get_budget(
    external_agent_id: str,
    caller: _Viewer,
    request: Request,
    have: _Services,
    organization_id: Organization = None,
) -> Response:
    """An agent's budget and what is used of it. Without a budget: its usage, and no limits."""
    organization_id = caller.organization(organization_id, request.url.path)
    scope = agent_scope(organization_id, external_agent_id)
    return have.answer(scope, budget_status(await have.status(scope)))


@router.get(
    f"/external-agents/{{external_agent_id:{ANY}}}/governance-status",
    response_model=http.GovernanceStatus,
)
async def get_governance_status(
    external_agent_id: str,
    caller: _Viewer,
    request: Request,
    have: _Services,
    organization_id: Organization = None,
) -> Response:
    """An agent's budget by month and day, and its state."""
    organization_id = caller.organization(organization_id, request.url.path)
    scope = agent_scope(organization_id, external_agent_id)
    return have.answer(scope, governance_status(await have.status(scope)))


@router.patch(
    f"/external-agents/{{external_agent_id:{ANY}}}/budget/config",
    response_model=http.BudgetConfigUpdated,
    openapi_extra=_PATCH_BODY,
    responses=described(
        "request-timeout",
        "invalid-request",
        "body-too-large",
        "budget-refused",
        "idempotency-key-reused",
        "budget-deleted",
        "budget-timeout",
        "feed-unavailable",
    ),
)
async def patch_budget(
    external_agent_id: str,
    caller: _Operator,
    request: Request,
    have: _Services,
    organization_id: Organization = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Change an agent's budget, or make one: answered when the change is in force."""
    organization_id = caller.organization(organization_id, request.url.path)
    scope = agent_scope(organization_id, external_agent_id)
    changes = _changes(await read_body(request))
    # As a PATCH of the scope's own path: under one key either of them is carried out once.
    asked = (scope.key, "patch", changes)
    ids = RequestIds.of(caller, organization_id, idempotency_key, asked, FREE)
    write = BudgetWrite(have, scope, FREE, ids, caller.name)
    written = await write.set(partial(have.budgets.apatch, scope, changes))
    return have.answer(scope, config_updated(have.status_of(scope, written.decision)))


def _changes(content: bytes) -> dict[str, Any]:
    patch = parse_body(http.BudgetConfigPatch, content)
    try:
        return patch.changes()
    except ValueError as error:
        raise invalid_body(str(error)) from None
