"""Detection: what is to be found of a budget: its limits, and the thresholds of each. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from outlay.alert_config import DEFAULT_ALERTS, AlertConfig, alert_thresholds
from outlay.budget import Budget, LimitKind, limits_of
from outlay.crossing import Rung, rungs_of
from outlay.window import WindowKind

REPEAT_MINUTES_MIN = 1
"""How often a crossing is repeated at most, in minutes, where there is no cooldown."""


class Detection(msgspec.Struct, frozen=True):
    """What of an alert configuration says what is found; nothing of it is secret.

    Raises:
        ValueError: thresholds that no configuration has.
    """

    thresholds: tuple[Decimal, ...]
    alert_once_per_threshold: bool
    include_forecast: bool
    cooldown_minutes: int

    def __post_init__(self) -> None:
        # It also comes from a topic: a look must not fail by it, and ids are made of the texts.
        msgspec.structs.force_setattr(self, "thresholds", alert_thresholds(self.thresholds))

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
        ladders = [
            (window, Ladder(kind, limit, rungs_of(limit, detection.thresholds)))
            for window, kind, limit in limits_of(budget)
        ]
        self.day = tuple(ladder for window, ladder in ladders if window == "day")
        self.month = tuple(ladder for window, ladder in ladders if window == "month")

    def ladders(self, window: WindowKind) -> tuple[Ladder, ...]:
        """The limits of a kind of window."""
        return self.day if window == "day" else self.month
