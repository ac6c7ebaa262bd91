"""Records of the application's own state, as they stand on the alert state topic.

Its partitions are those of the alerts topic. Keys: `scope …`, `delivery …`, `ids …`, `gone …`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from outlay.alert import Alert, alert_id
from streams.alerting.cooldown import Message, ScopeState

Channel = Literal["webhook", "email"]

Records = dict[bytes, bytes | None]
"""State records by their key; None takes one away."""


class Pending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A delivery that is not finished: one message through one channel.

    `attempt` is how many were made, `next_ms` when the next is due. `recipients` are the addresses
    that are left, None: all that are configured; `refused` those that were refused for good.
    """

    delivery_id: str
    channel: Channel
    alerts: tuple[Alert, ...]
    created_ms: int
    next_ms: int
    attempt: int = 0
    recipients: tuple[str, ...] | None = None
    refused: tuple[str, ...] = ()

    @property
    def lead(self) -> Alert:
        """The highest of the alerts, which the message is named by."""
        return self.alerts[0]

    @property
    def key(self) -> bytes:
        """Its key on the state topic."""
        return f"delivery {self.delivery_id} {self.channel}".encode()


class IdPage(msgspec.Struct, frozen=True):
    """A page of the ids that were taken over; `number` rises for ever, its key comes round."""

    number: int
    ids: tuple[str, ...]


class Gone(msgspec.Struct, frozen=True):
    """A configuration's webhook answered 410: until it has another version nothing goes there."""

    version: int


def delivery_id(message: Message) -> str:
    """That of its alert; where several are merged one of its own, which their ids make."""
    if len(message) == 1:
        return message[0].alert_id
    return alert_id("merged", *sorted(alert.alert_id for alert in message))


def scope_key(scope: str) -> bytes:
    """The key of a scope's state."""
    return f"scope {scope}".encode()


def page_key(slot: int) -> bytes:
    """The key of a page of ids."""
    return f"ids {slot}".encode()


def gone_key(config_scope: str) -> bytes:
    """The key of a configuration's end."""
    return f"gone {config_scope}".encode()


encode = msgspec.json.Encoder().encode
decode_scope = msgspec.json.Decoder(ScopeState).decode
decode_pending = msgspec.json.Decoder(Pending).decode
decode_page = msgspec.json.Decoder(IdPage).decode
decode_gone = msgspec.json.Decoder(Gone).decode
