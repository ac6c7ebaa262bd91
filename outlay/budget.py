"""Budget: what a scope may spend, and the one rule that decides.

The stream, the gateway, the enforcer and the API all ask `evaluate`, so they decide alike. It
is pure: amounts in, an answer out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec

from outlay.money import to_cents, to_nano, to_number, to_usd
from outlay.window import WindowKind

EnforcementMode = Literal["hard", "soft"]
OnStale = Literal["allow", "block"]
State = Literal["ok", "warning", "degraded", "exceeded"]
LimitKind = Literal["cost", "executions", "tokens", "input_tokens", "output_tokens"]

LIMIT_KINDS: tuple[LimitKind, ...] = get_args(LimitKind)

STATES: tuple[State, ...] = ("ok", "warning", "degraded", "exceeded")
"""From the mildest to the strictest."""

LIMIT_MAX = 10**15
"""The largest limit on a count of executions or tokens."""

WARNING_THRESHOLD = Decimal("0.75")
DEGRADATION_THRESHOLD = Decimal("0.90")
_THRESHOLD_DECIMALS = 6

_Count = Annotated[int, msgspec.Meta(ge=0, le=LIMIT_MAX)]


class Amounts(msgspec.Struct, frozen=True, gc=False):
    """What was used, or is asked for: nano-dollars, executions, input and output tokens."""

    cost_nano: int = 0
    executions: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.cost_nano + other.cost_nano,
            self.executions + other.executions,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
        )


NOTHING = Amounts()


class Budget(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Limits of one scope; an absent limit is no limit, zero blocks whatever would add to it.

    Amounts are in USD, thresholds are fractions of a limit in (0, 1] with at most six decimals
    and the warning not above the degradation. A `hard` budget blocks, a `soft` one degrades.
    `on_stale` says what a check answers while the decisions feed is silent.

    Raises:
        ValueError: a negative limit, a threshold out of range or out of order.
    """

    daily_budget_usd: Decimal | None = None
    monthly_budget_usd: Decimal | None = None
    daily_execution_limit: _Count | None = None
    monthly_execution_limit: _Count | None = None
    daily_token_limit: _Count | None = None
    monthly_token_limit: _Count | None = None
    daily_input_token_limit: _Count | None = None
    monthly_input_token_limit: _Count | None = None
    daily_output_token_limit: _Count | None = None
    monthly_output_token_limit: _Count | None = None
    warning_threshold: Decimal = WARNING_THRESHOLD
    degradation_threshold: Decimal = DEGRADATION_THRESHOLD
    enforcement_mode: EnforcementMode = "hard"
    on_stale: OnStale = "allow"

    def __post_init__(self) -> None:
        for name in LIMIT_FIELDS:
            limit = getattr(self, name)
            if limit is None:
                continue
            if name.endswith("_usd"):
                if to_nano(limit) < 0:
                    raise ValueError(f"{name} must not be negative")
                if limit and not to_nano(limit):
                    raise ValueError(f"{name} is below a nano-dollar, and not zero")
                _set(self, name, Decimal(to_usd(to_nano(limit))))
            elif type(limit) is not int or not 0 <= limit <= LIMIT_MAX:
                raise ValueError(f"{name} must be a whole number, from 0 to {LIMIT_MAX}")
        for name in ("warning_threshold", "degradation_threshold"):
            _set(self, name, threshold(name, getattr(self, name)))
        if self.warning_threshold > self.degradation_threshold:
            raise ValueError("warning_threshold must not be above degradation_threshold")
        if self.enforcement_mode not in get_args(EnforcementMode):
            raise ValueError(f"enforcement_mode must be hard or soft, not {self.enforcement_mode}")
        if self.on_stale not in get_args(OnStale):
            raise ValueError(f"on_stale must be allow or block, not {self.on_stale}")

    def changed(self, changes: Mapping[str, Any]) -> Budget:
        """This budget with some fields changed; a limit of None is taken away.

        Raises:
            ValueError: an unknown field, or a value that a budget cannot have.
        """
        fields = {name: getattr(self, name) for name in self.__struct_fields__} | dict(changes)
        for name in ("warning_threshold", "degradation_threshold", "enforcement_mode", "on_stale"):
            if fields[name] is None:  # None means the default where there must be a value
                del fields[name]
        return msgspec.convert(fields, Budget)


LIMIT_FIELDS: tuple[str, ...] = tuple(
    name for name in Budget.__struct_fields__ if name.endswith(("_usd", "_limit"))
)


_set = msgspec.structs.force_setattr  # the struct is frozen, and made canonical before that


def threshold(name: str, value: object) -> Decimal:
    """A share of a limit, in (0, 1]; a float counts as its shortest text.

    Raises:
        ValueError: no number, out of range, or of more than six decimals.
    """
    try:
        share = to_number(value)  # type: ignore[arg-type] # it looks at the type itself
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, not {value!r}") from None
    if not 0 < share <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1")
    exponent = share.as_tuple().exponent
    assert isinstance(exponent, int)  # it is finite
    if exponent < -_THRESHOLD_DECIMALS:
        raise ValueError(f"{name} must have at most {_THRESHOLD_DECIMALS} decimals")
    return share


