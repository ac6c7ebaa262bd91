"""Which alerts the demo is to receive, and whether it has. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from outlay.alert_config import ALERT_THRESHOLDS
from outlay.budget import Rules, amount_of
from outlay.decision import Decision
from outlay.demo.receiver import Arrival
from outlay.window import Window

Crossing = tuple[str, Decimal]
"""A window's name, and the threshold that was crossed in it."""


def crossings_in(decision: Decision) -> list[Crossing]:
    """The thresholds that a budget of one limit a window has crossed, by what it has used."""
    limits = {limit.window: limit for limit in Rules(decision.budget).limits}
    found = []
    for name, usage in sorted(decision.windows.items()):
        limit = limits.get(Window(name).kind)
        if limit is None:
            continue
        used = amount_of(usage.amounts, limit.kind)
        found += [(name, share) for share in ALERT_THRESHOLDS if used >= share * limit.limit]
    return found


@dataclass(frozen=True, slots=True)
class Alarms:
    """What one budget has crossed, and what arrived at the webhook."""

    scope: str
    crossed: Sequence[Crossing] = ()
    arrivals: Sequence[Arrival] = ()

    @property
    def ok(self) -> bool:
        """Whether each crossing has arrived exactly once, signed, and nothing else has."""
        return (
            bool(self.crossed)
            and self._counts == Counter(self.crossed)
            and all(each.verified and each.scope == self.scope for each in self.arrivals)
        )

    @property
    def all_arrived(self) -> bool:
        """Whether each crossing has arrived, once or more often."""
        return set(self.crossed) <= set(self._counts)

    @property
    def _counts(self) -> Counter[tuple[str, Decimal | None]]:
        return Counter((each.window, each.threshold) for each in self.arrivals)

    @property
    def said(self) -> str:
        """How many there were, and what is wrong."""
        counts = self._counts
        missing = [share for share in self.crossed if not counts[share]]
        again = [share for share, count in counts.items() if count > 1]
        unsigned = sum(not each.verified for each in self.arrivals)
        wrong = [
            f"{what} {found}"
            for what, found in (
                ("missing", ", ".join(f"{share} of {window}" for window, share in missing)),
                ("more than once", ", ".join(f"{share} of {window}" for window, share in again)),
                ("wrong signatures", unsigned or ""),
            )
            if found
        ]
        told = f"{len(self.arrivals)} of {len(self.crossed)} for {self.scope}"
        return "; ".join([told, *wrong])

    def report(self) -> dict[str, Any]:
        """For the report: shares are decimal strings."""
        return {
            "scope": self.scope,
            "crossed": [{"window": window, "threshold": str(s)} for window, s in self.crossed],
            "arrived": [
                {
                    "id": each.delivery_id,
                    "event": each.event,
                    "window": each.window,
                    "threshold": None if each.threshold is None else str(each.threshold),
                    "verified": each.verified,
                }
                for each in self.arrivals
            ],
        }
