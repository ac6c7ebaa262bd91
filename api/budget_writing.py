"""Writing a budget: under a condition that the scope's owner decides, and once for each key.

Between the look at a budget and a write others may write. So a condition is not decided here: the
version that it expects travels in the budget request, and the owner refuses another one.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from api.etags import TAGS_MAX, Condition
from api.idempotency import RequestIds
from api.problems import ProblemError
from api.services import Services
from outlay.decision import Decision
from outlay.errors import BudgetRefused
from outlay.scope import Scope

ATTEMPTS_MAX = TAGS_MAX
"""How many versions one write may expect in turn, where its condition leaves several."""

_T = TypeVar("_T")

Ask = Callable[[int | None, str | None, float], Awaitable[_T]]
"""Sends the request, with the version to expect, its id, and how long it may take in seconds."""


@dataclass(frozen=True, slots=True)
class Written:
    """The decision that a write led to, and whether there was no budget before."""

    decision: Decision
    created: bool


@dataclass(frozen=True, slots=True)
class BudgetWrite:
    """One write to the budget of a scope."""

    have: Services
    scope: Scope
    condition: Condition
    ids: RequestIds

    async def set(self, ask: Ask[Decision]) -> Written:
        """Carry a PUT or a PATCH out.

        Raises:
            ProblemError: the condition does not hold, the key was used otherwise, or the feed is
                not there.
            BudgetRefused: the owner refused it for another reason.
            BudgetRequestTimeout: what became of it was not seen in time.
        """
        before = self._known()
        decision = await self._asked(ask, before)
        # Without a condition only the first version is new for sure; after a budget that was
        # deleted versions go on, and then what was known before has the word.
        created = self.condition.kind == "absent" or (
            self.condition.kind == "free" and (before is None or decision.version == 1)
        )
        return Written(decision, created)

    async def delete(self, ask: Ask[None]) -> None:
        """Carry a DELETE out; the same errors, and `not-found` where there is no budget."""
        try:
            await self._asked(ask, self._known())
        except BudgetRefused as error:
            if error.version == 0:
                raise ProblemError("not-found", f"there is no budget of {self.scope}") from None
            raise

    def _known(self) -> Decision | None:
        if not self.have.feed.ready:
            raise ProblemError("feed-unavailable", "the decisions feed has not caught up yet")
        known = self.have.feed.decisions.get(self.scope.key)
        if known is None:
            return None
        self.ids.check(known.decision.request_id)
        return known.decision

    async def _asked(self, ask: Ask[_T], before: Decision | None) -> _T:
        """Ask until the owner finds a version that the condition allows, or none is left.

        The attempts are numbered and their order is fixed, versions only grow, and an attempt
        under a known id gets the answer that it got then: so a write that is sent again finds the
        attempt that was carried out, and makes no other.
        """
        deadline_s = time.monotonic() + self.have.settings.api_budget_timeout_s
        current = 0 if before is None else before.version
        for attempt in range(ATTEMPTS_MAX):
            expected = self._expected(attempt, current)
            if expected is False:
                break
            left_s = max(deadline_s - time.monotonic(), 0.0)
            try:
                return await ask(expected, self.ids.of_attempt(attempt), left_s)
            except BudgetRefused as error:
                # The owner looks at the version first: another reason comes with the expected one.
                if expected is None or error.version == expected:
                    raise
                current = error.version
        has = f"the budget has version {current}" if current else "there is no budget"
        raise ProblemError("version-mismatch", f"{has}, which is not expected", version=current)

    def _expected(self, attempt: int, current: int) -> int | Literal[False] | None:
        """The version to expect in an attempt, None for any; False: no attempt is left."""
        kind, versions = self.condition
        if kind == "present":
            return current or False
        if kind == "one_of":
            return versions[attempt] if attempt < len(versions) else False
        if attempt > 0:
            return False
        return None if kind == "free" else 0
