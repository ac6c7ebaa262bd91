"""Logs in the history: what happened, the newest first, page by page. What their queries share.

A log is asked for from a time up to and without another, and behind the place of the last entry of
the page before: entries that came in meanwhile shift nothing.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, NamedTuple

from streams.clickhouse_queries import YEAR_MAX, YEAR_MIN
from streams.history_rows import OCCURRED_AT_MAX, OCCURRED_AT_MIN

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

MS_MIN = (OCCURRED_AT_MIN - EPOCH) // MILLISECOND
MS_MAX = (OCCURRED_AT_MAX - EPOCH) // MILLISECOND
"""What ClickHouse's times span, in milliseconds since 1970."""

_split = re.compile(r"(-?[0-9]{1,14})\.(.+)", re.DOTALL).fullmatch


def check_time(at: datetime) -> None:
    """See that a log can be asked for a time, which has a zone.

    Raises:
        ValueError: ClickHouse cannot hold it.
    """
    if not YEAR_MIN <= at.year <= YEAR_MAX:
        raise ValueError(f"times are from {YEAR_MIN} to {YEAR_MAX}: {at.isoformat()}")


def ms_from(at: datetime) -> int:
    """The first millisecond that is not before a time, as far as ClickHouse has it."""
    return -((EPOCH - min(max(at, OCCURRED_AT_MIN), OCCURRED_AT_MAX)) // MILLISECOND)


def time_at(at_ms: int) -> datetime:
    """The time so many milliseconds after 1970."""
    return EPOCH + at_ms * MILLISECOND


class Place(NamedTuple):
    """Where an entry stands among all: its time in milliseconds, and what else tells it apart."""

    at_ms: int
    name: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """The place in a text like `1795262400250.alt_f9cd…`.

        Raises:
            ValueError: it is none, or none that ClickHouse can hold.
        """
        found = _split(text)
        if found is None or not MS_MIN <= int(found[1]) <= MS_MAX:
            raise ValueError(f"not a place in a log: {text[:80]!r}")
        return cls(int(found[1]), found[2])

    def __str__(self) -> str:
        return f"{self.at_ms}.{self.name}"


class LogQuery:
    """A question to a log; a kind of it names its columns, its view, its order and conditions."""

    __slots__ = ()

    selected: ClassVar[str]
    view: ClassVar[str]
    order: ClassVar[str]
    conditions: ClassVar[dict[str, str]]
    """By the parameter that each needs."""

    def to_sql(self) -> str:
        """The statement."""
        known = self.parameters()
        asked = [text for name, text in self.conditions.items() if name in known]
        where = "".join(f"\n  AND {condition}" for condition in asked)
        return f"""SELECT
    {self.selected}
FROM {self.view}
WHERE true{where}
ORDER BY {self.order}
LIMIT {{limit:UInt32}}"""

    def parameters(self) -> dict[str, Any]:
        """Those of what is asked for."""
        return {name: value for name, value in self.given().items() if value is not None}

    @abstractmethod
    def given(self) -> dict[str, Any]:
        """All parameters; None where it was not asked for."""
