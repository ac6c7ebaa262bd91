"""What one reading of the decisions topic has led to. Pure: messages in, changes out."""

from __future__ import annotations

from typing import NamedTuple

from outlay.decision import (
    OUTCOME_PREFIX,
    WATERMARK_KEY,
    Decision,
    Outcome,
    Watermark,
    decode_decision,
    decode_outcome,
    decode_watermark,
)
from outlay.reading import Message
from outlay.standing import KnownBudget

OUTCOMES_MAX = 10_000
"""How many outcomes are remembered for those who wait for one."""


class Change(NamedTuple):
    """A scope's decision is another now, or gone (None)."""

    scope_key: str
    decision: Decision | None


class FeedState:
    """The decisions, watermarks and outcomes that the messages so far add up to.

    `seen_s` says when each partition's last watermark was seen, `oldest_seen_s` when the one that
    is seen longest ago was: minus infinity while a partition has none.

    `generation` is another object after each change of `decisions`, and None in the midst of one:
    what was made of them in one generation holds while it is that one. It is to be read first.
    Once ready it stays so.
    """

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.ready = False
        self.decisions: dict[str, KnownBudget] = {}
        self.generation: object | None = object()
        self.outcomes: dict[str, Outcome] = {}
        self.watermarks: dict[int, Watermark] = {}
        self.seen_s: dict[int, float] = {}
        self.oldest_seen_s = float("-inf")

    def apply(self, message: Message, now_s: float, wall_s: float) -> Change | None:
        """Take a message in; what it changes for a scope.

        `now_s` is on the clock that ages are told by, `wall_s` in seconds since the epoch.

        Raises:
            ValueError: it cannot be read.
        """
        key, value = message.key, message.value
        if key is None:
            raise ValueError("a message without a key")
        if key == WATERMARK_KEY:
            if value is not None:
                self._see(message.partition, decode_watermark(value), now_s, wall_s)
            return None
        if key.startswith(OUTCOME_PREFIX):
            if value is not None:
                self._remember(decode_outcome(value))
            return None
        return self._decide(key.decode(), message)

    def _decide(self, scope_key: str, message: Message) -> Change | None:
        previous = self.decisions.get(scope_key)
        if message.value is None:
            if previous is None:
                return None
            self.generation = None
            del self.decisions[scope_key]
            self.generation = object()
            return Change(scope_key, None)
        decision = decode_decision(message.value)
        if decision.scope != scope_key:
            raise ValueError(f"the decision of {decision.scope!r} under the key {scope_key!r}")
        known = KnownBudget(decision, message.partition, previous)
        self.generation = None
        self.decisions[scope_key] = known
        self.generation = object()
        return Change(scope_key, decision)

    def _see(self, partition: int, watermark: Watermark, now_s: float, wall_s: float) -> None:
        age_s = 0.0
        if not self.ready:
            # It may have lain there for long: here, and only here, its own date counts. Where the
            # clocks differ, the next watermark puts it right within a second.
            age_s = max(wall_s - watermark.published_at.timestamp(), 0.0)
        self.watermarks[partition] = watermark
        self.seen_s[partition] = now_s - age_s
        if len(self.seen_s) >= self.partitions:
            self.oldest_seen_s = min(self.seen_s.values())

    def _remember(self, outcome: Outcome) -> None:
        self.outcomes[outcome.request_id] = outcome
        if len(self.outcomes) > OUTCOMES_MAX:
            del self.outcomes[next(iter(self.outcomes))]  # the one that came first


def changes_between(old: FeedState, new: FeedState) -> list[Change]:
    """What is another in the new state, and what is gone from it."""
    changes = [
        Change(key, known.decision)
        for key, known in new.decisions.items()
        if key not in old.decisions or old.decisions[key].decision != known.decision
    ]
    changes += [Change(key, None) for key in old.decisions if key not in new.decisions]
    return changes
