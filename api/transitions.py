"""Transitions: when budgets changed their state, as far as this process has seen."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import NamedTuple, Self

from outlay.budget import State
from outlay.decision import Decision
from outlay.feed import DecisionFeed

SCOPES_MAX = 10_000
"""Of how many scopes changes are remembered: those that changed last."""

TRANSITIONS_PER_SCOPE_MAX = 20
"""How many changes of one scope are remembered."""


class Transition(NamedTuple):
    """From one state to another; `at` is when the decision was published.

    `offsets` says what the decision contains: by window, of each partition of the usage topic.
    """

    at: datetime
    from_state: State
    to_state: State
    version: int
    offsets: dict[str, dict[int, int]]


class Transitions:
    """Listens to a feed from its `with` block's begin to its end; read from any thread.

    What was before is not known: of a scope that is seen for the first time only the state is
    remembered, and that takes one entry for each budget there is. A budget that is deleted leaves
    nothing behind.
    """

    def __init__(self, feed: DecisionFeed, now: Callable[[], datetime]) -> None:
        self.since = now()
        self._feed = feed
        self._states: dict[str, State] = {}
        self._changes: OrderedDict[str, deque[Transition]] = OrderedDict()

    def __enter__(self) -> Self:
        self._feed.add_listener(self)
        # A feed that has caught up before says nothing of what it knows.
        for key, known in dict(self._feed.decisions).items():
            self._states.setdefault(key, known.decision.state)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._feed.remove_listener(self)

    def __call__(self, scope_key: str, decision: Decision | None, /) -> None:
        """What the feed tells, on its thread."""
        if decision is None:
            self._states.pop(scope_key, None)
            self._changes.pop(scope_key, None)
            return
        before = self._states.get(scope_key)
        self._states[scope_key] = decision.state
        if before is None or before == decision.state:
            return
        changes = self._changes.setdefault(scope_key, deque(maxlen=TRANSITIONS_PER_SCOPE_MAX))
        offsets = {name: usage.offsets for name, usage in decision.windows.items()}
        changes.append(
            Transition(decision.published_at, before, decision.state, decision.version, offsets)
        )
        self._changes.move_to_end(scope_key)
        if len(self._changes) > SCOPES_MAX:
            self._changes.popitem(last=False)

    def of(self, scope_key: str) -> list[Transition]:
        """The last changes of a scope, the newest first."""
        changes = self._changes.get(scope_key)
        return [] if changes is None else list(changes)[::-1]
