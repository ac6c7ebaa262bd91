"""Delivering: an attempt at a delivery, and what follows it.

What became of it is published with the state that says that it is over, or before it: a crash
repeats an attempt, under the same id, and loses nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import urlsplit

import structlog
from msgspec.structs import replace

from outlay.alert_config import AlertConfig
from schemas.messages import AlertDelivery
from streams.alerting.clock import Clock
from streams.alerting.cooldown import Message
from streams.alerting.dead_letter import DeadAlert, at
from streams.alerting.directory import Effective
from streams.alerting.log import AlertLog
from streams.alerting.metrics import AlertMetrics
from streams.alerting.partition_state import EffectiveOf, PartitionState
from streams.alerting.records import Pending, Records
from streams.alerting.retrying import Limits, Outcome, next_attempt_ms

SMTP_ENDPOINT = "smtp"

log = structlog.get_logger("outlay.alerts")


class Webhooks(Protocol):
    """Sends over HTTP; `WebhookSender` is the one."""

    async def send(
        self, config: AlertConfig, delivery_id: str, alerts: Message, now_ms: int
    ) -> Outcome:
        """One attempt; never raises for the receiver."""


class Mails(Protocol):
    """Sends over SMTP; `MailSender` is the one."""

    async def send(
        self,
        delivery_id: str,
        alerts: Message,
        recipients: tuple[str, ...],
        left: tuple[str, ...],
    ) -> Outcome:
        """One attempt; never raises for the server."""


@dataclass(frozen=True, slots=True)
class Delivering:
    """Makes attempts, and records them. `uniform` gives the jitter."""

    log: AlertLog
    webhooks: Webhooks
    mails: Mails
    effective_of: EffectiveOf
    limits: Limits
    clock: Clock
    metrics: AlertMetrics
    uniform: Callable[[float, float], float] = random.uniform

    def endpoint_of(self, pending: Pending) -> str:
        """The receiver that a delivery goes to: scheme, host and port, or the SMTP server."""
        if pending.channel == "email":
            return SMTP_ENDPOINT
        url = self._effective(pending).config.webhook_url
        return "" if url is None else origin_of(url)

    async def attempt(
        self, partition: int, state: PartitionState, pending: Pending
    ) -> tuple[Pending | None, bool]:
        """One attempt: what is left to do, None when it is over, and whether nobody was there.

        Raises:
            Lost, KafkaError: what became of it cannot be published.
        """
        effective = self._effective(pending)
        started_ms = self.clock.now_ms()
        outcome = await self._send(state, effective, pending, started_ms)
        now_ms = self.clock.now_ms()
        self.metrics.attempt_seconds.labels(pending.channel).observe((now_ms - started_ms) / 1000)
        done = replace(
            pending,
            attempt=pending.attempt + 1,
            recipients=pending.recipients if outcome.left is None else outcome.left,
            refused=pending.refused + outcome.refused,
        )
        ended: Records = {}
        if outcome.verdict == "gone":
            ended = state.disabled(effective)
        left = await self._settle(partition, state, effective, done, outcome, started_ms, ended)
        return left, outcome.is_away

    async def give_up(
        self, partition: int, state: PartitionState, pending: Pending, reason: str
    ) -> None:
        """Make a dead letter of a delivery without an attempt."""
        outcome, now_ms = Outcome("failed", reason), self.clock.now_ms()
        effective = self._effective(pending)
        await self._settle(partition, state, effective, pending, outcome, now_ms, {})

    def _effective(self, pending: Pending) -> Effective:
        return self.effective_of(pending.lead.scope, pending.lead.organization_id)

    async def _send(
        self, state: PartitionState, effective: Effective, pending: Pending, now_ms: int
    ) -> Outcome:
        config = effective.config
        if pending.channel == "webhook":
            if config.webhook_url is None:
                return Outcome("failed", "no webhook is configured any more")
            if state.is_gone(effective):
                return Outcome("failed", "it has answered 410, and its configuration is the same")
            return await self.webhooks.send(config, pending.delivery_id, pending.alerts, now_ms)
        recipients = config.email_recipients
        left = recipients
        if pending.recipients is not None:
            left = tuple(to for to in pending.recipients if to in recipients)
        if not left:
            return Outcome("failed", "its recipients are not configured any more")
        return await self.mails.send(pending.delivery_id, pending.alerts, recipients, left)

    async def _settle(
        self,
        partition: int,
        state: PartitionState,
        effective: Effective,
        done: Pending,
        outcome: Outcome,
        started_ms: int,
        ended: Records,
    ) -> Pending | None:
        now_ms = self.clock.now_ms()
        next_ms = next_attempt_ms(
            outcome, done.attempt, done.created_ms, now_ms, self.limits, self.uniform
        )
        has_arrived = outcome.verdict == "delivered" and not done.refused
        status: Literal["delivered", "retrying", "failed"] = "delivered"
        dead = None
        if next_ms is not None:
            status = "retrying"
        elif not has_arrived:
            status = "failed"
            dead = _dead(done, effective, outcome, now_ms)
        told = _told(done, effective, outcome, status, started_ms, now_ms, next_ms)
        left = None if next_ms is None else replace(done, next_ms=next_ms)
        changed = state.finished(done) if left is None else state.retried(left)
        await self.log.write(partition, changed | ended, told=told, dead=dead)
        self._note(done, outcome, status)
        return left

    def _note(self, done: Pending, outcome: Outcome, status: str) -> None:
        counter = {
            "delivered": self.metrics.delivered,
            "retrying": self.metrics.retried,
            "failed": self.metrics.failed,
        }[status]
        counter.labels(done.channel).inc()
        line = {"delivery_id": done.delivery_id, "channel": done.channel, "code": outcome.code}
        if status == "delivered":
            log.debug("alert delivered", attempt=done.attempt, **line)
        else:  # the reason may quote the receiver: it is on the deliveries topic
            log.warning("alert not delivered", attempt=done.attempt, status=status, **line)


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def _target(done: Pending, effective: Effective) -> str:
    """Where it goes, as it may be shown."""
    if done.channel == "email":
        return ", ".join(effective.config.email_recipients)
    url = effective.config.webhook_url
    return "" if url is None else origin_of(url)


def _dead(done: Pending, effective: Effective, outcome: Outcome, now_ms: int) -> DeadAlert:
    missed = None
    if done.recipients is not None or done.refused:
        left = () if outcome.verdict == "delivered" else done.recipients or ()
        missed = tuple(dict.fromkeys((*done.refused, *left)))
    return DeadAlert(
        delivery_id=done.delivery_id,
        channel=done.channel,
        scope=done.lead.scope,
        organization_id=done.lead.organization_id,
        alerts=done.alerts,
        target=_target(done, effective),
        reason=_reason(done, outcome),
        code=outcome.code,
        attempts=done.attempt,
        failed_at=at(now_ms),
        recipients=missed,
    )


def _reason(done: Pending, outcome: Outcome) -> str:
    if outcome.verdict == "delivered" and done.refused:
        return f"{len(done.refused)} recipients were refused before"
    return outcome.reason


def _told(
    done: Pending,
    effective: Effective,
    outcome: Outcome,
    status: Literal["delivered", "retrying", "failed"],
    started_ms: int,
    now_ms: int,
    next_ms: int | None,
) -> AlertDelivery:
    return AlertDelivery(
        delivery_id=done.delivery_id,
        alert_ids=tuple(alert.alert_id for alert in done.alerts),
        scope=done.lead.scope,
        organization_id=done.lead.organization_id,
        event=done.lead.event,
        channel=done.channel,
        target=_target(done, effective),
        attempt=done.attempt,
        status=status,
        code=outcome.code,
        reason=_reason(done, outcome),
        attempted_at=at(started_ms),
        duration_ms=now_ms - started_ms,
        next_attempt_at=None if next_ms is None else at(next_ms),
        test=done.lead.test,
    )
