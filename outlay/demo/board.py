"""The board: what the feed has told about the demo's scopes, for the display and the checks."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Collection
from typing import NamedTuple

from outlay.budget import State, amount_of
from outlay.decision import Decision
from outlay.standing import KnownBudget
from outlay.window import day_ordinal

CHANGES_MAX = 1_000
"""How many changes of state are kept until they are taken."""


class Row(NamedTuple):
    """How one scope stands: what it has spent of its tightest limit in USD, in nano-dollars."""

    scope_key: str
    state: State
    spent_nano: int
    limit_nano: int


class StateChange(NamedTuple):
    """A scope went from one state to another."""

    scope_key: str
    old: State
    new: State


class Board:
    """Follows decisions; `decided` is a listener of a feed, the rest is for other threads."""

    def __init__(self, scope_keys: Collection[str]) -> None:
        self._scope_keys = frozenset(scope_keys)
        self._lock = threading.Lock()
        self._decisions: dict[str, Decision] = {}
        self._changes: deque[StateChange] = deque(maxlen=CHANGES_MAX)
        self._seen: set[State] = set()

    def decided(self, scope_key: str, decision: Decision | None) -> None:
        """Take a change in."""
        if decision is None or scope_key not in self._scope_keys:
            return
        with self._lock:
            previous = self._decisions.get(scope_key)
            self._decisions[scope_key] = decision
            self._seen.add(decision.state)
            if previous is not None and previous.state != decision.state:
                self._changes.append(StateChange(scope_key, previous.state, decision.state))

    @property
    def states_seen(self) -> set[State]:
        """Every state that some scope was in."""
        with self._lock:
            return set(self._seen)

    def take_changes(self) -> list[StateChange]:
        """The changes of state since the last time."""
        with self._lock:
            changes = list(self._changes)
            self._changes.clear()
            return changes

    def rows(self, scope_keys: Collection[str]) -> list[Row]:
        """How these scopes stand, those that are known."""
        with self._lock:
            known = [self._decisions[key] for key in scope_keys if key in self._decisions]
        return [_row(decision) for decision in known]

    def count_states(self) -> Counter[State]:
        """How many scopes are in each state."""
        with self._lock:
            return Counter(decision.state for decision in self._decisions.values())


def _row(decision: Decision) -> Row:
    rules = KnownBudget(decision, 0).rules
    used = decision.used(day_ordinal(decision.published_at))
    spent_nano = limit_nano = 0
    for limit in rules.limits:
        if limit.kind == "cost":
            amounts = used[limit.window == "month"]
            spent_nano, limit_nano = amount_of(amounts, "cost"), limit.limit
            break
    return Row(decision.scope, decision.state, spent_nano, limit_nano)
