"""Detection: what is to be found of a budget: its limits, and the thresholds of each. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from outlay.alert_config import DEFAULT_ALERTS, AlertConfig
from outlay.budget import Budget, LimitKind, Rules
from outlay.crossing import Rung, rungs_of
from outlay.window import WindowKind

REPEAT_MINUTES_MIN = 1
"""How often a crossing is repeated at most, in minutes, where there is no cooldown."""


class Detection(msgspec.Struct, frozen=True):
    """What of an alert configuration says what is found; nothing of it is secret."""

    thresholds: tuple[Decimal, ...]
    alert_once_per_threshold: bool
    include_forecast: bool
    cooldown_minutes: int

    @property
    def repeat_ms(self) -> int:
        """How long after it was told a crossing is repeated, in milliseconds."""
        return max(self.cooldown_minutes, REPEAT_MINUTES_MIN) * 60_000


def detection_of(config: AlertConfig) -> Detection:
    """What detection needs of a configuration."""
    return Detection(
        config.thresholds,
        config.alert_once_per_threshold,
        config.include_forecast,
        config.cooldown_minutes,
    )


DEFAULT_DETECTION = detection_of(DEFAULT_ALERTS)


class Ladder(NamedTuple):
    """A limit and its thresholds."""

    kind: LimitKind
    limit: int
    rungs: tuple[Rung, ...]


class Watch:
    """A budget and what is to be found of it, made ready for `look`."""

    __slots__ = ("budget", "day", "detection", "month")

    def __init__(self, budget: Budget, detection: Detection) -> None:
        self.budget = budget
        self.detection = detection
        limits, thresholds = Rules(budget).limits, detection.thresholds
        ladders = [
            (each.window, Ladder(each.kind, each.limit, rungs_of(each.limit, thresholds)))
            for each in limits
        ]
        self.day = tuple(ladder for window, ladder in ladders if window == "day")
        self.month = tuple(ladder for window, ladder in ladders if window == "month")

    def ladders(self, window: WindowKind) -> tuple[Ladder, ...]:
        """The limits of a kind of window."""
        return self.day if window == "day" else self.month
