"""Decision: the published state of a budget, and what else travels on the decisions topic.

The topic is compacted and keyed; a reader tells its messages apart by their keys: a scope's key
holds a `Decision` (or a tombstone, when the budget was deleted), `outcome:` and a scope's key the
last `Outcome` for it, and `watermark` the partition's `Watermark`. All are JSON.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from outlay.budget import NOTHING, Amounts, Budget, State
from outlay.money import to_usd
from outlay.window import window_names

WATERMARK_KEY = b"watermark"
OUTCOME_PREFIX = b"outcome:"

REQUEST_ID_LENGTH_MAX = 128
REQUESTED_BY_LENGTH_MAX = 256

RequestAction = Literal["put", "patch", "delete", "put_alerts", "delete_alerts"]
"""What a budget request may ask for."""

RequestId = Annotated[str, msgspec.Meta(min_length=1, max_length=REQUEST_ID_LENGTH_MAX)]


class WindowUsage(msgspec.Struct, frozen=True):
    """What a scope used in one window, and which records that contains.

    `offsets` maps each partition of the usage topic to the offset up to which it is counted.
    """

    cost_usd: str
    executions: int
    input_tokens: int
    output_tokens: int
    offsets: dict[int, int]

    @property
    def amounts(self) -> Amounts:
        return Amounts(
            _total_nano(self.cost_usd), self.executions, self.input_tokens, self.output_tokens
        )


class Decision(msgspec.Struct, frozen=True):
    """The state of a budget when it was published, with what a reader needs to decide by itself.

    `windows` holds the current day and month, the next ones if usage of them was seen, and for a
    few minutes the last ones. A reader picks the window by its own clock, so that an old decision
    never blocks a new day. `request_id` is that of the last change of the budget.
    """

    scope: str
    version: int
    state: State
    budget: Budget
    windows: dict[str, WindowUsage]
    request_id: str
    published_at: datetime

    def used(self, day: int) -> tuple[Amounts, Amounts]:
        """What is used of the day and of the month that a day ordinal falls in."""
        day_name, month_name = window_names(day)
        day_usage, month_usage = self.windows.get(day_name), self.windows.get(month_name)
        return (
            NOTHING if day_usage is None else day_usage.amounts,
            NOTHING if month_usage is None else month_usage.amounts,
        )


class Watermark(msgspec.Struct, frozen=True):
    """Up to which offset of each usage partition the decisions of this partition reach."""

    offsets: dict[int, int]
    published_at: datetime


class BudgetRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to change the budget of a scope, keyed by the scope on the budgets topic.

    `patch` changes the fields given (a limit of null is taken away) and makes a budget where there
    was none, `put` sets the whole budget, `delete` takes it away, and its alert configuration with
    it. `put_alerts` sets the whole of that, `delete_alerts` takes it away; both leave the budget as
    it is, with its next version. With `expected_version` the request is refused unless the budget
    has that version (0: there is none).
    """

    request_id: RequestId
    scope: str
    action: RequestAction
    changes: dict[str, Any] = {}
    expected_version: Annotated[int, msgspec.Meta(ge=0)] | None = None
    requested_by: Annotated[str, msgspec.Meta(max_length=REQUESTED_BY_LENGTH_MAX)] = ""

    def __repr__(self) -> str:
        """Without the changes: an alert configuration's must not be seen in a log."""
        return (
            f"BudgetRequest(request_id={self.request_id!r}, scope={self.scope!r},"
            f" action={self.action!r}, changes of {sorted(self.changes)},"
            f" expected_version={self.expected_version}, requested_by={self.requested_by!r})"
        )


class Outcome(msgspec.Struct, frozen=True):
    """What became of a budget request: the version that it led to, or why it was refused.

    `version` is the budget's after the request, 0 when there is none.
    """

    request_id: str
    scope: str
    accepted: bool
    version: int
    reason: str
    published_at: datetime


def _total_nano(total_usd: str) -> int:
    """The nano-dollars of a published total; unlike a record's cost it has no upper bound."""
    sign, digits, exponent = Decimal(total_usd).as_tuple()
    nano: int = int("".join(map(str, digits))) * 10 ** (9 + int(exponent))
    return -nano if sign else nano


def window_usage(amounts: Amounts, offsets: dict[int, int]) -> WindowUsage:
    """What is published of a total."""
    return WindowUsage(
        to_usd(amounts.cost_nano),
        amounts.executions,
        amounts.input_tokens,
        amounts.output_tokens,
        offsets,
    )


encode = msgspec.json.Encoder().encode
decode_decision = msgspec.json.Decoder(Decision).decode
decode_watermark = msgspec.json.Decoder(Watermark).decode
decode_outcome = msgspec.json.Decoder(Outcome).decode
decode_request = msgspec.json.Decoder(BudgetRequest).decode
