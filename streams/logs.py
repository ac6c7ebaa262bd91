"""Log lines of the service's processes."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict

from outlay.apikey import without_keys


def _without_keys(logger: object, method: str, event: EventDict) -> EventDict:
    """A processor: whatever a client puts into a path or an id, no API key is written."""
    return {
        name: without_keys(value) if isinstance(value, str) else value
        for name, value in event.items()
    }


def configure_logging(level: str) -> None:
    """Log lines to standard error, from `level` on; those of the libraries from warnings on."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(
        stream=sys.stderr,
        level=max(number, logging.WARNING),
        format="%(asctime)s %(levelname)-8s %(name)s %(message)s",
    )
    structlog.configure(
        processors=[
            _without_keys,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
