"""Parameters of the history's logs: whose entries, of which scope, and from when to when."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Query

from api.callers import Caller
from api.paging import position_of
from api.times import TIME_LENGTH_MAX, invalid, time_of
from outlay.scope import ID_LENGTH_MAX, Scope
from streams.clickhouse_log import Place, check_time

SCOPE_LENGTH_MAX = 10_240
"""The longest key of a scope asked for, in characters: three ids, each of them percent-encoded."""

_TIME = "A date, or a time with its zone; UTC."

From = Annotated[str | None, Query(alias="from", max_length=TIME_LENGTH_MAX, description=_TIME)]
To = Annotated[str | None, Query(max_length=TIME_LENGTH_MAX, description=_TIME)]
Organization = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=ID_LENGTH_MAX,
        description="Of one organization alone; a key of one organization sees no other.",
    ),
]
ScopeKey = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=SCOPE_LENGTH_MAX,
        description="Of one budget alone, by its scope's key: `organization:acme/team:search`.",
    ),
]


def whose(caller: Caller, organization_id: str | None, scope: str | None, path: str) -> str | None:
    """The organization whose entries are asked for: the one named, or the caller's own; or all.

    Raises:
        ProblemError: it, or the scope's, is not the caller's; or the scope is none.
    """
    if organization_id is None:
        organization_id = caller.organization_id
    else:
        caller.check(organization_id, path)
    if scope is not None:
        caller.check(_scope(scope).organization_id, path)
    return organization_id


def _scope(key: str) -> Scope:
    try:
        return Scope.parse(key)
    except ValueError as error:
        raise invalid("query.scope", str(error)) from None


def time_range(from_: str | None, to: str | None) -> tuple[datetime | None, datetime | None]:
    """The times from which on and up to which entries are asked for.

    Raises:
        ProblemError: they are none, or nothing is between them.
    """
    start, end = _bound("query.from", from_), _bound("query.to", to)
    if start is not None and end is not None and start >= end:
        raise invalid("query.from", "the range is empty: from must be before to")
    return start, end


def _bound(location: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    at = time_of(location, text)
    try:
        check_time(at)
    except ValueError as error:
        raise invalid(location, str(error)) from None
    return at


def place_of(collection: str, cursor: str | None) -> Place | None:
    """The place that a page begins behind; None: it is the first.

    Raises:
        ProblemError: the cursor is none of the collection.
    """
    if cursor is None:
        return None
    try:
        return Place.parse(position_of(collection, cursor))
    except ValueError as error:
        raise invalid("query.cursor", str(error)) from None
