"""Writing a budget: under a condition that the scope's owner decides, and once for each key.

Between the look at a budget and a write others may write. So a condition is not decided here: the
version that it expects travels in the budget request, and the owner refuses another one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple, TypeVar

from api.etags import LATEST, TAGS_MAX, Condition
from api.idempotency import RequestIds
from api.problems import ProblemError
from api.services import Services
from outlay.decision import Decision
from outlay.errors import BudgetRefused, BudgetRequestTimeout
from outlay.scope import Scope

ATTEMPTS_MAX = TAGS_MAX
"""How many versions one write may expect in turn, where its condition leaves several."""

_T = TypeVar("_T")

Ask = Callable[..., Awaitable[_T]]
"""A method of `Budgets`, bound to a scope and what is asked for; `BudgetWrite` adds the rest."""


@dataclass(frozen=True, slots=True)
class Written:
    """The decision that a write led to, and whether there was no budget before."""

    decision: Decision
    created: bool


class _Request(NamedTuple):
    """One attempt at a write."""

    expected_version: int | None
    id: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class BudgetWrite:
    """One write to the budget of a scope."""

    have: Services
    scope: Scope
    condition: Condition
    ids: RequestIds
    requested_by: str

    async def set(self, ask: Ask[Decision]) -> Written:
        """Carry a PUT or a PATCH out.

        Raises:
            ProblemError: the condition does not hold, the key was used otherwise, the budget was
                deleted since, or the feed is not there.
            BudgetRefused: the owner refused it for another reason.
            BudgetRequestTimeout: what became of it was not seen in time.
        """
        before = self._known()
        decision = await self._attempts(partial(self._set, ask), before)
        # Without a condition only the first version is new for sure; after a budget that was
        # deleted versions go on, and then what was known before has the word.
        created = self.condition.kind == "absent" or (
            self.condition.kind == "free" and (before is None or decision.version == 1)
        )
        return Written(decision, created)

    async def delete(self, ask: Ask[None]) -> int | None:
        """Carry a DELETE out: which version was taken away; None where it is not known any more.

        Raises the same errors, and `not-found` where there is no budget.
        """
        latest = replace(self, condition=LATEST) if self.condition.kind == "free" else self
        try:
            return await latest._attempts(partial(self._delete, ask), self._known())
        except BudgetRefused as error:
            if error.version == 0:
                raise ProblemError("not-found", f"there is no budget of {self.scope}") from None
            raise

    async def _set(self, ask: Ask[Decision], request: _Request) -> Decision:
        """Ask, and see meanwhile whether the decision that is waited for is gone already."""
        asking = asyncio.ensure_future(self._ask(ask, request))
        looking = asyncio.ensure_future(
            self.have.feed.await_until(lambda: self._gone(request), request.timeout_s)
        )
        try:
            done, _ = await asyncio.wait({asking, looking}, return_when=asyncio.FIRST_COMPLETED)
            if asking in done or looking.exception() is not None:
                return await asking
            version = looking.result()
        except BudgetRequestTimeout:
            if (gone := self._gone(request)) is None:
                raise
            version = gone
        finally:
            asking.cancel()
            looking.cancel()
            await asyncio.gather(asking, looking, return_exceptions=True)
        detail = (
            f"this was carried out, as version {version}, and the budget was deleted since: to set"
            " it again, ask without this Idempotency-Key"
        )
        raise ProblemError("budget-deleted", detail, version=version)

    def _gone(self, request: _Request) -> int | None:
        """The version that a request led to, if its budget is not there any more.

        An outcome stands behind the decision of its request.
        """
        outcome = self.have.feed.outcome(request.id)
        known = self.have.feed.decisions.get(self.scope.key)
        if outcome is None or not outcome.accepted or known is not None:
            return None
        return outcome.version

    async def _delete(self, ask: Ask[None], request: _Request) -> int | None:
        await self._ask(ask, request)
        return request.expected_version

    async def _ask(self, ask: Ask[_T], request: _Request) -> _T:
        return await ask(
            expected_version=request.expected_version,
            request_id=request.id,
            requested_by=self.requested_by,
            timeout_s=request.timeout_s,
        )

    def _known(self) -> Decision | None:
        if not self.have.feed.ready:
            raise ProblemError("feed-unavailable", "the decisions feed has not caught up yet")
        known = self.have.feed.decisions.get(self.scope.key)
        if known is None:
            return None
        self.ids.check(known.decision.request_id)
        return known.decision

    async def _attempts(
        self, attempt: Callable[[_Request], Awaitable[_T]], before: Decision | None
    ) -> _T:
        """Ask until the owner finds a version that the condition allows, or none is left.

        The attempts are numbered and their order is fixed, versions only grow, and an attempt
        under a known id gets the answer that it got then: so a write that is sent again finds the
        attempt that was carried out, and makes no other.
        """
        deadline_s = time.monotonic() + self.have.settings.api_budget_timeout_s
        current = 0 if before is None else before.version
        for number in range(ATTEMPTS_MAX):
            expected = self._expected(number, current)
            if expected is False:
                break
            left_s = max(deadline_s - time.monotonic(), 0.0)
            try:
                return await attempt(_Request(expected, self.ids.of_attempt(number), left_s))
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
        if kind == "latest":
            return current or None if attempt < ATTEMPTS_MAX - 1 else None
        if attempt > 0:
            return False
        return None if kind == "free" else 0
