"""Standing: what is known of a scope's budget, made ready so that a check costs next to nothing."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from outlay.budget import NOTHING, Amounts, Rules, State, amount_of, evaluate
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
    is negative, and else so little that no call fits.
    """

    __slots__ = (
        "allowed",
        "cost_room",
        "day",
        "executions_room",
        "input_tokens_room",
        "output_tokens_room",
        "plain_cost_room",
        "remaining_usd",
        "tokens_room",
        "used",
    )

    def __init__(self, rules: Rules, day: int, used: tuple[Amounts, Amounts]) -> None:
        self.day = day
        self.used = used
        evaluation = evaluate(rules, *used)
        plain = evaluation.state == "ok" and not evaluation.degraded
        rooms = {"cost": UNLIMITED, "executions": UNLIMITED, "tokens": UNLIMITED}
        rooms |= {"input_tokens": UNLIMITED, "output_tokens": UNLIMITED}
        for limit in rules.limits:
            left = limit.limit - amount_of(used[limit.window == "month"], limit.kind)
            rooms[limit.kind] = min(rooms[limit.kind], left)
        self.cost_room = rooms["cost"]
        self.plain_cost_room = self.cost_room if plain else -1
        self.executions_room = rooms["executions"]
        self.tokens_room = rooms["tokens"]
        self.input_tokens_room = rooms["input_tokens"]
        self.output_tokens_room = rooms["output_tokens"]
        self.remaining_usd: Decimal | None = None
        if self.cost_room != UNLIMITED:
            self.remaining_usd = Decimal(to_usd(self.cost_room))
        # Ready-made, for a call that this scope leaves the least.
        self.allowed = CheckResult(remaining_usd=self.remaining_usd)


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
