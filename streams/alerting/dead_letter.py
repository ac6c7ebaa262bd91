"""Dead letter: a delivery that was given up, as it stands on the dead alerts topic.

The topic is read as a whole, the last message of a key counts: a tombstone after a dead letter says
that it was sent again.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from outlay.alert import Alert
from streams.alerting.records import Channel, Pending

REDELIVERY_HEADER = "outlay-redelivery"
"""The header of a message of the alerts topic that sends a dead letter again."""


class DeadAlert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A delivery that was given up, and why.

    Attributes:
        delivery_id: the webhook's id; that of the alert where nothing was merged.
        channel: the one through which it did not go.
        scope: whose budget it is about.
        organization_id: that of the scope.
        alerts: what it told, the highest first.
        target: where it was to go, as it may be shown.
        reason: why it was given up.
        code: the HTTP status or the SMTP reply; None where there was no answer.
        attempts: how many were made.
        failed_at: when it was given up.
        recipients: the addresses that it did not reach; None: all that are configured.
    """

    delivery_id: str
    channel: Channel
    scope: str
    organization_id: str
    alerts: tuple[Alert, ...]
    target: str
    reason: str
    code: int | None
    attempts: int
    failed_at: datetime
    recipients: tuple[str, ...] | None = None

    @property
    def key(self) -> bytes:
        """Its key on the topic: that it was sent again says nothing of when it failed once more."""
        return f"{self.delivery_id} {self.channel} {self.failed_at.timestamp():.6f}".encode()


class Redelivery(msgspec.Struct, frozen=True):
    """A dead letter that is to be sent again. `id` lets it pass the duplicate check, once."""

    id: str
    dead: DeadAlert

    def pending(self, now_ms: int) -> Pending:
        """The delivery that it becomes, under the same id, with all its attempts before it."""
        dead = self.dead
        return Pending(
            delivery_id=dead.delivery_id,
            channel=dead.channel,
            alerts=dead.alerts,
            created_ms=now_ms,
            next_ms=now_ms,
            recipients=dead.recipients,
        )


def at(ms: int) -> datetime:
    """A time in milliseconds since 1970 as a datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


encode = msgspec.json.Encoder().encode
decode_dead = msgspec.json.Decoder(DeadAlert).decode
decode_redelivery = msgspec.json.Decoder(Redelivery).decode
