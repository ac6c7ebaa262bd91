"""The messages between the stages, audit records and dead letters: what an operator finds.

The messages that agents, gateways and the API write and read are the library's (`outlay.usage`,
`outlay.decision`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from msgspec.structs import astuple

from outlay.alert import AlertEvent
from outlay.alert_config import AlertConfig
from outlay.budget import Budget
from outlay.decision import RequestAction
from outlay.detection import Detection


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The entries of one window, a list of each of their numbers, as long as the scopes are many.

    An entry is the cumulative amounts of one (scope, window) over one usage partition, up to
    `offset`.
    """

    offset: list[int]
    cost_nano: list[int]
    executions: list[int]
    input_tokens: list[int]
    output_tokens: list[int]


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The entries of some scopes in some windows of a month, by window, in the order of `scopes`.

    Raises:
        ValueError: a list is not as long as `scopes`.
    """

    scopes: list[str] = []
    windows: dict[str, Columns] = {}

    def __post_init__(self) -> None:
        count = len(self.scopes)
        for window, columns in self.windows.items():
            if any(len(column) != count for column in astuple(columns)):
                raise ValueError(f"{window} has not a number of each kind for each scope")


NOTHING_TOLD = Block()
"""The entries of a message that has none: they are left out."""


class AlertDefaults(msgspec.Struct, frozen=True):
    """What of an organization's alert configuration holds for its budgets without an own one.

    `version` is that of the change that led to it, and `day` the ordinal of that one's day.
    `detection` is null where the organization has none any more. Nothing of it is secret.
    """

    version: int
    day: int
    detection: Detection | None


class PartialsMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a usage partition has for one totals partition.

    `progress` is the offset up to which everything has been told that is wanted, None on all but
    the last part of a flush; -1 where the partition is empty yet. `wants` is the offset of the last
    budget request of the totals partition whose wants it has taken over by then, -1 when there is
    none. `floor_day` is the day ordinal of the newest message of the usage partition, 0 when it has
    seen none.

    What is `asked` for is told because it is wanted, not because it has changed: the agents had
    used it before.

    On the same way the owner of an organization's scope tells all totals partitions the defaults
    for its alerts: a message of its own, with no entries, and with the scope's key.
    """

    partition: int
    floor_day: int
    progress: int | None
    entries: Block = NOTHING_TOLD
    alert_defaults: dict[str, AlertDefaults] = {}
    wants: int = -1
    asked: bool = False


class Want(msgspec.Struct, frozen=True):
    """That an agent's entries are wanted by the totals, or not any more.

    `offset` is that of the budget request that made its budget, or took it away.
    """

    scope: str
    offset: int
    wanted: bool


class WantsMessage(msgspec.Struct, frozen=True):
    """What a totals partition wants of all usage partitions, in the order of the offsets.

    Of all other scopes than agents everything is told, wanted or not.
    """

    partition: int
    wants: list[Want]


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A request to change a budget that the scope's owner has decided: who asked, and what changed.

    There is one for each decided request, also for a refused one, whose `reason` says why. A
    request that comes again under its id is not decided again. `before` and `after` are the
    scope's budget before the request and after it, null where it has none; of a refused one they
    are equal; and so for its alert configuration, which is told without what is secret of it.
    `version` is the budget's after the request, 0 when there is none. `requested_at` is
    the time of the request's message. `partition` and `offset` are where that stands on the
    budgets topic: they identify the record, which a replay may write again.
    """

    request_id: str
    scope: str
    organization_id: str
    action: RequestAction
    accepted: bool
    reason: str
    version: int
    before: Budget | None
    after: Budget | None
    requested_by: str
    requested_at: datetime
    partition: int
    offset: int
    alerts_before: AlertConfig | None = None
    alerts_after: AlertConfig | None = None


class AlertDelivery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt to deliver an alert, or several that were merged, through one channel.

    `delivery_id` is the webhook's id: constant over all attempts, that of the alert where nothing
    was merged. `target` is where it went, as it may be shown: a URL's host, or the addresses.
    `code` is the HTTP status or the SMTP reply, None where there was no answer. After `retrying`
    there is another attempt, at `next_attempt_at`; `failed` was the last: it is a dead letter.
    """

    delivery_id: str
    alert_ids: tuple[str, ...]
    scope: str
    organization_id: str
    event: AlertEvent
    channel: Literal["webhook", "email"]
    target: str
    attempt: int
    status: Literal["delivered", "retrying", "failed"]
    code: int | None
    reason: str
    attempted_at: datetime
    duration_ms: int
    next_attempt_at: datetime | None = None
    test: bool = False


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message or a record that does not count: why, where it stands, and itself.

    `index` is that of the record in its message; absent when the whole message is rejected.
    `record` is the message's value as text, `record_base64` when it is not UTF-8; cut after
    `DEAD_LETTER_RECORD_BYTES_MAX`, which `truncated` says.
    """

    reason: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    index: int | None = None
    record: str | None = None
    record_base64: str | None = None
    truncated: bool = False

    @property
    def key(self) -> bytes:
        """The coordinates, so that a repeated dead letter is known to be the same."""
        at = f"{self.topic}/{self.partition}/{self.offset}"
        return (at if self.index is None else f"{at}/{self.index}").encode()
