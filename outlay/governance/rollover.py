"""Rollover: what a period has left unused of a limit, added to that limit in the next."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import floor

from outlay.budget import Amounts
from outlay.governance.periods import Period


@dataclass(frozen=True, slots=True)
class LastPeriod:
    """What the period before the current one has used; of which length it was."""

    period: Period
    used: Amounts


def carried(limit: int, used: int, share_max: Decimal) -> int:
    """What is added to a limit, in its own unit, after a period that has used this much.

    It is the unused part of the limit itself, up to a share of it, rounded down. What had been
    added to the last period's limit ends with that period, so that amounts never build up.
    """
    return min(floor(limit * Fraction(share_max)), max(limit - used, 0))
