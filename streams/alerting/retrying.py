"""Retrying: what follows an attempt. Pure: no clock, no I/O.

The schedule is a time in the state and no sleeping coroutine, so that it survives a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

PAUSE_FIRST_MS = 5_000
"""The longest first pause after a failed attempt, in milliseconds; each next is longer."""

PAUSE_FACTOR = 3
PAUSE_SHARE_MIN = 0.5
"""With jitter a pause is from half of it to all of it."""

RETRY_AFTER_MS_MAX = 3_600_000
"""How long a receiver may have us wait, in milliseconds."""

Verdict = Literal["delivered", "retry", "failed", "gone"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt.

    Attributes:
        verdict: `gone` is a refusal for good, of everything that is sent there.
        reason: in a few words, without secrets and control characters; empty when delivered.
        code: the HTTP status or the SMTP reply; None: there was no answer.
        retry_after_ms: how long the receiver asks to wait.
        is_away: whether it looks as if nothing else gets through to there, either.
        left: addresses that are to be tried again, where not all are.
        refused: addresses that were refused for good.
    """

    verdict: Verdict
    reason: str = ""
    code: int | None = None
    retry_after_ms: int | None = None
    is_away: bool = False
    left: tuple[str, ...] | None = None
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """How long it is tried: attempts, the longest pause, and the age from which none follows."""

    attempts_max: int
    pause_ms_max: int
    age_ms_max: int


def next_attempt_ms(
    outcome: Outcome,
    attempt: int,
    created_ms: int,
    now_ms: int,
    limits: Limits,
    uniform: Callable[[float, float], float],
) -> int | None:
    """When it is tried again after the `attempt`th, from 1; None: it is not."""
    if outcome.verdict != "retry" or attempt >= limits.attempts_max:
        return None
    pause_ms = int(pause_ms_of(attempt, limits.pause_ms_max) * uniform(PAUSE_SHARE_MIN, 1.0))
    asked_ms = min(outcome.retry_after_ms or 0, RETRY_AFTER_MS_MAX)
    at_ms = now_ms + max(pause_ms, asked_ms)
    return None if at_ms - created_ms > limits.age_ms_max else at_ms


def pause_ms_of(attempt: int, pause_ms_max: int) -> int:
    """The longest pause after the `attempt`th attempt, from 1.

    >>> [pause_ms_of(attempt, 900_000) for attempt in (1, 2, 3, 9)]
    [5000, 15000, 45000, 900000]
    """
    grown = PAUSE_FIRST_MS
    for _ in range(attempt - 1):
        if grown >= pause_ms_max:
            break
        grown *= PAUSE_FACTOR
    return min(grown, pause_ms_max)


def retry_after_ms(value: str | None, now_ms: int) -> int | None:
    """What a `Retry-After` says, seconds or a date; None where it says nothing, within its bound.

    >>> retry_after_ms("120", 0), retry_after_ms("Thu, 01 Jan 1970 00:00:07 GMT", 0)
    (120000, 7000)
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        # Not more digits than the bound has: an int of thousands of them takes long to make.
        asked = int(text) * 1000 if len(text) <= 9 else RETRY_AFTER_MS_MAX
    else:
        try:
            at = parsedate_to_datetime(text)
            at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
            asked = int((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000) - now_ms
        except (ValueError, TypeError, IndexError, ArithmeticError):  # all of them it raises
            return None
    return min(max(asked, 0), RETRY_AFTER_MS_MAX)
