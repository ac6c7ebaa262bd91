"""The seeds' samples of services, retyped: only their imports are changed.

What a sample leaves to its user is given to `run` by name. Like the seeds they use `await` outside
of a function; one that is about an application or a test defines functions only.
"""

import ast
import asyncio
import contextlib
import inspect
import io

WITH_GOVERNANCE_SERVICE = """
from outlay.governance import GovernanceService

# Initialize service
service = GovernanceService()
await service.initialize()

# Check budget before invocation
result = await service.check_budget(
    external_agent_id="agent-001",
    organization_id="org-001",
    estimated_cost=10.0
)

if result.allowed:
    # Execute invocation
    await execute_invocation()

    # Record cost
    await service.record_invocation_cost(
        external_agent_id="agent-001",
        organization_id="org-001",
        actual_cost=9.50,
        execution_success=True
    )
"""

PRE_INVOCATION_CHECK = """
from outlay.governance import ExternalAgentService

service = ExternalAgentService()

# Budget is checked automatically in invoke()
try:
    result = await service.invoke(
        agent_id="agent-001",
        user_id="user-001",
        organization_id="org-001",
        request_data={"input": "Process document"}
    )
except ValueError as e:
    if "budget" in str(e).lower():
        # Handle budget exceeded
        print(f"Budget exceeded: {e}")
"""

MANUAL_BUDGET_CHECK = """
# Check budget before invocation
allowed, info = await service.check_budget(
    agent_id="agent-001",
    organization_id="org-001",
    estimated_cost=10.0
)

if not allowed:
    print(f"Budget check failed: {info['reason']}")
    print(f"Remaining: ${info['remaining_budget_usd']:.2f}")
"""

DIRECT_GOVERNANCE_SERVICE_USAGE = """
from outlay.governance import GovernanceService

# Initialize
service = GovernanceService()
await service.initialize()

# Check budget
result = await service.check_budget(
    external_agent_id="agent-001",
    organization_id="org-001",
    estimated_cost=10.0,
    user_id="user-001"  # Optional
)

if result.allowed:
    # Execute operation
    await execute_operation()

    # Record cost
    await service.record_invocation_cost(
        external_agent_id="agent-001",
        organization_id="org-001",
        actual_cost=9.50,
        execution_success=True,
        metadata={"duration_ms": 1500}
    )
elif result.warning_triggered:
    # Proceed with warning
    print(f"Warning: {result.warning_message}")
else:
    # Budget exceeded
    print(f"Blocked: {result.reason}")
"""

FASTAPI_INTEGRATION = """
from fastapi import APIRouter, HTTPException, Depends
from outlay.governance import GovernanceService

router = APIRouter()

async def get_governance_service():
    service = GovernanceService()
    await service.initialize()
    return service

@router.post("/invoke/{agent_id}")
async def invoke_agent(
    agent_id: str,
    data: InvokeRequest,
    current_user: User = Depends(get_current_user),
    governance: GovernanceService = Depends(get_governance_service)
):
    # Check budget
    budget_result = await governance.check_budget(
        external_agent_id=agent_id,
        organization_id=current_user.organization_id,
        estimated_cost=estimate_cost(data)
    )

    if not budget_result.allowed:
        raise HTTPException(
            status_code=402,
            detail=budget_result.reason
        )

    # Execute invocation
    result = await execute_invocation(agent_id, data)

    # Record cost
    await governance.record_invocation_cost(
        external_agent_id=agent_id,
        organization_id=current_user.organization_id,
        actual_cost=result.actual_cost,
        execution_success=True
    )

    return result
"""

INTEGRATION_TESTING = """
import pytest
from outlay.governance import GovernanceService

@pytest.fixture
async def governance_service():
    service = GovernanceService()
    await service.initialize()
    yield service
    await service.close()

@pytest.mark.asyncio
async def test_governance_service_integration(governance_service):
    # Check budget
    result = await governance_service.check_budget(
        external_agent_id="test-agent",
        organization_id="test-org",
        estimated_cost=10.0
    )

    assert result.allowed is True
"""


def run(sample, **given):
    """Run a sample with what its user has; its names, and what it printed."""
    names, printed = dict(given), io.StringIO()
    code = compile(sample, "sample", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(printed):
        running = eval(code, names)
        if inspect.isawaitable(running):
            asyncio.run(_waited(running))
    return names, printed.getvalue()


async def _waited(running):
    return await running
