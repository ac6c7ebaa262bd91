"""Spend: one record that this process has emitted, and which decisions contain it. Pure."""

from __future__ import annotations

from datetime import date
from typing import Any, Self

from outlay.decision import Watermark
from outlay.money import to_nano
from outlay.scope import scope_keys
from outlay.standing import KnownBudget
from outlay.usage import EXECUTIONS_MAX, TOKENS_MAX
from outlay.window import day_ordinal, window_names

GONE_S = float("-inf")
"""Until when a record counts that will not arrive."""

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DAY_S = 86_400


class Spend:
    """What a record, or several that are held as one, adds to a day, and where it has arrived.

    `offset` is -1 before that is known. At `until_s` it is over in any case.
    """

    __slots__ = (
        "cost_nano",
        "day",
        "executions",
        "input_tokens",
        "keys",
        "offset",
        "output_tokens",
        "partition",
        "records",
        "until_s",
    )

    def __init__(
        self,
        keys: tuple[str, ...],
        day: int,
        cost_nano: int,
        executions: int,
        input_tokens: int,
        output_tokens: int,
    ) -> None:
        self.keys = keys
        self.day = day
        self.cost_nano = cost_nano
        self.executions = executions
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.records = 1
        self.partition = -1
        self.offset = -1
        self.until_s = float("inf")

    def contained(
        self, known: KnownBudget | None, watermark: Watermark | None, now_s: float
    ) -> tuple[bool, bool]:
        """Whether what is known of a scope contains it: in the day's total, and in the month's.

        The totals stage may have heard of one of them before the other.
        """
        offset = self.offset
        if now_s >= self.until_s:
            return True, True
        if offset < 0:
            return False, False
        partition = self.partition
        if watermark is not None and watermark.offsets.get(partition, -1) >= offset:
            return True, True
        if known is None:
            return False, False
        windows = known.decision.windows
        day_name, month_name = window_names(self.day)
        day, month = windows.get(day_name), windows.get(month_name)
        in_month = month is not None and month.offsets.get(partition, -1) >= offset
        if day is not None:
            return day.offsets.get(partition, -1) >= offset, in_month
        # A day that is over is told of no more, and nobody asks for it. One that is not is new.
        return in_month and self.day < day_ordinal(known.decision.published_at), in_month

    def copy(self) -> Self:
        """The same, of no record: to hold others with it."""
        made = type(self)(
            (), self.day, self.cost_nano, self.executions, self.input_tokens, self.output_tokens
        )
        made.records, made.partition, made.offset = self.records, self.partition, self.offset
        return made

    def absorb(self, other: Spend) -> None:
        """Hold another of the same partition and day with it: over when both are."""
        self.records += other.records
        self.offset = max(self.offset, other.offset)
        self.cost_nano += other.cost_nano
        self.executions += other.executions
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens


def spend_of(fields: dict[str, Any], at_s: float) -> Spend:
    """What a record of these fields adds to its scopes; what gives back counts for nothing.

    Raises any `Exception` where it is no valid record.
    """
    get = fields.get
    occurred_at = get("occurred_at")
    day = int(at_s // _DAY_S) + _EPOCH_DAY if occurred_at is None else day_ordinal(occurred_at)
    keys = scope_keys(fields["organization_id"], get("team_id"), get("user_id"), fields["agent_id"])
    cost_nano, executions = to_nano(fields["cost_usd"]), get("executions", 1)
    input_tokens, output_tokens = get("input_tokens", 0), get("output_tokens", 0)
    # An infinity would stay in the sums: taken away again it leaves no number.
    if not (type(executions) is type(input_tokens) is type(output_tokens) is int):
        raise TypeError("counts are whole numbers")
    if executions > EXECUTIONS_MAX or input_tokens > TOKENS_MAX or output_tokens > TOKENS_MAX:
        raise ValueError("a count above what a record may have")
    return Spend(
        keys,
        day,
        cost_nano if cost_nano > 0 else 0,
        executions if executions > 0 else 0,
        input_tokens if input_tokens > 0 else 0,
        output_tokens if output_tokens > 0 else 0,
    )
