"""Standing: what is known of a scope's budget, made ready so that a check costs next to nothing."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from outlay.budget import (
    LIMIT_KINDS,
    NOTHING,
    Amounts,
    LimitKind,
    Rules,
    State,
    amount_of,
    evaluate,
)
from outlay.decision import Decision
from outlay.money import to_usd
from outlay.window import window_names

UNLIMITED = 2**256
"""A room without a limit: above any sum of amounts."""


class CheckResult(msgspec.Struct, frozen=True, gc=False):
    """What the budgets say to a call, before it is made.

    Attributes:
        allowed: whether the call may be made.
        state: the state of the budget that decided, before this call.
        degraded: whether it should be made cheaper: a budget is near its end, or over and soft.
        reason: which scope, window and amounts; empty where there is nothing to say.
        scope: the key of the scope that decided; empty where none has anything to say.
        remaining_usd: the least that is left, before this call, over the scopes with a limit in
            USD; negative where one is overspent, None where there is none.
        stale: the answer rests on decisions that may be out of date, or are not there yet.
    """

    allowed: bool = True
    state: State = "ok"
    degraded: bool = False
    reason: str = ""
    scope: str = ""
    remaining_usd: Decimal | None = None
    stale: bool = False


ALLOWED = CheckResult()


class Standing:
    """How a budget stands on one day.

    What a call may ask for at most, of each kind, without passing a limit is in `…_room`. That is
    the rule of `outlay.budget.evaluate` with the used amounts put in; a call outside it is given
    to `evaluate` itself. `plain_cost_room` is `cost_room` while the budget is `ok`, when no room
    is negative, and else so little that no call fits. Where less is used of each kind than is in
    `…_calm`, the budget still does not warn; `calm_by_cost` says that only the cost matters.
    """

    __slots__ = (
        "allowed",
        "calm_by_cost",
        "cost_calm",
        "cost_room",
        "day",
        "executions_calm",
        "executions_room",
        "input_tokens_calm",
        "input_tokens_room",
        "output_tokens_calm",
        "output_tokens_room",
        "plain_cost_room",
        "tokens_calm",
        "tokens_room",
        "used",
    )

    def __init__(self, rules: Rules, day: int, used: tuple[Amounts, Amounts]) -> None:
        self.day = day
        self.used = used
        evaluation = evaluate(rules, *used)
        plain = evaluation.state == "ok" and not evaluation.degraded
        rooms: dict[LimitKind, int] = dict.fromkeys(LIMIT_KINDS, UNLIMITED)
        calm = dict(rooms)
        for limit in rules.limits:
            kind, amount = limit.kind, amount_of(used[limit.window == "month"], limit.kind)
            rooms[kind] = min(rooms[kind], limit.limit - amount)
            calm[kind] = min(calm[kind], limit.warning_at - amount)
        self.cost_room = rooms["cost"]
        self.plain_cost_room = self.cost_room if plain else -1
        self.executions_room = rooms["executions"]
        self.tokens_room = rooms["tokens"]
        self.input_tokens_room = rooms["input_tokens"]
        self.output_tokens_room = rooms["output_tokens"]
        self.cost_calm = calm["cost"] if plain else -1
        self.executions_calm = calm["executions"]
        self.tokens_calm = calm["tokens"]
        self.input_tokens_calm = calm["input_tokens"]
        self.output_tokens_calm = calm["output_tokens"]
        self.calm_by_cost = all(limit.kind == "cost" for limit in rules.limits)
        # Ready-made, for a call that this scope leaves the least.
        self.allowed = ALLOWED
        if self.cost_room != UNLIMITED:
            self.allowed = CheckResult(remaining_usd=Decimal(to_usd(self.cost_room)))


def cost_room(rules: Rules, used: tuple[Amounts, Amounts]) -> int:
    """What a call may cost at most, in nano-dollars, where so much of day and month is used."""
    return min(
        (
            limit.limit - used[limit.window == "month"].cost_nano
            for limit in rules.limits
            if limit.kind == "cost"
        ),
        default=UNLIMITED,
    )


class KnownBudget:
    """The last decision of a scope, with its rules and amounts ready, and how it stands today.

    `partition` is that of the decisions topic it came from. Safe to read from any thread.
    """

    __slots__ = ("amounts", "decision", "partition", "rules", "standing")

    def __init__(
        self, decision: Decision, partition: int, previous: KnownBudget | None = None
    ) -> None:
        self.decision = decision
        self.partition = partition
        self.amounts = {name: usage.amounts for name, usage in decision.windows.items()}
        self.rules: Rules
        if previous is not None and previous.decision.budget == decision.budget:
            self.rules = previous.rules  # making them takes longer than all the rest
        else:
            self.rules = Rules(decision.budget)
        self.standing: Standing | None = None

    def stand(self, day: int) -> Standing:
        """How it stands on a day ordinal; kept for the next who asks for the same day."""
        standing = self.standing
        if standing is None or standing.day != day:
            day_name, month_name = window_names(day)
            used = (
                self.amounts.get(day_name, NOTHING),
                self.amounts.get(month_name, NOTHING),
            )
            standing = self.standing = Standing(self.rules, day, used)
        return standing
