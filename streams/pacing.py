"""Pacing: when an owned partition flushes next. Pure: the clocks are the caller's.

Partials are flushed at the ticks of the wall clock, all partitions of all workers at the same ones.
So what they tell the totals comes in one burst, and the totals answer it after a short gathering:
a record waits for one interval on its way, not for one a stage.
"""

from __future__ import annotations

GATHER_SHARE = 0.06
"""For how much of an interval what belongs to one burst is gathered."""

REST_PER_FLUSH = 0.25
"""How long a flush is followed by none, in its own length: so flushes leave a fifth of the time to
all else, also when one takes longer than the interval."""

REST_INTERVALS_MAX = 10.0
"""After how many intervals a flush is due whatever the last one took, and behind a backlog: few and
large flushes cost less a record."""


def rest_s(interval_s: float, took_s: float) -> float:
    """How long to wait at least after a flush that took so long, in seconds."""
    return min(REST_PER_FLUSH * took_s, REST_INTERVALS_MAX * interval_s)


def until_tick_s(interval_s: float, took_s: float, now_s: float, is_behind: bool) -> float:
    """How long to wait for the next tick of the wall clock after that, in seconds."""
    least_s = REST_INTERVALS_MAX * interval_s if is_behind else rest_s(interval_s, took_s)
    ticks = (now_s + least_s) // interval_s + 1
    return max(ticks * interval_s - now_s, 0.001)


def gather_s(interval_s: float, took_s: float) -> float:
    """How long to wait after something has arrived, in seconds."""
    return max(GATHER_SHARE * interval_s, rest_s(interval_s, took_s))
