"""Governance: budgets of external agents, checked before a call and counted after it."""

from outlay.errors import BudgetExceededError
from outlay.governance.agents import ExternalAgentService, set_default_invoker
from outlay.governance.alerts import BudgetAlertConfig
from outlay.governance.budget import ExternalAgentBudget
from outlay.governance.config import ExternalAgentBudgetConfig
from outlay.governance.enforcer import ExternalAgentBudgetEnforcer
from outlay.governance.results import BudgetCheckResult
from outlay.governance.rollover import LastPeriod
from outlay.governance.scope import BudgetScope
from outlay.governance.service import GovernanceService
from outlay.governance.status import BudgetStatus
from outlay.governance.store import BudgetStore, BudgetStoreFull, InMemoryBudgetStore
from outlay.governance.stream_store import StreamBudgetStore
from outlay.governance.usage import BudgetUsageRecord, PeriodUsage

__all__ = [
    "BudgetAlertConfig",
    "BudgetCheckResult",
    "BudgetExceededError",
    "BudgetScope",
    "BudgetStatus",
    "BudgetStore",
    "BudgetStoreFull",
    "BudgetUsageRecord",
    "ExternalAgentBudget",
    "ExternalAgentBudgetConfig",
    "ExternalAgentBudgetEnforcer",
    "ExternalAgentService",
    "GovernanceService",
    "InMemoryBudgetStore",
    "LastPeriod",
    "PeriodUsage",
    "StreamBudgetStore",
    "set_default_invoker",
]
