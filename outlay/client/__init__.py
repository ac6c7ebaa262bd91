"""The client of outlay's REST API: `Client`, and `AsyncClient`, which says the same in a loop."""

try:
    import httpx2 as _httpx2  # noqa: F401  # asked for first, so that its lack has a clear error
except ImportError as error:
    raise ImportError("outlay.client needs httpx2: pip install 'outlay[client]'") from error

from outlay.client.agents import (
    AgentBudget,
    ConfiguredBudget,
    CurrentUsage,
    GovernanceBudget,
    GovernanceStatus,
)
from outlay.client.alerts import (
    AlertTest,
    BudgetAlerts,
    ShownAlerts,
)
from outlay.client.audit import AuditEntry
from outlay.client.budgets import (
    BudgetWarning,
    BudgetWindow,
    BudgetWindows,
    Remaining,
    ScopeBudget,
    Used,
    WrittenBudget,
)
from outlay.client.calls import Page
from outlay.client.checks import CheckAnswer, Resets
from outlay.client.client import AsyncClient, Client
from outlay.client.decisions import DecisionEvent, PublishedDecision
from outlay.client.errors import (
    AnswerTimedOut,
    ApiError,
    BodyTooLarge,
    Conflict,
    ErrorPart,
    Forbidden,
    InvalidRequest,
    NoAnswer,
    NotFound,
    Problem,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnreadableAnswer,
    VersionMismatch,
)
from outlay.client.explanation import (
    ExplainedLimit,
    ExplainedWindow,
    Explanation,
    Rule,
    Transition,
    WindowSpend,
)
from outlay.client.health import Readiness, ReadinessCheck
from outlay.client.raised import AlertDelivery, AlertForecast, RaisedAlert
from outlay.client.reports import SpendReport, SpendRow, SpendTotal
from outlay.client.retries import Retries
from outlay.client.usage import AcceptedRecord, UsageAccepted

__all__ = [
    "AcceptedRecord",
    "AgentBudget",
    "AlertDelivery",
    "AlertForecast",
    "AlertTest",
    "AnswerTimedOut",
    "ApiError",
    "AsyncClient",
    "AuditEntry",
    "BodyTooLarge",
    "BudgetAlerts",
    "BudgetWarning",
    "BudgetWindow",
    "BudgetWindows",
    "CheckAnswer",
    "Client",
    "ConfiguredBudget",
    "Conflict",
    "CurrentUsage",
    "DecisionEvent",
    "ErrorPart",
    "ExplainedLimit",
    "ExplainedWindow",
    "Explanation",
    "Forbidden",
    "GovernanceBudget",
    "GovernanceStatus",
    "InvalidRequest",
    "NoAnswer",
    "NotFound",
    "Page",
    "Problem",
    "PublishedDecision",
    "RaisedAlert",
    "Readiness",
    "ReadinessCheck",
    "Remaining",
    "Resets",
    "Retries",
    "Rule",
    "ScopeBudget",
    "ShownAlerts",
    "SpendReport",
    "SpendRow",
    "SpendTotal",
    "TooManyRequests",
    "Transition",
    "Unauthorized",
    "Unavailable",
    "UnreadableAnswer",
    "UsageAccepted",
    "Used",
    "VersionMismatch",
    "WindowSpend",
    "WrittenBudget",
]
