"""Queries of the history: each is an object with its SQL, its parameters and its row.

All read the view `usage`, which shows every record once. Sums cannot overflow: those of
`Decimal(18, 9)` are `Decimal(38, 9)`, counts are added up in 128 bits. Days and months are
taken as numbers (20261121, 202611): ClickHouse's `Date` ends in 2149.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from outlay.budget import Amounts
from outlay.scope import Scope
from outlay.window import Window

Interval = Literal["day", "month"]
GroupBy = Literal["organization", "team", "user", "agent", "model"]

_MICROSECOND = timedelta(microseconds=1)

REPORT_ROWS_MAX = 100_000
"""The most rows that a report may have."""

YEAR_MIN, YEAR_MAX = 1900, 2299
"""What ClickHouse's `DateTime64` spans, in whole years."""

Row_co = TypeVar("Row_co", covariant=True)


class Query(Protocol[Row_co]):
    """A question to the history."""

    def to_sql(self) -> str:
        """The statement, with `{name:Type}` where the parameters go."""

    def parameters(self) -> dict[str, Any]:
        """The parameters that the statement names."""

    def row(self, values: Sequence[Any]) -> Row_co:
        """One row of the answer."""


# Reinterpreted, a decimal is the integer that it is made of: nano-dollars.
_AMOUNTS = """
    reinterpret(sum(cost_usd), 'Int128') AS cost_nano,
    sum(toInt128(executions)) AS executions,
    sum(toInt128(input_tokens)) AS input_tokens,
    sum(toInt128(output_tokens)) AS output_tokens,
    count() AS records"""

_COLUMNS: dict[GroupBy, str] = {
    "organization": "organization_id",
    "team": "team_id",
    "user": "user_id",
    "agent": "agent_id",
    "model": "model",
}


class SpendRow(NamedTuple):
    """What a group spent in a window; `group` is None for records that name no such id.

    `organization_id` is None where models are summed over all organizations.
    """

    window: str
    organization_id: str | None
    group: str | None
    amounts: Amounts
    records: int


@dataclass(frozen=True, slots=True)
class SpendReport:
    """Spend by day or month and group, of records from `start` up to and without `end`.

    Ids of teams, users and agents mean something only within their organization, so those
    groups are per organization. Models are summed over all, unless one is asked for.
    """

    start: datetime
    end: datetime
    interval: Interval = "day"
    group_by: GroupBy = "organization"
    organization_id: str | None = None

    def __post_init__(self) -> None:
        _check_range(self.start, self.end)

    def to_sql(self) -> str:
        """The statement; one row more than `REPORT_ROWS_MAX` says that there are too many."""
        where = "" if self.organization_id is None else _ONE_ORGANIZATION
        return f"""SELECT
    {self._window()} AS window,
    {self._organization()} AS organization,
    {_COLUMNS[self.group_by]} AS grouped,{_AMOUNTS}
FROM usage
WHERE {_IN_RANGE}{where}
GROUP BY window, organization, grouped
ORDER BY window, organization, grouped
LIMIT {REPORT_ROWS_MAX + 1}"""

    # What is the same in every row is said as a constant: grouping by one column alone takes
    # half the time.

    def _window(self) -> str:
        function = "toYYYYMMDD" if self.interval == "day" else "toYYYYMM"
        first, last = (
            f"{at.year}{at.month:02d}" + (f"{at.day:02d}" if self.interval == "day" else "")
            for at in (self.start.astimezone(UTC), (self.end - _MICROSECOND).astimezone(UTC))
        )
        return f"toUInt32({first})" if first == last else f"{function}(occurred_at)"

    def _organization(self) -> str:
        if self.organization_id is not None:
            return "{organization_id:String}"
        return "''" if self.group_by == "model" else "organization_id"

    def parameters(self) -> dict[str, Any]:
        """The range, and the organization where one is asked for."""
        named = _range_parameters(self.start, self.end)
        if self.organization_id is not None:
            named["organization_id"] = self.organization_id
        return named

    def row(self, values: Sequence[Any]) -> SpendRow:
        """One group in one window."""
        window, organization, group, *amounts, records = values
        return SpendRow(
            _window_name(window), organization or None, group or None, Amounts(*amounts), records
        )


@dataclass(frozen=True, slots=True)
class ScopeUsage:
    """What one scope used in one window."""

    scope: Scope
    window: Window

    def to_sql(self) -> str:
        """The statement."""
        where = "".join(f"\n  AND {name} = {{{name}:String}}" for name in self._ids())
        return f"SELECT{_AMOUNTS}\nFROM usage\nWHERE {_IN_RANGE}{where}"

    def _ids(self) -> dict[str, str]:
        names = ("organization_id", "team_id", "user_id", "agent_id")
        ids = {name: getattr(self.scope, name) for name in names}
        return {name: value for name, value in ids.items() if value is not None}

    def parameters(self) -> dict[str, Any]:
        """The window's range and the scope's ids."""
        return {**_range_parameters(self.window.start, self.window.end), **self._ids()}

    def row(self, values: Sequence[Any]) -> Amounts:
        """The sums; all zero where there is nothing."""
        return Amounts(*values[:4])


class HistoryTotal(NamedTuple):
    """How much the history holds; `ids` are the distinct ones and equal `records`."""

    records: int
    ids: int
    late: int
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class WholeHistory:
    """Everything that the history holds, or of one organization."""

    organization_id: str | None = None

    def to_sql(self) -> str:
        """The statement."""
        where = "" if self.organization_id is None else f"\nWHERE true{_ONE_ORGANIZATION}"
        return f"SELECT{_AMOUNTS},\n    uniqExact(id) AS ids,\n    countIf(late)\nFROM usage{where}"

    def parameters(self) -> dict[str, Any]:
        """The organization where one is asked for."""
        return {} if self.organization_id is None else {"organization_id": self.organization_id}

    def row(self, values: Sequence[Any]) -> HistoryTotal:
        """The one row."""
        return HistoryTotal(values[4], values[5], values[6], Amounts(*values[:4]))


_IN_RANGE = (
    "occurred_at >= {start:DateTime64(6, 'UTC')} AND occurred_at < {end:DateTime64(6, 'UTC')}"
)
_ONE_ORGANIZATION = "\n  AND organization_id = {organization_id:String}"


def _check_range(start: datetime, end: datetime) -> None:
    for at in (start, end):
        if at.utcoffset() is None:
            raise ValueError(f"a time needs a zone: {at.isoformat()}")
        if not YEAR_MIN <= at.year <= YEAR_MAX:
            raise ValueError(f"times are from {YEAR_MIN} to {YEAR_MAX}: {at.isoformat()}")
    if start >= end:
        raise ValueError("the range is empty: from must be before to")


def _range_parameters(start: datetime, end: datetime) -> dict[str, Any]:
    return {"start": _text(start), "end": _text(end)}


def _text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _window_name(number: int) -> str:
    text = str(number)
    return "-".join(part for part in (text[:4], text[4:6], text[6:]) if part)
