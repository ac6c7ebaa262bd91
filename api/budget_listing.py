"""Budgets of many scopes: a list in pages, sorted by the keys of the scopes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from starlette.requests import Request

from api.budget_view import budget_body
from api.callers import Caller, needs
from api.paging import PAGE_ITEMS_DEFAULT, PageCursor, PageLimit, cursor_after, position_of
from api.problems import ProblemError, described
from api.scope_paths import BUDGETS_PATH
from api.services import Services, services
from outlay.budget import State, evaluate
from outlay.scope import ID_LENGTH_MAX, Scope, ScopeKind
from outlay.standing import KnownBudget
from outlay.window import day_ordinal
from schemas import http
from schemas.http_budgets import BudgetPage

COLLECTION = "budgets"

SEARCHED_MAX = 20_000
"""How many budgets one page looks at: a filter that fits few of them ends its page early."""

router = APIRouter(
    prefix=BUDGETS_PATH,
    tags=["budgets"],
    responses=described("invalid-request", "feed-unavailable"),
)


@dataclass(frozen=True, slots=True)
class Search:
    """What is listed: budgets that the caller sees and that fit, behind a key."""

    sees: Callable[[str], bool]
    organization_id: str | None
    kind: ScopeKind | None
    state: State | None
    after: str
    limit: int
    day: int

    def run(self, decisions: Mapping[str, KnownBudget]) -> tuple[list[KnownBudget], str | None]:
        """The budgets of one page, and the key that the next begins behind; None: it was the last.

        Safe beside the thread that follows the decisions.
        """
        found: list[KnownBudget] = []
        for number, key in enumerate(keys := self._keys(decisions)):
            known = decisions.get(key)
            if known is not None and self._fits(key, known):  # it may be gone by now
                found.append(known)
            if len(found) == self.limit or number + 1 == SEARCHED_MAX:
                return found, key if number + 1 < len(keys) else None
        return found, None

    def _keys(self, decisions: Mapping[str, KnownBudget]) -> list[str]:
        keys: Iterator[str] = (key for key in list(decisions) if key > self.after)
        if self.organization_id is not None:
            own = Scope(self.organization_id).key
            within = f"{own}/"
            keys = (key for key in keys if key == own or key.startswith(within))
        return sorted(keys)

    def _fits(self, key: str, known: KnownBudget) -> bool:
        scope = Scope.parse(key)
        if not self.sees(scope.organization_id) or self.kind not in (None, scope.kind):
            return False
        if self.state is None:
            return True
        return evaluate(known.rules, *known.stand(self.day).used).state == self.state


@router.get("", response_model=BudgetPage)
async def list_budgets(
    request: Request,
    have: Annotated[Services, Depends(services)],
    caller: Annotated[Caller, Depends(needs("viewer"))],
    organization_id: Annotated[str | None, Query(min_length=1, max_length=ID_LENGTH_MAX)] = None,
    kind: ScopeKind | None = None,
    state: State | None = None,
    limit: PageLimit = PAGE_ITEMS_DEFAULT,
    cursor: PageCursor = None,
) -> Response:
    """The budgets that the caller sees, by the key of their scope."""
    if organization_id is not None:
        caller.check(organization_id, request.url.path)
    after = "" if cursor is None else position_of(COLLECTION, cursor)
    if not have.feed.ready:
        raise ProblemError("feed-unavailable", "the decisions feed has not caught up yet")
    at, own = have.now(), caller.organization_id if organization_id is None else organization_id
    search = Search(caller.sees, own, kind, state, after, limit, day_ordinal(at))
    # Sorting many keys takes a while, in which others are to be answered.
    found, last = await asyncio.to_thread(search.run, have.feed.decisions)
    page = BudgetPage(
        items=[
            budget_body(
                known.decision,
                at,
                have.feed.is_stale(known.decision.scope),
                have.alert_source(Scope.parse(known.decision.scope)),
            )
            for known in found
        ],
        next_cursor=None if last is None else cursor_after(COLLECTION, last),
    )
    return Response(http.encode(page), media_type="application/json")
