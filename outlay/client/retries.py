"""Retries: which failures are worth another try, when, and how often at most. Pure.

All requests may arrive twice: they are reads, or writes under their `Idempotency-Key`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from outlay.client.calls import Answer, Ask, Call
from outlay.client.errors import ApiError, NoAnswer, Problem, UnreadableAnswer
from outlay.client.problems import TYPE_PREFIX, kind_of, problem_of

ATTEMPTS_MAX = 4
"""How often a request is sent at most."""

STREAM_ATTEMPTS_MAX = 10
"""How often a stream is opened in a row, at most, without an event of it."""

PAUSE_S = 0.2
"""How long the first pause is, at most, in seconds; each further one is twice as long."""

PAUSE_S_MAX = 5.0
"""How long these pauses get, in seconds."""

RETRY_AFTER_S_MAX = 20.0
"""Up to what an answer's `Retry-After` is waited for, in seconds."""

# Another try meets the same: the outcome will never be known, or the key is a wrong one.
_FINAL = frozenset({"usage-unknown", "too-many-attempts"})
_PASSING = frozenset({408, 429, 502, 503, 504})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and when a client tries again.

    A pause is between a half of what it may be and all of it, by `jitter`, so that clients that
    failed together do not come back together.

    Attributes:
        attempts_max: how often a request is sent; 1 is no retry.
        stream_attempts_max: how often a stream is opened in a row without an event of it.
        pause_s: how long the first pause is at most, in seconds; it doubles from there.
        pause_s_max: how long a pause gets, in seconds.
        retry_after_s_max: up to what `Retry-After` is waited for, in seconds; what is told to come
            back later than that fails at once.
        jitter: a random number from 0 up to 1.

    Raises:
        ValueError: no attempt at all, or a negative pause.
    """

    attempts_max: int = ATTEMPTS_MAX
    stream_attempts_max: int = STREAM_ATTEMPTS_MAX
    pause_s: float = PAUSE_S
    pause_s_max: float = PAUSE_S_MAX
    retry_after_s_max: float = RETRY_AFTER_S_MAX
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if self.attempts_max < 1 or self.stream_attempts_max < 1:
            raise ValueError("a request is sent at least once")
        if not (self.pause_s >= 0 and self.pause_s_max >= 0 and self.retry_after_s_max >= 0):
            raise ValueError("a pause is not negative")

    def pause_after(self, failures: int, error: ApiError) -> float | None:
        """How long to wait after so many failures in a row; None: not at all, it is too long."""
        doubled = self.pause_s * 2.0 ** min(failures - 1, 32)
        grown_s = min(doubled, self.pause_s_max) * (1 + self.jitter()) / 2
        wait_s = error.retry_after_s if isinstance(error, Problem) else None
        if wait_s is None:
            return grown_s
        return None if wait_s > self.retry_after_s_max else wait_s + grown_s


def is_worth_another(error: ApiError) -> bool:
    """Whether a request that failed so may have another end when it is sent again."""
    if not isinstance(error, Problem):
        return isinstance(error, NoAnswer)
    return error.status in _PASSING and error.type.removeprefix(TYPE_PREFIX) not in _FINAL


def conversation(
    call: Call[T], retries: Retries, clock: Callable[[], float]
) -> Generator[Call[T] | float, Answer | ApiError | None, T]:
    """All that is done for one call, without doing it: what it returns is the call's result.

    It yields the call where it is to be sent, and wants the answer, or the error that came instead;
    and a pause in seconds where it is to be waited, and wants nothing.

    Raises:
        ApiError: the last failure.
    """
    began_s = clock()
    for attempt in range(1, retries.attempts_max + 1):
        came = yield call
        assert came is not None, "a call that was sent has an answer, or an error"
        if isinstance(came, Answer):
            if is_read(call.ask, came):
                return read(call, came)
            error: ApiError = refusal(call, came)
        else:
            error = came
        pause_s = retries.pause_after(attempt, error)
        if (
            attempt == retries.attempts_max
            or not is_worth_another(error)
            or pause_s is None
            or clock() - began_s + pause_s > call.ask.patience_s
        ):
            raise error
        yield pause_s
    raise AssertionError("the last attempt returns or raises")


def is_read(ask: Ask[Any], answer: Answer) -> bool:
    """Whether an answer is one that the call reads."""
    return 200 <= answer.status < 300 or (
        bool(ask.read_kinds) and kind_of(answer) in ask.read_kinds
    )


def refusal(call: Call[Any], answer: Answer) -> ApiError:
    """The error that an answer is which the call does not read."""
    if answer.status >= 400:
        return problem_of(call, answer)
    text = f"the answer is {answer.status}; redirects are not followed, they could take the key"
    return UnreadableAnswer(text, status=answer.status, **call.names(answer))


def read(call: Call[T], answer: Answer) -> T:
    """What an answer says.

    Raises:
        UnreadableAnswer: it is not as the API's are.
    """
    try:
        return call.ask.read(answer)
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        text = f"the answer of status {answer.status} is not one of the API: {error}"
        raise UnreadableAnswer(text, status=answer.status, **call.names(answer)) from None