class Limit(NamedTuple):
    """One limit in the unit of its amount, and from which amounts on it warns and degrades."""

    window: WindowKind
    kind: LimitKind
    limit: int
    warning_at: int
    degradation_at: int


class Rules:
    """A budget made ready for `evaluate`: its limits, in the order in which they are checked."""

    __slots__ = ("budget", "limits")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.limits = tuple(_limits(budget))


_ORDER: tuple[tuple[str, WindowKind, LimitKind], ...] = (
    ("monthly_budget_usd", "month", "cost"),
    ("daily_budget_usd", "day", "cost"),
    ("monthly_execution_limit", "month", "executions"),
    ("daily_execution_limit", "day", "executions"),
    ("monthly_token_limit", "month", "tokens"),
    ("daily_token_limit", "day", "tokens"),
    ("monthly_input_token_limit", "month", "input_tokens"),
    ("daily_input_token_limit", "day", "input_tokens"),
    ("monthly_output_token_limit", "month", "output_tokens"),
    ("daily_output_token_limit", "day", "output_tokens"),
)


def limits_of(budget: Budget) -> Iterator[tuple[WindowKind, LimitKind, int]]:
    """The limits that a budget has, in the unit of their amounts."""
    for field, window, kind in _ORDER:
        value = getattr(budget, field)
        if value is not None:
            yield window, kind, to_nano(value) if kind == "cost" else value


def _limits(budget: Budget) -> Iterator[Limit]:
    warning, degradation = budget.warning_threshold, budget.degradation_threshold
    for window, kind, limit in limits_of(budget):
        yield Limit(window, kind, limit, _from(limit, warning), _from(limit, degradation))


def _from(limit: int, share: Decimal) -> int:
    """The least amount that is a share of a limit or above; in integers, which nothing rounds."""
    part, whole = share.as_integer_ratio()
    return -(-limit * part // whole)


class Evaluation(NamedTuple):
    """What a budget says to a call.

    `state` compares what is used with the limits, before the call. `blocked_by` is the first
    limit that the call would pass, also where a soft budget then allows it with `degraded`;
    `tightest` is the limit with the highest used share, None without limits.
    """

    state: State
    allowed: bool
    degraded: bool
    blocked_by: Limit | None
    tightest: Limit | None


def evaluate(rules: Rules, day: Amounts, month: Amounts, asked: Amounts = NOTHING) -> Evaluation:
    """The one rule: a call is allowed when, for each limit, used + asked ≤ limit.

        >>> rules = Rules(Budget(monthly_budget_usd=Decimal(10)))
        >>> nine = Amounts(cost_nano=9_000_000_000)
        >>> said = evaluate(rules, nine, nine, Amounts(cost_nano=1_000_000_000))
        >>> said.state, said.allowed
        ('degraded', True)

    Args:
        rules: the budget.
        day: what the current day has used.
        month: what the current month has used.
        asked: what the call would add.
    """
    level = 0
    blocked_by = tightest = None
    used_max, limit_max = 0, 1
    for limit in rules.limits:
        used = amount_of(day if limit.window == "day" else month, limit.kind)
        if blocked_by is None and used + amount_of(asked, limit.kind) > limit.limit:
            blocked_by = limit
        if used >= limit.warning_at and level < 3:
            at = 3 if used >= limit.limit else 2 if used >= limit.degradation_at else 1
            level = max(level, at)
        if tightest is None or _above(used, limit.limit, used_max, limit_max):
            tightest, used_max, limit_max = limit, used, limit.limit
    hard = rules.budget.enforcement_mode == "hard"
    degraded = level >= 2 or (blocked_by is not None and not hard)
    return Evaluation(STATES[level], blocked_by is None or not hard, degraded, blocked_by, tightest)


def _above(used: int, limit: int, other_used: int, other_limit: int) -> bool:
    """Whether used/limit is above the other; a limit of zero is above all."""
    if limit == 0 or other_limit == 0:
        return limit == 0 and other_limit != 0
    return used * other_limit > other_used * limit


def amount_of(amounts: Amounts, kind: LimitKind) -> int:
    """The amount that a limit of this kind looks at."""
    if kind == "cost":
        return amounts.cost_nano
    if kind == "executions":
        return amounts.executions
    if kind == "tokens":
        return amounts.input_tokens + amounts.output_tokens
    return amounts.input_tokens if kind == "input_tokens" else amounts.output_tokens


_KIND_WORDS: dict[LimitKind, str] = {
    "cost": "budget",
    "executions": "execution limit",
    "tokens": "token limit",
    "input_tokens": "input token limit",
    "output_tokens": "output token limit",
}


def describe(limit: Limit, day: Amounts, month: Amounts, asked: Amounts) -> str:
    """The sentence that says which limit a call would pass, with the amounts."""
    used = amount_of(day if limit.window == "day" else month, limit.kind)
    more = amount_of(asked, limit.kind)
    window = "daily" if limit.window == "day" else "monthly"
    if limit.kind == "cost":
        amounts = (
            f"${to_cents(used)} used + ${to_cents(more)} asked > ${to_cents(limit.limit)} limit"
        )
    else:
        amounts = f"{used} used + {more} asked > {limit.limit} limit"
    return f"{window} {_KIND_WORDS[limit.kind]} exceeded: {amounts}"
