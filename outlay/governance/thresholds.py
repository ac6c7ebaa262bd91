"""Thresholds: the used fractions of a limit at which something changes."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

from outlay.governance.amounts import exact

ALERT_THRESHOLDS: tuple[float, ...] = (0.50, 0.75, 0.90, 1.00)
"""The fractions of a budget at which alerts are sent, unless others are given."""

ALERT_THRESHOLDS_MAX = 100
"""How many thresholds a configuration has at most."""

THRESHOLD_DECIMALS_MAX = 6
"""How many decimals a threshold has at most, as in `outlay.Budget`."""


def threshold(name: str, value: object) -> Decimal:
    """A fraction of a limit, in (0, 1].

    Raises:
        ValueError: out of range, or of more than six decimals.
    """
    share = exact(name, value)
    if not 0 < share <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1")
    if share != round(share, THRESHOLD_DECIMALS_MAX):
        raise ValueError(f"{name} must have at most {THRESHOLD_DECIMALS_MAX} decimals")
    return share


def ascending(name: str, values: object) -> list[float]:
    """A copy of a list of thresholds, each above the one before.

    Raises:
        ValueError: one is out of (0, 1] or out of order, or there are too many.
    """
    if not isinstance(values, list | tuple):
        raise ValueError(f"{name} must be a list of thresholds, not {values!r}")
    if len(values) > ALERT_THRESHOLDS_MAX:
        raise ValueError(f"{name} must be at most {ALERT_THRESHOLDS_MAX}")
    shares = [threshold(name, value) for value in values]
    if any(share >= after for share, after in pairwise(shares)):
        raise ValueError(f"{name} must ascend, each above the one before")
    return list(values)
