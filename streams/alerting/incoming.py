"""Incoming: messages of the alerts topic, as they are read. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog

from outlay.alert import Alert, decode_alert
from streams.alerting.dead_letter import REDELIVERY_HEADER, Redelivery, decode_redelivery
from streams.alerting.webhook_body import webhook_body
from streams.alerting.wording import details, headline

ALERT_BYTES_MAX = 64 * 1_024
"""The largest message that is taken for an alert, in bytes."""

log = structlog.get_logger("outlay.alerts")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message of the alerts topic; `alert` is None where it is none that can be told."""

    offset: int
    alert: Alert | None
    redelivery: Redelivery | None = None


def incoming(
    partition: int, offset: int, value: bytes | None, headers: Sequence[tuple[str, bytes]]
) -> Incoming:
    """A message as it was read. Never raises for what it holds: it stays on the topic."""
    try:
        alert = _alert(value or b"")
        for name, header in headers:
            if name == REDELIVERY_HEADER:
                return Incoming(offset, alert, decode_redelivery(header))
    except (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError) as error:
        kind = type(error).__name__
        log.warning("a message is no alert", partition=partition, offset=offset, error=kind)
        return Incoming(offset, None)
    return Incoming(offset, alert)


def _alert(value: bytes) -> Alert:
    if len(value) > ALERT_BYTES_MAX:
        raise ValueError("too large")
    alert = decode_alert(value)
    webhook_body(alert.alert_id, (alert,))  # what cannot be told must not come up at its delivery
    headline(alert), details(alert)
    return alert
