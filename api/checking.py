"""Checking: a gateway's answer to one call, with the headers that tell a client when to return.

`RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers-11: one item
for each kind of limit and window, by the scope that has the least left of it. The draft's units
know no money and no tokens: `qu` says `outlay-usd-micros` and `outlay-tokens` there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from api.problems import RETRY_AFTER_S, ProblemError
from outlay.asking import checked_keys
from outlay.budget import LIMIT_KINDS, Limit, LimitKind, amount_of
from outlay.explaining import Amount, Explanation, LimitExplanation, ScopeExplanation
from outlay.gateway import BudgetGateway
from outlay.scope import forget_scope_keys, scope_keys
from outlay.standing import CheckResult
from outlay.window import Window, WindowKind, day_ordinal, window_names
from schemas.http_check import CheckAnswer, CheckRequest, Resets

SF_INTEGER_MAX = 999_999_999_999_999
"""The largest Integer of a structured field (RFC 9651)."""

NANO_PER_MICRO = 1_000

IDS_LENGTH_USUAL = 256
"""How long the ids of a call are together, as a rule, in bytes; four UUIDs have 144."""

UNUSUAL_ASKS_MAX = 2_048
"""After how many calls with longer ids the keys of scopes that are kept ready are let go of.

The keys of one call take up to 20 kB, and 65,536 calls are kept.
"""

DAYS_CACHE_MAX = 8
"""Of how many days the windows are kept ready."""

_WORDS: dict[LimitKind, str] = {kind: kind.replace("_", "-") for kind in LIMIT_KINDS}
_UNITS: dict[LimitKind, str] = {
    "cost": ';qu="outlay-usd-micros"',
    "executions": "",  # requests, which is the draft's default
    "tokens": ';qu="outlay-tokens"',
    "input_tokens": ';qu="outlay-tokens"',
    "output_tokens": ';qu="outlay-tokens"',
}


@dataclass(frozen=True, slots=True)
class Checked:
    """An answer; `explanation` only where it blocks."""

    ask: CheckRequest
    result: CheckResult
    explanation: Explanation | None
    at: datetime
    rate_limits: dict[str, str]

    @property
    def scope(self) -> ScopeExplanation | None:
        """The scope that blocks, where it still does."""
        scopes = () if self.explanation is None else self.explanation.scopes
        return next((each for each in scopes if each.scope == self.result.scope), None)

    @property
    def is_unavailable(self) -> bool:
        """Whether it blocks for what is not known (`on_stale`), and not for what is used."""
        scope = self.scope
        return scope is not None and scope.stale and scope.on_stale == "block"

    @property
    def violated(self) -> list[LimitExplanation]:
        """The limits that a blocked call does not fit in, in the order they are checked."""
        scopes = () if self.explanation is None else self.explanation.scopes
        blocking = sorted(
            (each for each in scopes if not each.allowed), key=lambda each: each != self.scope
        )
        return [limit for scope in blocking for limit in scope.limits if not limit.fits]

    @property
    def retry_after_s(self) -> int | None:
        """In how many seconds a blocked call can fit; None where no reset helps."""
        if self.result.allowed:
            return None
        if self.is_unavailable:
            return RETRY_AFTER_S
        limits = self.violated
        if not limits or any(limit.asked > limit.limit for limit in limits):
            return None
        end = max(Window(limit.window).end for limit in limits)
        return max(math.ceil((end - self.at).total_seconds()), 1)

    @property
    def headers(self) -> dict[str, str]:
        """`RateLimit`, `RateLimit-Policy` where there are limits; `Retry-After` where blocked."""
        retry = self.retry_after_s
        return self.rate_limits | ({} if retry is None else {"Retry-After": str(retry)})

    @property
    def body(self) -> CheckAnswer:
        """The answer as the API tells it."""
        result, windows = self.result, current_windows(day_ordinal(self.at))
        return CheckAnswer(
            allowed=result.allowed,
            state=result.state,
            degraded=result.degraded,
            reason=result.reason,
            scope=result.scope,
            remaining_usd=None if result.remaining_usd is None else f"{result.remaining_usd:f}",
            stale=result.stale,
            resets_at=Resets(day=windows["day"].end, month=windows["month"].end),
            retry_after_s=self.retry_after_s,
        )

    @property
    def blocking(self) -> dict[str, Any]:
        """The members of the problem that says why it blocks: window, what remains, what was asked.

        `asked` is null where the call's cost was not told.
        """
        members = self.body.model_dump()
        for limit in self.violated[:1]:
            asks = self.ask.estimated_cost_usd is not None or limit.kind != "cost"
            members |= {
                "window": limit.window,
                "limit_kind": limit.kind,
                "limit": written(limit.limit),
                "remaining": written(limit.remaining),
                "asked": written(limit.asked) if asks else None,
            }
        return members


def check(gateway: BudgetGateway, ask: CheckRequest, at: datetime) -> Checked:
    """What the gateway answers to a call.

    Raises:
        ProblemError: ids that cannot be.
    """
    arguments = ask.model_dump()
    ids = ask.organization_id, ask.team_id, ask.user_id, ask.agent_id
    _unusual_asks.count(ids)
    try:
        result = gateway.check(**arguments)
        explanation = None if result.allowed else gateway.explain(**arguments)
    except ValueError as error:
        raise ProblemError("invalid-request", str(error)) from None
    if explanation is not None and not explanation.result.allowed:
        result = explanation.result  # so that the sentence and the numbers are of one moment
    return Checked(ask, result, explanation, at, rate_limits(gateway, scope_keys(*ids), at))


class _UnusualAsks:
    """Counts the calls with long ids, which would fill the memory with keys of scopes."""

    def __init__(self) -> None:
        self._left = UNUSUAL_ASKS_MAX

    def count(self, ids: tuple[str | None, ...]) -> None:
        text = "".join(each for each in ids if each is not None)
        if (len(text) if text.isascii() else len(text) * 4) <= IDS_LENGTH_USUAL:
            return
        self._left -= 1
        if self._left <= 0:
            self._left = UNUSUAL_ASKS_MAX
            checked_keys.cache_clear()
            forget_scope_keys()


_unusual_asks = _UnusualAsks()


def written(amount: Amount) -> str | int:
    """An amount as answers carry it: USD as a decimal string, a count as a number."""
    return amount if isinstance(amount, int) else f"{amount:f}"


def rate_limits(gateway: BudgetGateway, keys: Iterable[str], at: datetime) -> dict[str, str]:
    """The two `RateLimit` headers of scopes; none without limits."""
    least: dict[tuple[WindowKind, LimitKind], tuple[int, Limit]] = {}
    decisions, day = gateway.feed.decisions, day_ordinal(at)
    for key in keys:
        known = decisions.get(key)
        if known is None:
            continue
        used = known.stand(day).used
        for limit in known.rules.limits:
            left = limit.limit - amount_of(used[limit.window == "month"], limit.kind)
            group = limit.window, limit.kind
            if group not in least or left < least[group][0]:
                least[group] = left, limit
    if not least:
        return {}
    spans = current_windows(day)
    left_s = {kind: math.ceil((span.end - at).total_seconds()) for kind, span in spans.items()}
    policies, limits = [], []
    for left, limit in least.values():
        window, kind = limit.window, limit.kind
        name = f'"{window}-{_WORDS[kind]}"'
        quota = _quota(limit.limit, kind)
        policies.append(f"{name};q={quota}{_UNITS[kind]};w={spans[window].lasts_s}")
        limits.append(f"{name};r={_quota(left, kind)};t={left_s[window]}")
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(limits)}


class Span(NamedTuple):
    """When a window ends, and how long it lasts."""

    end: datetime
    lasts_s: int


@lru_cache(maxsize=DAYS_CACHE_MAX)
def current_windows(day: int) -> dict[WindowKind, Span]:
    """The day and the month of a day ordinal."""
    windows = map(Window, window_names(day))
    return {
        each.kind: Span(each.end, int((each.end - each.start).total_seconds())) for each in windows
    }


def _quota(amount: int, kind: LimitKind) -> int:
    units = amount // NANO_PER_MICRO if kind == "cost" else amount
    return min(max(units, 0), SF_INTEGER_MAX)
