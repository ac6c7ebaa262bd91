"""Budgets of trainings: exact sums, warnings at thresholds, and a loop that stops in time."""

from outlay.errors import BudgetExceededError
from outlay.training.enforcer import BudgetEnforcer, BudgetFigures, check_budget
from outlay.training.lines import BudgetStatus
from outlay.training.loop import TrainingBudget
from outlay.training.report import EndedBy, TrainingReport

__all__ = [
    "BudgetEnforcer",
    "BudgetExceededError",
    "BudgetFigures",
    "BudgetStatus",
    "EndedBy",
    "TrainingBudget",
    "TrainingReport",
    "check_budget",
]
