"""Verdict: what one scope's budget says to a call, how strictly, and the sentence for it. Pure."""

from __future__ import annotations

from typing import NamedTuple

from outlay.budget import Amounts, Evaluation, Limit, State, amount_of, describe, evaluate
from outlay.money import to_cents
from outlay.standing import KnownBudget
from outlay.window import window_names

WARNING, DEGRADED, BLOCKED = 1, 2, 3
"""How strict a verdict is; 0 has nothing to say."""


class Verdict(NamedTuple):
    """How strict it is, the budget's state before the call, and which scope says it and why."""

    rank: int
    state: State
    degraded: bool
    reason: str
    scope: str


SILENT = Verdict(0, "ok", False, "", "")


Used = tuple[Amounts, Amounts]
"""What is used of a day and of its month."""


def judge(key: str, known: KnownBudget, day: int, used: Used, asked: Amounts) -> Verdict:
    """What the budget of a scope's key says on a day, by the last known decision."""
    evaluation = evaluate(known.rules, *used, asked)
    if not evaluation.allowed:
        rank = BLOCKED
    elif evaluation.degraded:
        rank = DEGRADED
    elif evaluation.state == "warning":
        rank = WARNING
    else:
        return SILENT
    reason = _reason(key, evaluation, day, used, asked)
    return Verdict(rank, evaluation.state, evaluation.degraded, reason, key)


def judge_stale(
    key: str, known: KnownBudget, day: int, used: Used, asked: Amounts, stale_after_s: float
) -> Verdict:
    """The same while there are no decisions: the budget's `on_stale` says whether it blocks."""
    if known.decision.budget.on_stale == "allow":
        return judge(key, known, day, used, asked)
    evaluation = evaluate(known.rules, *used, asked)
    reason = (
        f"{key}: no decisions for over {stale_after_s:g} s, "
        "and this budget blocks while there are none"
    )
    return Verdict(BLOCKED, evaluation.state, evaluation.degraded, reason, key)


def _reason(key: str, evaluation: Evaluation, day: int, used: Used, asked: Amounts) -> str:
    """The sentence with scope, window and amounts, for a budget that has something to say."""
    limit = evaluation.blocked_by or evaluation.tightest
    assert limit is not None  # a budget without limits has nothing to say
    window = window_names(day)[limit.window == "month"]
    if evaluation.blocked_by is not None:
        return f"{key} in {window}: {describe(limit, *used, asked)}"
    return f"{key} in {window}: {evaluation.state}, {_used_of(limit, used)}"


def _used_of(limit: Limit, used: Used) -> str:
    amount = amount_of(used[limit.window == "month"], limit.kind)
    word = "monthly" if limit.window == "month" else "daily"
    if limit.kind == "cost":
        return f"${to_cents(amount)} used of a {word} budget of ${to_cents(limit.limit)}"
    return f"{amount} {limit.kind.replace('_', ' ')} used of a {word} limit of {limit.limit}"
