"""Budgets of external agents: their status, and changing them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError

from api.problems import ProblemError, described, errors_of
from api.services import PREFIX, Services, agent_scope, services
from api.status import budget_status, config_updated, governance_status
from outlay.scope import ID_LENGTH_MAX
from schemas import http

BODY_BYTES_MAX = 65_536
"""The largest body of a request, in bytes."""

router = APIRouter(
    prefix=PREFIX,
    tags=["budgets"],
    responses=described("invalid-request", "feed-unavailable", "history-unavailable"),
)

Organization = Annotated[str, Query(min_length=1, max_length=ID_LENGTH_MAX)]
_Services = Annotated[Services, Depends(services)]

_PATCH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": http.BudgetConfigPatch.model_json_schema()},
        },
    }
}


# An id may hold a slash (percent-encoded), which `:path` lets through.
@router.get(
    "/external-agents/{external_agent_id:path}/budget", response_model=http.BudgetStatusBody
)
async def get_budget(
    external_agent_id: str, organization_id: Organization, have: _Services
) -> Response:
    """An agent's budget and what is used of it. Without a budget: its usage, and no limits."""
    scope = agent_scope(organization_id, external_agent_id)
    return have.answer(scope, budget_status(await have.status(scope)))


@router.get(
    "/external-agents/{external_agent_id:path}/governance-status",
    response_model=http.GovernanceStatus,
)
async def get_governance_status(
    external_agent_id: str, organization_id: Organization, have: _Services
) -> Response:
    """An agent's budget by month and day, and its state."""
    scope = agent_scope(organization_id, external_agent_id)
    return have.answer(scope, governance_status(await have.status(scope)))


@router.patch(
    "/external-agents/{external_agent_id:path}/budget/config",
    response_model=http.BudgetConfigUpdated,
    openapi_extra=_PATCH_BODY,
    responses=described(
        "invalid-request", "body-too-large", "budget-refused", "budget-timeout", "feed-unavailable"
    ),
)
async def patch_budget(
    external_agent_id: str, organization_id: Organization, request: Request, have: _Services
) -> Response:
    """Change an agent's budget, or make one: answered when the change is in force."""
    scope = agent_scope(organization_id, external_agent_id)
    changes = _changes(await _body(request))
    decision = await have.budgets.apatch(
        scope, changes, timeout_s=have.settings.api_budget_timeout_s
    )
    return have.answer(scope, config_updated(have.status_of(scope, decision)))


async def _body(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > BODY_BYTES_MAX:
            raise ProblemError("body-too-large", f"the body is over {BODY_BYTES_MAX} bytes")
    return bytes(content)


def _changes(content: bytes) -> dict[str, Any]:
    try:
        return http.BudgetConfigPatch.model_validate(http.decode(content)).changes()
    except ValidationError as error:
        errors = errors_of(error, "body")
        detail = "; ".join(f"{each['location']}: {each['message']}" for each in errors[:3])
        raise ProblemError("invalid-request", detail, errors=errors) from None
    except ValueError as error:
        errors = [{"location": "body", "message": str(error)}]
        raise ProblemError("invalid-request", f"body: {error}", errors=errors) from None
