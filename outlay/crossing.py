"""Crossing: which thresholds of one limit the usage has crossed, and which are armed again. Pure.

A threshold is crossed at its share of the limit, and armed again below 0.95 of that, so that usage
which moves up and down around it is told once. Everything is compared in integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import msgspec

REARM_SHARE = Fraction(19, 20)
"""Below which share of what crosses a threshold it is armed again."""

RUNGS_CACHE_MAX = 4_096
"""How many limits' thresholds are kept ready: fleets have equal budgets by the thousand."""


class Rung(NamedTuple):
    """A threshold of a limit, in the unit of its amount.

    It is crossed from `at` on, and armed again below `rearm_below`.
    """

    threshold: Decimal
    at: int
    rearm_below: int


def rungs_of(limit: int, thresholds: Iterable[Decimal]) -> tuple[Rung, ...]:
    """The thresholds of a limit; one of zero is crossed by whatever is used at all.

    >>> rungs_of(1_000, [Decimal("0.75")])
    (Rung(threshold=Decimal('0.75'), at=750, rearm_below=713),)
    """
    return _rungs(limit, tuple(thresholds))


@lru_cache(maxsize=RUNGS_CACHE_MAX)
def _rungs(limit: int, thresholds: tuple[Decimal, ...]) -> tuple[Rung, ...]:
    return tuple(
        Rung(threshold, max(_share(limit, *at), 1), max(_share(limit, *rearm), 1))
        for threshold, at, rearm in _ratios(thresholds)
    )


def _share(limit: int, part: int, whole: int) -> int:
    """The least whole amount that is not below."""
    return -(-limit * part // whole)


_Ratio = tuple[int, int]


@lru_cache(maxsize=RUNGS_CACHE_MAX)
def _ratios(thresholds: tuple[Decimal, ...]) -> tuple[tuple[Decimal, _Ratio, _Ratio], ...]:
    """Of each threshold, the shares of a limit that cross it, and below which it is armed again."""
    return tuple((t, t.as_integer_ratio(), _rearm(t)) for t in thresholds)


def _rearm(threshold: Decimal) -> _Ratio:
    return (REARM_SHARE * Fraction(threshold)).as_integer_ratio()


class Crossed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A threshold that is crossed: for which time in its window, and how often it was repeated."""

    episode: int
    repeat: int = 0


class Marks(msgspec.Struct, frozen=True, omit_defaults=True):
    """What has been told of one limit in one window.

    Attributes:
        crossed: the thresholds that the usage has crossed, and has not fallen from since.
        armed: of those that it has fallen from, the episode of the next crossing.
        episode: the same for all others; it counts on past those that a configuration dropped.
        recoveries: how often a recovery was told.
        told_at_ms: when a crossing was told the last time, in milliseconds since the epoch.
        is_forecast: whether it was told that the limit will be exceeded.
        forecasts: the episode of that, or of the next time.
    """

    crossed: dict[Decimal, Crossed] = {}
    armed: dict[Decimal, int] = {}
    episode: int = 0
    recoveries: int = 0
    told_at_ms: int = 0
    is_forecast: bool = False
    forecasts: int = 0


NO_MARKS = Marks()


class Step(NamedTuple):
    """What a look at the usage has found: the thresholds fallen from and risen to, ascending."""

    marks: Marks
    fallen: tuple[Decimal, ...]
    risen: tuple[Decimal, ...]


def step(marks: Marks, rungs: Sequence[Rung], used: int) -> Step:
    """Compare what is used with the thresholds; those that there are no more are forgotten."""
    if not (marks.crossed or marks.armed) and (not rungs or used < rungs[0].at):
        return Step(marks, (), ())  # most of the time, and of the budgets
    crossed: dict[Decimal, Crossed] = {}
    armed: dict[Decimal, int] = {}
    fallen, risen = [], []
    for threshold, at, rearm_below in rungs:
        held = marks.crossed.get(threshold)
        if held is None:
            episode = marks.armed.get(threshold, marks.episode)
            if used >= at:
                crossed[threshold] = Crossed(episode)
                risen.append(threshold)
            elif threshold in marks.armed:
                armed[threshold] = episode
        elif used < rearm_below:
            armed[threshold] = held.episode + 1
            fallen.append(threshold)
        else:
            crossed[threshold] = held
    left = _next_episodes(marks, {rung.threshold for rung in rungs})
    after = msgspec.structs.replace(
        marks,
        crossed=crossed,
        armed=armed,
        episode=max(left, default=marks.episode),
        recoveries=marks.recoveries + bool(fallen),
    )
    return Step(after, tuple(fallen), tuple(risen))


def without_limit(marks: Marks) -> Step:
    """What the end of a limit leaves: all that was crossed is armed again."""
    fallen = tuple(sorted(marks.crossed))
    armed = {threshold: held.episode + 1 for threshold, held in marks.crossed.items()}
    after = msgspec.structs.replace(
        marks,
        crossed={},
        armed=marks.armed | armed,
        recoveries=marks.recoveries + bool(fallen),
    )
    return Step(after, fallen, ())


def _next_episodes(marks: Marks, kept: set[Decimal]) -> list[int]:
    """The next episodes of thresholds that are dropped, and that of those never seen."""
    crossed = [held.episode + 1 for t, held in marks.crossed.items() if t not in kept]
    return [marks.episode, *crossed, *(e for t, e in marks.armed.items() if t not in kept)]


def repeated(marks: Marks, rungs: Sequence[Rung], used: int) -> tuple[Marks, Decimal | None]:
    """Repeat the highest crossed threshold that the usage is at or above, if there is one."""
    for threshold, at, _ in reversed(rungs):
        held = marks.crossed.get(threshold)
        if held is not None and used >= at:
            again = Crossed(held.episode, held.repeat + 1)
            changes = marks.crossed | {threshold: again}
            return msgspec.structs.replace(marks, crossed=changes), threshold
    return marks, None


def crossed_from(marks: Marks, rungs: Sequence[Rung]) -> int:
    """The least amount that is at or above a crossed threshold; usage may be just below it."""
    return min((at for threshold, at, _ in rungs if threshold in marks.crossed), default=NEVER)


def quiet_range(marks: Marks, rungs: Sequence[Rung]) -> tuple[int, int]:
    """The least amount, and the one above the greatest, between which nothing changes."""
    low, high = -NEVER, NEVER
    for threshold, at, rearm_below in rungs:
        if threshold in marks.crossed:
            low = max(low, rearm_below)
        else:
            high = min(high, at)
    return low, high


NEVER = 1 << 256
"""More than any amount."""
