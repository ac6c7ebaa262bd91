"""Explaining: the numbers that led to an answer, for people and for programs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from outlay.budget import (
    NOTHING,
    Amounts,
    EnforcementMode,
    Limit,
    LimitKind,
    OnStale,
    State,
    amount_of,
    evaluate,
)
from outlay.money import to_usd
from outlay.standing import CheckResult, KnownBudget
from outlay.window import window_names

Amount = Decimal | int
"""USD of a limit on cost, else a count."""


@dataclass(frozen=True, slots=True)
class LimitExplanation:
    """One limit and what counts against it.

    Attributes:
        window: the day or the month, `2026-11-21` or `2026-11`.
        kind: what is limited; amounts of `cost` are in USD, all others are counts.
        used: what the decision contains.
        own: what this process has emitted and no decision contains yet.
        reserved: what open reservations of this process ask for.
        asked: what the call asks for.
        remaining: what is left before the call; negative where the limit is passed already.
    """

    window: str
    kind: LimitKind
    limit: Amount
    used: Amount
    own: Amount
    reserved: Amount
    asked: Amount
    remaining: Amount

    @property
    def fits(self) -> bool:
        """Whether the call fits in this limit."""
        return self.asked <= self.remaining

    @property
    def used_share(self) -> Decimal:
        """What counts as used, as a fraction of the limit; a limit of zero is all used."""
        if not self.limit:
            return Decimal(1)
        return Decimal(max(self.limit - self.remaining, 0)) / Decimal(self.limit)


@dataclass(frozen=True, slots=True)
class ScopeExplanation:
    """What one scope that a call counts in says to it.

    Attributes:
        scope: its key.
        version: of its budget; None where it has none, and then it allows everything.
        state: of the budget, before the call.
        allowed: whether this scope allows the call.
        degraded: whether it asks for a cheaper one.
        stale: whether its decision may be out of date.
        age_s: how long ago its decisions were last known to be up to date, in seconds.
        limits: in the order in which they are checked.
    """

    scope: str
    version: int | None
    state: State
    allowed: bool
    degraded: bool
    stale: bool
    age_s: float
    enforcement_mode: EnforcementMode | None
    on_stale: OnStale | None
    limits: tuple[LimitExplanation, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer, when it was given, and what each scope contributed, widest first."""

    result: CheckResult
    at: datetime
    scopes: tuple[ScopeExplanation, ...]

    def __str__(self) -> str:
        """One line for the answer, one for each scope, and one for each of its limits."""
        result = self.result
        word = "allowed" if result.allowed else "blocked"
        lines = [f"{word} at {self.at.isoformat(timespec='seconds')}: {result.reason or 'fits'}"]
        for scope in self.scopes:
            if scope.version is None:
                lines.append(f"  {scope.scope}: no budget")
                continue
            stale = f", stale for {scope.age_s:.0f} s" if scope.stale else ""
            lines.append(
                f"  {scope.scope}: {scope.state}, {scope.enforcement_mode}, "
                f"version {scope.version}{stale}"
            )
            lines += [f"    {_sentence(limit)}" for limit in scope.limits]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ScopeView:
    """What is known of a scope with a budget: its decision's amounts, and what is held beside.

    The pairs are those of the day and of the month.
    """

    known: KnownBudget
    decided: tuple[Amounts, Amounts]
    own: tuple[Amounts, Amounts] = (NOTHING, NOTHING)
    reserved: Amounts = NOTHING

    @property
    def used(self) -> tuple[Amounts, Amounts]:
        """What counts as used of the day, and of the month."""
        day, month = self.decided
        own_day, own_month = self.own
        return day + own_day + self.reserved, month + own_month + self.reserved


def explain_scope(
    key: str, view: ScopeView | None, day: int, asked: Amounts, *, stale: bool, age_s: float
) -> ScopeExplanation:
    """What a scope says on a day (its ordinal); without a view it has no budget."""
    if view is None:
        return ScopeExplanation(key, None, "ok", True, False, stale, age_s, None, None, ())
    budget = view.known.decision.budget
    evaluation = evaluate(view.known.rules, *view.used, asked)
    return ScopeExplanation(
        scope=key,
        version=view.known.decision.version,
        state=evaluation.state,
        allowed=evaluation.allowed and not (stale and budget.on_stale == "block"),
        degraded=evaluation.degraded,
        stale=stale,
        age_s=age_s,
        enforcement_mode=budget.enforcement_mode,
        on_stale=budget.on_stale,
        limits=tuple(_explain(limit, view, day, asked) for limit in view.known.rules.limits),
    )


def _explain(limit: Limit, view: ScopeView, day: int, asked: Amounts) -> LimitExplanation:
    monthly = limit.window == "month"

    def amount(amounts: Amounts) -> Amount:
        return _shown(limit.kind, amount_of(amounts, limit.kind))

    used = amount_of(view.used[monthly], limit.kind)
    return LimitExplanation(
        window=window_names(day)[monthly],
        kind=limit.kind,
        limit=_shown(limit.kind, limit.limit),
        used=amount(view.decided[monthly]),
        own=amount(view.own[monthly]),
        reserved=amount(view.reserved),
        asked=amount(asked),
        remaining=_shown(limit.kind, limit.limit - used),
    )


def _shown(kind: LimitKind, amount: int) -> Amount:
    return Decimal(to_usd(amount)) if kind == "cost" else amount


def _sentence(limit: LimitExplanation) -> str:
    parts = [f"{_plain(limit.used)} used"]
    if limit.own:
        parts.append(f"{_plain(limit.own)} own")
    if limit.reserved:
        parts.append(f"{_plain(limit.reserved)} reserved")
    parts.append(f"{_plain(limit.asked)} asked")
    sign = "<=" if limit.fits else ">"
    kind = "USD" if limit.kind == "cost" else limit.kind.replace("_", " ")
    return f"{limit.window}: {' + '.join(parts)} {sign} {_plain(limit.limit)} {kind}"


def _plain(amount: Amount) -> str:
    """Without an exponent: one nano-dollar is 0.000000001."""
    return f"{amount:f}" if isinstance(amount, Decimal) else str(amount)
