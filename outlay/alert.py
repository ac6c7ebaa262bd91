"""Alert: what is told when a budget's usage crosses a threshold, as it stands on the alerts topic.

A crossing of (scope, window, limit kind, threshold) is a fact, and its id is made of these, so
that whoever detects it again after a crash says the same again, under the same id.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from outlay.budget import Budget, EnforcementMode, LimitKind
from outlay.window import WindowKind

AlertEvent = Literal[
    "budget.threshold",
    "budget.warning",
    "budget.degraded",
    "budget.exceeded",
    "budget.recovered",
    "budget.forecast",
]

URGENT_EVENTS: frozenset[AlertEvent] = frozenset({"budget.exceeded", "budget.recovered"})
"""What waits for no cooldown."""


class Forecast(msgspec.Struct, frozen=True):
    """What a window will have used at its end if it goes on as it did since its start.

    `projected` is `used * window_s / elapsed_s`, in the unit of its limit, and rests on nothing
    that was before the window's start.
    """

    projected: str
    elapsed_s: int
    window_s: int


class Alert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A crossing, or a forecast of one, of one limit of a scope in one window.

    Attributes:
        alert_id: the same whenever this crossing is told; also the webhook's id.
        event: named by the level of the threshold.
        scope: the key of the scope whose budget it is.
        organization_id: that of the scope.
        window: the window's name, `2026-11-22` or `2026-11`.
        window_kind: its kind.
        limit_kind: which limit; the unit of `used` and `limit` is USD for `cost`, else a count.
        threshold: the share of the limit that was crossed; of a recovery the lowest under which
            the usage is again. None for a forecast.
        used: what the window has used, a decimal number.
        limit: the limit; None when it was taken away.
        used_share: `used / limit` to six decimals; None without a limit, or where it is zero.
        step: the thresholds that were crossed, or recovered, at once, this one among them.
        episode: how often this threshold was armed again in this window, from 0.
        repeat: how often the crossing was told before, where it is to be told again and again.
        version: that of the budget.
        enforcement_mode: that of the budget.
        daily_spent_usd: what the scope has spent on the day, or on the current one.
        daily_budget_usd: its limit; None without one.
        monthly_spent_usd: what the scope has spent in the month, or in the current one.
        monthly_budget_usd: its limit; None without one.
        forecast: what a forecast rests on; None for the other events.
        detected_at: when it was seen; what a repetition after a crash says may be later.
        test: whether somebody only tries whether alerts arrive.
    """

    alert_id: str
    event: AlertEvent
    scope: str
    organization_id: str
    window: str
    window_kind: WindowKind
    limit_kind: LimitKind
    threshold: Decimal | None
    used: str
    limit: str | None
    used_share: str | None
    step: tuple[Decimal, ...] = ()
    episode: int = 0
    repeat: int = 0
    version: int
    enforcement_mode: EnforcementMode
    daily_spent_usd: str
    daily_budget_usd: str | None
    monthly_spent_usd: str
    monthly_budget_usd: str | None
    forecast: Forecast | None = None
    detected_at: datetime
    test: bool = False


def alert_id(*parts: str | int) -> str:
    """The id of an alert, from what identifies it: `alt_` and 32 hexadecimal digits.

    >>> alert_id("organization:acme", "2026-11", "cost", "0.75", 0)
    'alt_f9cdb824e4fc34c8fcc50751063eb5ee'
    """
    text = "\n".join(map(str, parts))  # no part holds a line end: keys are percent-encoded
    return f"alt_{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def event_of(budget: Budget, threshold: Decimal) -> AlertEvent:
    """How the crossing of a threshold is called: by the level that it reaches.

    >>> event_of(Budget(), Decimal("0.80"))
    'budget.warning'
    """
    if threshold >= 1:
        return "budget.exceeded"
    if threshold >= budget.degradation_threshold:
        return "budget.degraded"
    if threshold >= budget.warning_threshold:
        return "budget.warning"
    return "budget.threshold"


encode_alert = msgspec.json.Encoder().encode
decode_alert = msgspec.json.Decoder(Alert).decode
