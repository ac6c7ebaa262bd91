"""Log lines of the API: those of a request carry its id, and none is more than one line."""

from __future__ import annotations

import structlog
from structlog.contextvars import merge_contextvars
from structlog.typing import EventDict

from streams import logs


def one_line(logger: object, method: str, event: EventDict) -> EventDict:
    """A processor: what a terminal or a reader of lines would act on is written as its code."""
    return {
        name: _escaped(value) if isinstance(value, str) and not value.isprintable() else value
        for name, value in event.items()
    }


def _escaped(text: str) -> str:
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def configure_logging(level: str) -> None:
    """Log lines to standard error, from `level` on."""
    logs.configure_logging(level)
    others = structlog.get_config()["processors"]
    structlog.configure(processors=[merge_contextvars, one_line, *others])
