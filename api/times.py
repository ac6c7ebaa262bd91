"""Times in queries: a date, or a time with its zone."""

from __future__ import annotations

from datetime import UTC, date, datetime

from api.problems import ProblemError

TIME_LENGTH_MAX = 40
"""The longest time, in characters."""


def time_of(location: str, text: str) -> datetime:
    """The time that a parameter says; a date is its first moment in UTC.

    Raises:
        ProblemError: it says none, naming the parameter.
    """
    try:
        if len(text) == len("2026-11-21"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        at = datetime.fromisoformat(text)
    except ValueError:
        detail = "write a date, 2026-11-21, or a time with its zone, 2026-11-21T12:00:00Z"
        raise invalid(location, detail) from None
    if at.utcoffset() is None:
        raise invalid(location, "a time needs its zone, such as Z (a + in a URL is %2B)")
    return at


def invalid(location: str, message: str) -> ProblemError:
    """The problem that a parameter is not as it must be."""
    errors = [{"location": location, "message": message}]
    return ProblemError("invalid-request", f"{location}: {message}", errors=errors)
