"""Decisions: which budgets' states are published, and how far the published ones reach.

A state that changed is published at once, and so are numbers that moved while they are few; many
are once per refresh. A watermark says
how far in each usage partition the published decisions reach, so it never passes a decision that
has moved and waits. After a take-over nothing is published before everything has been read that
was there by then, so that no decision steps back; then every budget's decision is, once. What
was answered follows the decision that it led to: of a budget that awaits its totals, when it is
in force.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from outlay.budget import Budget, Rules, State, evaluate
from outlay.decision import (
    OUTCOME_PREFIX,
    WATERMARK_KEY,
    Decision,
    Outcome,
    Watermark,
    encode,
)
from outlay.window import told_windows, window_names
from streams.batch import is_due
from streams.budgets import NO_BUDGET, Answer, Budgets, BudgetState
from streams.flush import Message
from streams.joined import some_at_a_time
from streams.totals import Totals

AT_ONCE_MAX = 1_000
"""How many decisions whose numbers moved are published with every flush; more wait for a refresh:
each gateway reads each of them."""

ANSWERS_WAIT_MAX = 10_000
"""How many answers may wait until their agents' budgets are in force; where there are more, the
first of them do not wait any longer."""

WATERMARK_INTERVAL_MS = 1_000
"""How often the watermark is published at least, in milliseconds."""


class Decisions:
    """What of one totals partition is to be published, and when."""

    def __init__(
        self,
        totals: Totals,
        budgets: Budgets,
        *,
        refresh_ms: int,
        at_once_max: int = AT_ONCE_MAX,
    ) -> None:
        self._totals = totals
        self._budgets = budgets
        self._refresh_ms = refresh_ms
        self._at_once_max = at_once_max
        self._moved: set[str] = set()
        self._outcomes: list[tuple[str, Answer]] = []
        self._published: dict[str, tuple[State | None, int]] = {}
        self._rules: dict[str, tuple[int, Rules]] = {}
        self._refreshed_at_ms = 0
        self._watermark_at_ms = 0
        self._watermark: dict[int, int] | None = None
        self._day = 0

    def moved(self, scopes: set[str]) -> None:
        """The totals or the budgets of some scopes, all known to the owner, may have changed."""
        self._moved |= scopes

    def answered(self, scope: str, answer: Answer) -> None:
        """A request was answered: whoever asked waits for it."""
        self._outcomes.append((scope, answer))

    @property
    def waiting(self) -> bool:
        """Whether a decision that moved is not published yet."""
        return bool(self._moved)

    def publish(self, now_ms: int) -> Iterator[Message]:
        """The messages for the decisions topic now, in their order; they count as published."""
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        if now.toordinal() != self._day:  # a day began, or the ownership did
            self._moved.update(s for s, state in self._budgets.states.items() if state.budget)
            self._day = now.toordinal()
        due = is_due(now_ms, self._refreshed_at_ms, self._refresh_ms)
        if due:
            self._refreshed_at_ms = now_ms
        due = due or len(self._moved) <= self._at_once_max
        windows = told_windows(now)
        for some in some_at_a_time(list(self._moved)):
            yield from self._publish_some(some, now, windows, due)
        yield from self._publish_outcomes(now)
        if not self._moved:
            yield from self._publish_watermark(now, now_ms)

    def _publish_some(
        self, scopes: Sequence[str], now: datetime, windows: list[str], due: bool
    ) -> Iterator[Message]:
        """Publish those of some scopes whose state has changed, or all of them if `due`."""
        held: list[tuple[str, BudgetState, Budget]] = []
        for scope in scopes:
            state = self._budgets.states.get(scope, NO_BUDGET)  # a deleted one may be forgotten
            if state.budget is None or scope in self._budgets.awaited:
                yield from self._publish_gone(scope, state)
            else:
                held.append((scope, state, state.budget))
        joined = self._totals.joined([scope for scope, _, _ in held], windows)
        used = (joined[name].amounts for name in window_names(now.toordinal()))
        levels = [
            evaluate(self._rules_of(scope, state.version, budget), day, month).state
            for (scope, state, budget), day, month in zip(held, *used, strict=True)
        ]
        new = [
            place
            for place, ((scope, state, _), level) in enumerate(zip(held, levels, strict=True))
            if due or self._published.get(scope) != (level, state.version)
        ]
        usages = {name: each.usages(new) for name, each in joined.items()}
        for place in new:
            scope, state, budget = held[place]
            self._moved.discard(scope)
            self._published[scope] = (levels[place], state.version)
            told = {name: next(each) for name, each in usages.items()}
            decision = Decision(
                scope=scope,
                version=state.version,
                state=levels[place],
                budget=budget,
                windows={name: usage for name, usage in told.items() if usage is not None},
                request_id=state.request_id,
                published_at=now,
            )
            yield scope.encode(), encode(decision)

    def _publish_gone(self, scope: str, state: BudgetState) -> Iterator[Message]:
        """There is no budget, or one that awaits its totals: there may be one from before it."""
        self._moved.discard(scope)
        self._rules.pop(scope, None)
        if self._published.get(scope) != (None, state.version):
            self._published[scope] = (None, state.version)
            yield scope.encode(), None

    def _rules_of(self, scope: str, version: int, budget: Budget) -> Rules:
        made_of, rules = self._rules.get(scope, (-1, None))
        if rules is None or made_of != version:
            rules = Rules(budget)
            self._rules[scope] = (version, rules)
        return rules

    def _publish_outcomes(self, now: datetime) -> Iterator[Message]:
        """What was answered, behind the decisions that it led to."""
        answered, self._outcomes = self._outcomes, []
        for number, (scope, answer) in enumerate(answered, 1):
            waits = answer.accepted and scope in self._budgets.awaited
            if waits and len(answered) - number < ANSWERS_WAIT_MAX:
                self._outcomes.append((scope, answer))
            else:
                yield _outcome(scope, answer, now)

    def _publish_watermark(self, now: datetime, now_ms: int) -> Iterator[Message]:
        progress = self._totals.progress
        due = is_due(now_ms, self._watermark_at_ms, WATERMARK_INTERVAL_MS)
        if self._watermark == progress and not due:
            return
        self._watermark = dict(progress)
        self._watermark_at_ms = now_ms
        yield WATERMARK_KEY, encode(Watermark(self._watermark, now))


def _outcome(scope: str, answer: Answer, now: datetime) -> tuple[bytes, bytes]:
    outcome = Outcome(answer.request_id, scope, answer.accepted, answer.version, answer.reason, now)
    return OUTCOME_PREFIX + scope.encode(), encode(outcome)
