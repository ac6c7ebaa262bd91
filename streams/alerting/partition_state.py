"""Partition state: what is known of one partition of the alerts, and how it changes. No I/O.

`take` and `wake` change it in memory and remember the records that say so; nothing of it may be
delivered before these are written. The records of one call belong together, as do those of several
calls: they are written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec
import structlog

from outlay.alert_config import COOLDOWN_MINUTES_MAX
from streams.alerting.cooldown import (
    NOTHING_HELD,
    Message,
    ScopeState,
    due_ms,
    let_go,
    not_ahead,
    take,
    wake,
)
from streams.alerting.directory import Effective
from streams.alerting.incoming import Incoming
from streams.alerting.records import (
    Channel,
    Gone,
    Pending,
    Records,
    decode_gone,
    decode_page,
    decode_pending,
    decode_scope,
    delivery_id,
    encode,
    gone_key,
    scope_key,
)
from streams.alerting.taken import Taken
from streams.alerting.text import shown

SCOPE_AGE_MS_MAX = 2 * COOLDOWN_MINUTES_MAX * 60_000
"""After how long a scope of which nothing is held is forgotten: no cooldown is longer."""

HELD_MAX = 20_000
"""How many alerts of a partition are held; beyond, a scope's go out before their cooldown is over.

So that long cooldowns of one organization keep nobody else's alerts from being read.
"""

WAIT_MS_MAX = 24 * 3_600_000
"""For how long a delivery waits for its next attempt at most, in milliseconds."""

log = structlog.get_logger("outlay.alerts")

EffectiveOf = Callable[[str, str], Effective]
"""The configuration of a scope of an organization."""


class PartitionState:
    """The scopes with something held or in a cooldown, pending deliveries, ids, and dead ends."""

    def __init__(self, effective_of: EffectiveOf) -> None:
        self.scopes: dict[str, ScopeState] = {}
        self.pending: dict[bytes, Pending] = {}
        self.gone: dict[str, int] = {}
        self.taken = Taken()
        self._effective_of = effective_of
        self._changed: Records = {}
        self._changed_bytes = 0
        self._held = 0

    def load(self, records: Mapping[bytes, bytes], now_ms: int) -> None:
        """Take up what was written before: the last value of each key.

        A time ahead of now was written by a clock that was wrong: nothing waits for it.
        """
        for key, value in records.items():
            try:
                self._load(key, value, now_ms)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:  # none of ours
                log.error("a state record is skipped", key=shown(key), error=shown(str(error)))

    def take(self, incoming: Incoming, now_ms: int) -> list[Pending] | None:
        """The deliveries that a message leads to; None: it was taken over before."""
        alert, redelivery = incoming.alert, incoming.redelivery
        if alert is None:
            return []
        taken_id = alert.alert_id if redelivery is None else redelivery.id
        if taken_id in self.taken:
            return None
        self.taken.add(taken_id)
        if redelivery is not None:
            return self._start([redelivery.pending(now_ms)])
        effective = self._effective_of(alert.scope, alert.organization_id)
        if not _channels(effective):
            return []
        before = self.scopes.get(alert.scope, NOTHING_HELD)
        after, messages = take(before, alert, now_ms, effective.cooldown_ms)
        end = wake if self._held < HELD_MAX else let_go
        after, woken = end(after, now_ms, effective.cooldown_ms)
        self._put_scope(alert.scope, after)
        return self._messages([*messages, *woken], effective, now_ms)

    def wake(self, scope: str, now_ms: int) -> list[Pending]:
        """The deliveries of a scope whose held alerts are due."""
        before = self.scopes.get(scope)
        if before is None or not before.held:
            return []
        effective = self._effective_of(scope, before.held[0].organization_id)
        after, messages = wake(before, now_ms, effective.cooldown_ms)
        if not messages:
            return []
        self._put_scope(scope, after)
        return self._messages(messages, effective, now_ms)

    def due_ms(self, scope: str) -> int | None:
        """When `wake` has something to do."""
        state = self.scopes.get(scope)
        if state is None or not state.held:
            return None
        effective = self._effective_of(scope, state.held[0].organization_id)
        return due_ms(state, effective.cooldown_ms)

    def holding(self) -> list[str]:
        """The scopes of which something is held."""
        return [scope for scope, state in self.scopes.items() if state.held]

    def held(self) -> int:
        """How many alerts are held."""
        return self._held

    def prune(self, now_ms: int) -> None:
        """Forget the scopes that have long been quiet."""
        for scope, state in list(self.scopes.items()):
            if not state.held and (state.sent_ms or 0) < now_ms - SCOPE_AGE_MS_MAX:
                del self.scopes[scope]
                self._change(scope_key(scope), None)

    def changes(self) -> Records:
        """The records of what changed by `take`, `wake` and `prune` since it was asked last."""
        changed, self._changed, self._changed_bytes = self._changed, {}, 0
        return changed | self.taken.records()

    def changes_bytes(self) -> int:
        """About how many bytes the records of `changes` have, without the ids."""
        return self._changed_bytes

    def retried(self, pending: Pending) -> Records:
        """A delivery goes on, after another attempt."""
        self.pending[pending.key] = pending
        return {pending.key: encode(pending)}

    def finished(self, pending: Pending) -> Records:
        """A delivery has arrived, or was given up."""
        self.pending.pop(pending.key, None)
        return {pending.key: None}

    def disabled(self, effective: Effective) -> Records:
        """A configuration's webhook is gone, until it has another version."""
        self.gone[effective.scope] = effective.version
        return {gone_key(effective.scope): encode(Gone(effective.version))}

    def is_gone(self, effective: Effective) -> bool:
        """Whether that was so, for this version."""
        return self.gone.get(effective.scope) == effective.version

    def _load(self, key: bytes, value: bytes, now_ms: int) -> None:
        kind, _, name = key.decode().partition(" ")
        if kind == "scope":
            self.scopes[name] = not_ahead(decode_scope(value), now_ms)
            self._held += len(self.scopes[name].held)
        elif kind == "delivery":
            pending = decode_pending(value)
            next_ms = min(pending.next_ms, now_ms + WAIT_MS_MAX)
            self.pending[key] = msgspec.structs.replace(pending, next_ms=next_ms)
        elif kind == "ids":
            self.taken.load(decode_page(value))
        elif kind == "gone":
            self.gone[name] = decode_gone(value).version

    def _messages(
        self, messages: Iterable[Message], effective: Effective, now_ms: int
    ) -> list[Pending]:
        return self._start(
            Pending(
                delivery_id=delivery_id(message),
                channel=channel,
                alerts=message,
                created_ms=now_ms,
                next_ms=now_ms,
            )
            for message in messages
            for channel in _channels(effective)
        )

    def _start(self, deliveries: Iterable[Pending]) -> list[Pending]:
        started = [each for each in deliveries if each.key not in self.pending]
        for each in started:
            self.pending[each.key] = each
            self._change(each.key, encode(each))
        return started

    def _put_scope(self, scope: str, state: ScopeState) -> None:
        before = self.scopes.get(scope, NOTHING_HELD)
        if state != before:
            self.scopes[scope] = state
            self._held += len(state.held) - len(before.held)
            self._change(scope_key(scope), encode(state))

    def _change(self, key: bytes, value: bytes | None) -> None:
        self._changed[key] = value
        self._changed_bytes += len(value or b"")


def _channels(effective: Effective) -> list[Channel]:
    config = effective.config
    wanted: list[Channel] = []
    if config.webhook_url:
        wanted.append("webhook")
    if config.email_recipients:
        wanted.append("email")
    return wanted
