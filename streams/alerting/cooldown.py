"""Cooldown: which alerts of a scope go out now, and which wait to be merged. Pure.

After a message, further alerts of the scope are held until the cooldown is over, and then go out as
one message. What is exceeded or recovered never waits, and starts a cooldown as well; held ones
wait for that one, too, but for no longer than two cooldowns in all. Of a step's crossings, which
are told in ascending order, the lower ones wait for the highest.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from outlay.alert import URGENT_EVENTS, Alert

STEP_WAIT_MS = 2_000
"""How long the lower crossings of a step wait for the highest, in milliseconds."""

HELD_MAX = 20
"""How many alerts of a scope are held; from there on they go out before the cooldown is over."""

HELD_COOLDOWNS_MAX = 2
"""For how many cooldowns an alert is held at most, however often urgent ones begin another."""

Message = tuple[Alert, ...]
"""What is sent at once: the highest first."""


class ScopeState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is held of a scope.

    `sent_ms` is when the last message was made, `held_since_ms` when the oldest of `held` came.
    `in_step` says that they were not held for a cooldown, but for the highest of their step.
    """

    sent_ms: int | None = None
    held: tuple[Alert, ...] = ()
    held_since_ms: int = 0
    in_step: bool = False


NOTHING_HELD = ScopeState()


def take(
    state: ScopeState, alert: Alert, now_ms: int, cooldown_ms: int
) -> tuple[ScopeState, list[Message]]:
    """Take up an alert: the new state, and what goes out at once."""
    if alert.test:
        return state, [(alert,)]
    if any(held.alert_id == alert.alert_id for held in state.held):
        return state, []
    if alert.event in URGENT_EVENTS:
        return _sent(state, now_ms), [(alert,)]
    is_free = now_ms >= _free_ms(state, cooldown_ms)
    is_highest = not alert.step or alert.threshold in (None, max(alert.step))
    if is_free and is_highest and (not state.held or state.in_step):
        return _sent(state, now_ms), [(alert,)]
    return ScopeState(
        state.sent_ms,
        (*state.held, alert),
        state.held_since_ms if state.held else now_ms,
        is_free and not is_highest and (state.in_step or not state.held),
    ), []


def wake(state: ScopeState, now_ms: int, cooldown_ms: int) -> tuple[ScopeState, list[Message]]:
    """Let go what is due: as one message; each by itself where there is no cooldown."""
    due = due_ms(state, cooldown_ms)
    if due is None or now_ms < due:
        return state, []
    return let_go(state, now_ms, cooldown_ms)


def let_go(state: ScopeState, now_ms: int, cooldown_ms: int) -> tuple[ScopeState, list[Message]]:
    """Let go all that is held, due or not."""
    if not state.held:
        return state, []
    merged = tuple(sorted(state.held, key=_rank))
    messages = [(alert,) for alert in merged] if not cooldown_ms else [merged]
    return ScopeState(now_ms), list(messages)


def due_ms(state: ScopeState, cooldown_ms: int) -> int | None:
    """When `wake` lets go what is held; None where nothing is."""
    if not state.held:
        return None
    if len(state.held) >= HELD_MAX:
        return state.held_since_ms
    if state.in_step:
        return state.held_since_ms + STEP_WAIT_MS
    longest = state.held_since_ms + HELD_COOLDOWNS_MAX * cooldown_ms
    return min(max(_free_ms(state, cooldown_ms), state.held_since_ms), longest)


def not_ahead(state: ScopeState, now_ms: int) -> ScopeState:
    """The same, with no time after now: the clock that wrote it was ahead."""
    return msgspec.structs.replace(
        state,
        sent_ms=None if state.sent_ms is None else min(state.sent_ms, now_ms),
        held_since_ms=min(state.held_since_ms, now_ms),
    )


def _free_ms(state: ScopeState, cooldown_ms: int) -> int:
    return 0 if state.sent_ms is None else state.sent_ms + cooldown_ms


def _sent(state: ScopeState, now_ms: int) -> ScopeState:
    return msgspec.structs.replace(state, sent_ms=now_ms, in_step=False)


def _rank(alert: Alert) -> Decimal:
    return -(alert.threshold or Decimal(0))
