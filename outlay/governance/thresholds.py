"""Thresholds: the used fractions of a limit at which something changes."""

from __future__ import annotations

from itertools import pairwise

from outlay.budget import threshold

ALERT_THRESHOLDS: tuple[float, ...] = (0.50, 0.75, 0.90, 1.00)
"""The fractions of a budget at which alerts are sent, unless others are given."""

ALERT_THRESHOLDS_MAX = 100
"""How many thresholds a configuration has at most."""


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
