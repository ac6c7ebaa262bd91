"""outlay keeps fleets of AI agents inside their budgets, by what they report to have used."""

from outlay.budget import Amounts, Budget, Evaluation, Limit, Rules, evaluate
from outlay.budgets import BudgetClient
from outlay.decision import BudgetRequest, Decision, Outcome, Watermark, WindowUsage
from outlay.emitter import Delivered, EmitterStats, UsageEmitter
from outlay.errors import (
    BudgetExceededError,
    BudgetRefused,
    BudgetRequestTimeout,
    FeedNotReady,
    OutlayError,
    ReservationClosed,
    TooManyReservations,
    TopicNotFound,
)
from outlay.explaining import Explanation, LimitExplanation, ScopeExplanation
from outlay.feed import DecisionFeed
from outlay.gateway import BudgetGateway, CheckResult, GatewayStats
from outlay.reservation import Reservation
from outlay.scope import Scope
from outlay.topics import TopicNames
from outlay.usage import UsageRecord
from outlay.watching import SpendWatcher
from outlay.window import Window

__all__ = [
    "Amounts",
    "Budget",
    "BudgetClient",
    "BudgetExceededError",
    "BudgetGateway",
    "BudgetRefused",
    "BudgetRequest",
    "BudgetRequestTimeout",
    "CheckResult",
    "Decision",
    "DecisionFeed",
    "Delivered",
    "EmitterStats",
    "Evaluation",
    "Explanation",
    "FeedNotReady",
    "GatewayStats",
    "Limit",
    "LimitExplanation",
    "Outcome",
    "OutlayError",
    "Reservation",
    "ReservationClosed",
    "Rules",
    "Scope",
    "ScopeExplanation",
    "SpendWatcher",
    "TooManyReservations",
    "TopicNames",
    "TopicNotFound",
    "UsageEmitter",
    "UsageRecord",
    "Watermark",
    "Window",
    "WindowUsage",
    "evaluate",
]
