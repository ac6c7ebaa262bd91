"""Fallbacks: what is recorded of a call that nobody has said the cost of."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from outlay.counting import QuietLog
from outlay.money import Money

Ending = Literal["completed", "failed", "cut off", "not run"]
"""How a call ended; `cut off`: its client left or it was cancelled, and how far it came is not
known."""

logger = logging.getLogger("outlay.integrations")


class Fallbacks:
    """What is recorded of a call that nobody has said the cost of, never without a word.

    Args:
        estimated: what was asked for it, as arguments of `Reservation.settle`.
        is_price: whether that is what it costs, so that there is nothing to say.
        cost_on_error: what a failed call has cost, in USD.
        log: where it is said.
    """

    def __init__(
        self, estimated: Mapping[str, Any], is_price: bool, cost_on_error: Money, log: QuietLog
    ) -> None:
        self.estimated = estimated
        self.is_price = is_price
        self.cost_on_error = cost_on_error
        self.log = log

    def used(self, ending: Ending) -> dict[str, Any]:
        """The arguments of `Reservation.settle` for such a call."""
        if ending == "failed":
            logger.info("a call failed before its cost was said: $%s counts", self.cost_on_error)
            return {"cost_usd": self.cost_on_error}
        used = {"cost_usd": 0} | {k: v for k, v in self.estimated.items() if v is not None}
        if not self.is_price or ending == "cut off":
            known = self.estimated.get("cost_usd") is not None
            self.log.warning(
                "a call was %s and nobody said its cost: $%s counts, %s",
                ending,
                used["cost_usd"],
                "its estimate" if known else "without any estimate",
            )
        return used
