"""A model of what is to be told of one scope's limits, written from the rule and with fractions.

No code of the product takes part. It is told at each look what is used, and what the limits and
the configuration are, and says which alerts are to follow, in their order.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import NamedTuple

HYSTERESIS = Fraction("0.95")


class Expected(NamedTuple):
    """An alert by what it says."""

    what: str
    window: str
    kind: str
    threshold: Fraction | None
    episode: int
    repeat: int
    step: tuple[Fraction, ...]


@dataclass
class Config:
    """What of a configuration detection heeds."""

    thresholds: tuple[Fraction, ...]
    once: bool = True
    forecast: bool = True
    cooldown: timedelta = timedelta(minutes=15)


@dataclass
class Limited:
    """What is known of one limit in one window."""

    above: dict[Fraction, int] = field(default_factory=dict)
    """Crossed thresholds, and how often each was repeated."""
    episodes: dict[Fraction, int] = field(default_factory=dict)
    """Of each that was crossed, the present or the next one."""
    dropped: int = 0
    """The same for all others: past those of thresholds that a configuration dropped."""
    told_at: datetime | None = None
    forecast: bool = False
    forecasts: int = 0


class CrossingModel:
    """What was told of one scope, by window and kind of limit."""

    def __init__(self) -> None:
        self.limited: dict[tuple[str, str], Limited] = defaultdict(Limited)

    def look(
        self,
        window: str,
        kind: str,
        used: int,
        limit: Fraction | None,
        config: Config,
        now: datetime,
    ) -> list[Expected]:
        """What is to be told now; the window has begun."""
        known = self.limited[window, kind]
        dropped = known.dropped
        told: list[Expected] = []

        def tell(what: str, threshold: Fraction | None, episode: int, repeat: int, step: object):  # type: ignore[no-untyped-def]
            told.append(Expected(what, window, kind, threshold, episode, repeat, tuple(step)))  # type: ignore[call-overload]

        if limit is None:
            fallen = sorted(known.above)
        else:
            for threshold in [t for t in known.episodes if t not in config.thresholds]:
                crossed = known.above.pop(threshold, None) is not None
                episode = known.episodes.pop(threshold) + crossed  # forgotten, without a word
                known.dropped = max(known.dropped, episode)
            fallen = [
                t
                for t in sorted(known.above)
                if (used <= 0 if limit == 0 else used < HYSTERESIS * t * limit)
            ]
        for threshold in fallen:
            del known.above[threshold]
            known.episodes[threshold] += 1
        if fallen:
            tell("recovered", fallen[0], known.episodes[fallen[0]], 0, fallen)
        if limit is None:
            self._recover_forecast(known)
            return told
        risen = [
            t for t in config.thresholds if t not in known.above and used > 0 and used >= t * limit
        ]
        for threshold in risen:
            known.above[threshold] = 0
            known.episodes.setdefault(threshold, dropped)
            known.told_at = now
            tell("crossed", threshold, known.episodes[threshold], 0, risen)
        start, end = edges(window)
        current = start <= now < end
        if current and not risen and not config.once and known.told_at is not None:
            pause = max(config.cooldown, timedelta(minutes=1))
            at_or_above = [t for t in known.above if used > 0 and used >= t * limit]
            if at_or_above and now - known.told_at >= pause:
                highest = max(at_or_above)
                known.above[highest] += 1
                known.told_at = now
                repeat = known.above[highest]
                tell("crossed", highest, known.episodes[highest], repeat, [highest])
        elapsed = Fraction(int((now - start).total_seconds()))
        whole = Fraction(int((end - start).total_seconds()))
        if current and elapsed * 8 >= whole and limit > 0:
            projected = used * whole / elapsed
            if known.forecast and projected <= HYSTERESIS * limit:
                self._recover_forecast(known)
            elif not known.forecast and config.forecast and used < limit < projected:
                known.forecast = True
                tell("forecast", None, known.forecasts, 0, [])
        return told

    def _recover_forecast(self, known: Limited) -> None:
        if known.forecast:
            known.forecast = False
            known.forecasts += 1


def edges(window: str) -> tuple[datetime, datetime]:
    """The start and the end of a window."""
    if len(window) > 7:
        start = datetime.strptime(window, "%Y-%m-%d").replace(tzinfo=UTC)
        return start, start + timedelta(days=1)
    start = datetime.strptime(window, "%Y-%m").replace(tzinfo=UTC)
    return start, (start + timedelta(days=32)).replace(day=1)
