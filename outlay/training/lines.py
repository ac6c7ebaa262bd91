"""Lines: the amounts at which a training's budget changes its status, and the log of crossings."""

from __future__ import annotations

import logging
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from outlay.training.exact import percentage, plain, times

logger = logging.getLogger("outlay.training")

_ONE = Decimal(1)


class BudgetStatus(StrEnum):
    """How a training's budget stands: at or above a warning threshold, or above the limit."""

    OK = "ok"
    WARNING_75 = "warning_75"
    WARNING_90 = "warning_90"
    EXCEEDED = "exceeded"


class Line(NamedTuple):
    """The status that begins at a share of the limit (`EXCEEDED`: above it), and where that is."""

    status: BudgetStatus
    threshold: Decimal
    at_usd: Decimal

    def is_crossed(self, cost_usd: Decimal) -> bool:
        """Whether a cost is past it."""
        if self.status is BudgetStatus.EXCEEDED:
            return cost_usd > self.at_usd
        return cost_usd >= self.at_usd


class Lines:
    """All lines of a limit, from the lowest; a limit of zero has only the limit itself."""

    def __init__(self, limit_usd: Decimal, threshold_75: Decimal, threshold_90: Decimal) -> None:
        self._limit_usd = limit_usd
        limit = Line(BudgetStatus.EXCEEDED, _ONE, limit_usd)
        warnings = (
            Line(BudgetStatus.WARNING_75, threshold_75, times(limit_usd, threshold_75)),
            Line(BudgetStatus.WARNING_90, threshold_90, times(limit_usd, threshold_90)),
        )
        self._lines = (*warnings, limit) if limit_usd else (limit,)

    def status(self, cost_usd: Decimal) -> BudgetStatus:
        """The status with a cost: that of the highest line that it is past."""
        status = BudgetStatus.OK
        for line in self._lines:
            if line.is_crossed(cost_usd):
                status = line.status
        return status

    def log_crossed(self, before_usd: Decimal, after_usd: Decimal) -> None:
        """Log one event for each line between two costs, from the lowest; none on the way down."""
        for line in self._lines:
            if line.is_crossed(after_usd) and not line.is_crossed(before_usd):
                self._log(line, after_usd)

    def _log(self, line: Line, cost_usd: Decimal) -> None:
        exceeded = line.status is BudgetStatus.EXCEEDED
        logger.log(
            logging.ERROR if exceeded else logging.WARNING,
            "training budget %s: $%s spent of $%s",
            "exceeded" if exceeded else f"at {percentage(line.threshold, _ONE):g} % or above",
            plain(cost_usd),
            plain(self._limit_usd),
            extra={
                "event": "budget_threshold_crossed",
                "status": line.status.value,
                "threshold": plain(line.threshold),
                "current_cost_usd": plain(cost_usd),
                "max_budget_usd": plain(self._limit_usd),
                "utilization_percentage": percentage(cost_usd, self._limit_usd),
            },
        )
