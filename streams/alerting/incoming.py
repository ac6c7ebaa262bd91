"""Incoming: messages of the alerts topic, as they are read. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog

from outlay.alert import Alert, decode_alert
from streams.alerting.cooldown import HELD_MAX
from streams.alerting.dead_letter import REDELIVERY_HEADER, Redelivery, decode_redelivery
from streams.alerting.webhook_body import webhook_body
from streams.alerting.wording import details, headline

ALERT_BYTES_MAX = 16_384
"""The largest message that is taken for an alert, in bytes; the widest ids make 11,000."""

ID_LENGTH_MAX = 128
"""The longest id of an alert, in characters: a page of ids is one record."""

REDELIVERY_BYTES_MAX = (HELD_MAX + 2) * ALERT_BYTES_MAX
"""The largest dead letter that is sent again, in bytes."""

log = structlog.get_logger("outlay.alerts")
_is_id = re.compile(rf"[A-Za-z0-9_.-]{{1,{ID_LENGTH_MAX}}}").fullmatch  # it goes into headers


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
                return Incoming(offset, alert, _redelivery(header))
    except (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError) as error:
        kind = type(error).__name__
        log.warning("a message is no alert", partition=partition, offset=offset, error=kind)
        return Incoming(offset, None)
    return Incoming(offset, alert)


def _alert(value: bytes) -> Alert:
    if len(value) > ALERT_BYTES_MAX:
        raise ValueError("too large")
    alert = decode_alert(value)
    _check(alert)
    return alert


def _redelivery(value: bytes) -> Redelivery:
    if len(value) > REDELIVERY_BYTES_MAX:
        raise ValueError("too large")
    redelivery = decode_redelivery(value)
    dead = redelivery.dead
    if not 1 <= len(dead.alerts) <= HELD_MAX:
        raise ValueError("no or too many alerts")
    if len(redelivery.id) > ID_LENGTH_MAX or not _is_id(dead.delivery_id):
        raise ValueError("its id cannot be that of a delivery")
    for alert in dead.alerts:
        _check(alert)
    return redelivery


def _check(alert: Alert) -> None:
    """Raise where an alert cannot be told: that must not come up at its delivery."""
    if not _is_id(alert.alert_id):
        raise ValueError("its id cannot be that of an alert")
    webhook_body(alert.alert_id, (alert,))
    headline(alert), details(alert)
