"""Draft: a record in the making. Many are made, checked and filled in together.

What a check or a conversion costs is mostly its call, so it is asked about a column of many drafts
at once where that says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
import uuid_utils

from outlay.money import are_usd, as_usd
from outlay.usage import (
    NO_METADATA,
    SEQUENCE_MAX,
    ExecutionsUsed,
    Source,
    Time,
    TokensUsed,
    UsageRecord,
)

_Sequence = Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MAX)]


class Draft(  # type: ignore[misc]  # not frozen as a record is
    UsageRecord,
    frozen=False,
    kw_only=True,
    gc=False,
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """A record that may be changed, without id, time and source where none was given.

    None of its counts is negative, as only those of corrections may be. It is encoded as the
    record that it becomes.
    """

    id: str | None = None  # type: ignore[assignment]
    occurred_at: Time | None = None  # type: ignore[assignment]
    cost_usd: Any
    input_tokens: TokensUsed = 0
    output_tokens: TokensUsed = 0
    executions: ExecutionsUsed = 1
    source: Source | None = ""  # type: ignore[assignment]
    sequence: _Sequence = 0
    metadata: Any = NO_METADATA


_TAILS = tuple(f"{number:03x}" for number in range(16**3))


def to_drafts(fields: list[dict[str, Any]]) -> list[Draft]:
    """Drafts of these fields, of right types and within bounds.

    It looks at no text and no cost, as `invalid_reason` does, and is more strict than a decoder:
    what it refuses may still be a valid record, a correction for instance.

    Raises:
        msgspec.ValidationError: one of them is not so.
    """
    # A text that looks like a time is none, as to `UsageRecord.new`.
    drafts: list[Draft] = msgspec.convert(fields, list[Draft], builtin_types=(datetime,))
    return drafts


def new_ids(count: int) -> list[str]:
    """So many UUIDs of version 7. Those of a few thousand differ in their last digits only."""
    ids: list[str] = []
    while len(ids) < count:
        head = str(uuid_utils.uuid7())[:-3]
        ids += [head + tail for tail in _TAILS[: count - len(ids)]]
    return ids


def to_times(times_s: list[float]) -> list[datetime]:
    """Times of seconds since the epoch, in UTC, to the microsecond.

    Raises:
        msgspec.ValidationError: one is outside the calendar.
    """
    times: list[datetime] = msgspec.convert(times_s, list[datetime], strict=False)
    return times


def fill_costs(drafts: Sequence[Draft]) -> list[Draft]:
    """Write each one's cost as `as_usd` does, with its errors; returns those that are negative."""
    costs = [draft.cost_usd for draft in drafts]
    if are_usd(costs):
        return []
    for draft, cost in zip(drafts, costs, strict=True):
        draft.cost_usd = as_usd(cost)
    return [draft for draft in drafts if draft.cost_usd[0] == "-"]
