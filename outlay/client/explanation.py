"""Explanations: a budget's numbers, and the rule that they lead to, as the API tells them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from outlay.budget import EnforcementMode, LimitKind, OnStale, State
from outlay.scope import ScopeKind
from outlay.window import WindowKind


class WindowSpend(msgspec.Struct, frozen=True, kw_only=True):
    """What a scope has used in one day or month."""

    cost_usd: Decimal
    executions: int
    input_tokens: int
    output_tokens: int


class ExplainedLimit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit; amounts of `cost` are USD, all others counts. `remaining` may be negative."""

    kind: LimitKind
    limit: Decimal | int
    used: Decimal | int
    asked: Decimal | int
    remaining: Decimal | int
    used_share: Decimal
    fits: bool


class ExplainedWindow(msgspec.Struct, frozen=True, kw_only=True):
    """The current day or month: what is used of it, its limits, and which usage that contains.

    `offsets` maps each partition of the usage topic to the offset up to which it is counted.
    """

    window: str
    kind: WindowKind
    resets_at: datetime
    used: WindowSpend
    limits: tuple[ExplainedLimit, ...]
    offsets: dict[int, int]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What decided, and in one sentence why; `decided_by` is limit, share, stale or none."""

    allowed: bool
    degraded: bool
    decided_by: str
    window: str | None = None
    limit_kind: LimitKind | None = None
    sentence: str


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a budget's state, with the time of the decision that published it.

    `offsets` says what that decision contains: by window, up to which offset each partition of the
    usage topic is counted.
    """

    at: datetime
    from_state: State
    to_state: State
    version: int
    offsets: dict[str, dict[int, int]] = {}


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A budget's numbers, and the rule that they lead to.

    `age_s` is how long ago its decisions were last known to be up to date, in seconds, None where
    that was never. `transitions` are the last that the answering process has seen since
    `transitions_since`, the newest first.
    """

    scope: str
    kind: ScopeKind
    organization_id: str
    version: int
    state: State
    enforcement_mode: EnforcementMode
    on_stale: OnStale
    at: datetime
    published_at: datetime
    stale: bool
    age_s: float | None = None
    rule: Rule
    windows: tuple[ExplainedWindow, ...]
    transitions: tuple[Transition, ...]
    transitions_since: datetime
