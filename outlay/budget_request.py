"""Budget request: what a request to change a budget leads to. Pure, and the one rule for it."""

from __future__ import annotations

from outlay.budget import Budget
from outlay.decision import BudgetRequest


def requested_budget(budget: Budget | None, version: int, request: BudgetRequest) -> Budget | None:
    """The budget that a scope has after a request; None: it has none any more.

    Args:
        budget: what the scope has now.
        version: that of the scope's last budget, also when it was taken away since.
        request: what is asked for.

    Raises:
        ValueError: it cannot have that; the text says why.
    """
    current = 0 if budget is None else version
    if request.expected_version not in (None, current):
        raise ValueError(f"the budget has version {current}, not {request.expected_version}")
    if request.action == "delete":
        if budget is None:
            raise ValueError("there is no budget to delete")
        return None
    base = budget if request.action == "patch" and budget is not None else Budget()
    return base.changed(request.changes)
