"""Budgets of all scopes: `client.budgets`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from outlay.budget import Budget, State
from outlay.client.addresses import scope_key
from outlay.client.amounts import AnsweredBudget, encode, fields_of, make_plain, usd
from outlay.client.calls import Answer, Ask, Page, reading, reading_page
from outlay.client.explanation import Explanation
from outlay.client.operations import R, Resource, all_of, operation
from outlay.client.writes import IfVersion, idempotency, if_match, if_match_or_none, nothing
from outlay.money import Money
from outlay.scope import Scope, ScopeKind

PAGE_SIZE = 100
"""How many items a page holds by default; 500 at most."""

_PATH = "/api/v1/budgets/{scope}"


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What a window has used; `tokens` are input and output together."""

    cost_usd: Decimal
    executions: int
    tokens: int
    input_tokens: int
    output_tokens: int


class Remaining(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of each limit, negative where it is passed; None without a limit."""

    cost_usd: Decimal | None = None
    executions: int | None = None
    tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class BudgetWindow(msgspec.Struct, frozen=True, kw_only=True):
    """The current day or month, from `start` up to and without `end`."""

    start: datetime
    end: datetime
    used: Used
    remaining: Remaining


class BudgetWindows(msgspec.Struct, frozen=True, kw_only=True):
    """The current day and the current month, in UTC."""

    day: BudgetWindow
    month: BudgetWindow


class ScopeBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A scope's budget, its version and state, and what is used of it.

    `scope` is the scope's key. `usage_percentage` is the highest used share of any limit, as a
    fraction. `alerts` says whose alert configuration holds, None while that is not known. `stale`
    says that the decisions feed is silent, so that all may be out of date.
    """

    scope: str
    kind: ScopeKind
    organization_id: str
    team_id: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    version: int
    state: State
    usage_percentage: Decimal
    budget: AnsweredBudget
    windows: BudgetWindows
    alerts: Literal["budget", "organization", "default"] | None = None
    stale: bool = False

    def __post_init__(self) -> None:
        make_plain(self, "budget")


class BudgetWarning(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that is below what its window has used already: it holds from now on."""

    field: str
    limit: Decimal
    used: Decimal
    message: str = ""


class WrittenBudget(ScopeBudget, frozen=True, kw_only=True):
    """A budget after a write; `created` says that there was none before."""

    warnings: tuple[BudgetWarning, ...] = ()
    created: bool = False


_read_written = reading(WrittenBudget)


class Budgets(Resource[R]):
    """Budgets of organizations, teams, users, members and agents.

    A scope is a `Scope`, or its key: `organization:acme/team:search`. Writes are answered when they
    are in force. With `if_version` one changes no other version than that (0: there is none,
    `"any"`: there is one); else it raises `VersionMismatch`. Each has an `Idempotency-Key`, which
    its retries keep: it is carried out once. Give your own to try again later.
    """

    @operation("GET", _PATH)
    def get(self, scope: Scope | str, *, min_version: int | None = None) -> Ask[ScopeBudget]:
        """A scope's budget; with `min_version` once that version is seen, or a later one."""
        return Ask(
            read=reading(ScopeBudget),
            path={"scope": scope_key(scope)},
            query={"min_version": min_version},
        )

    @operation("PUT", _PATH)
    def put(
        self,
        scope: Scope | str,
        budget: Budget | Mapping[str, Any],
        *,
        if_version: IfVersion = None,
        idempotency_key: str | None = None,
    ) -> Ask[WrittenBudget]:
        """Set the whole budget of a scope, or make one."""
        fields = msgspec.to_builtins(budget) if isinstance(budget, Budget) else fields_of(budget)
        return _write(scope, fields, if_version, idempotency_key)

    @operation("PATCH", _PATH)
    def patch(
        self,
        scope: Scope | str,
        changes: Mapping[str, Any],
        *,
        if_version: IfVersion = None,
        idempotency_key: str | None = None,
    ) -> Ask[WrittenBudget]:
        """Change some fields of a budget, or make one; a limit of None is taken away."""
        return _write(scope, fields_of(changes), if_version, idempotency_key)

    @operation("DELETE", _PATH)
    def delete(
        self,
        scope: Scope | str,
        *,
        if_version: IfVersion = None,
        idempotency_key: str | None = None,
    ) -> Ask[None]:
        """Take a budget away."""
        return Ask(
            read=nothing,
            path={"scope": scope_key(scope)},
            headers=if_match(if_version) | idempotency(idempotency_key),
        )

    @operation("GET", "/api/v1/budgets")
    def page(
        self,
        *,
        organization_id: str | None = None,
        kind: ScopeKind | None = None,
        state: State | None = None,
        page_size: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> Ask[Page[ScopeBudget]]:
        """Some of the budgets that the key sees, by the keys of their scopes."""
        return Ask(
            read=reading_page(ScopeBudget, cursor),
            query={
                "organization_id": organization_id,
                "kind": kind,
                "state": state,
                "limit": page_size,
                "cursor": cursor,
            },
        )

    @operation("GET", f"{_PATH}/explain")
    def explain(
        self,
        scope: Scope | str,
        *,
        estimated_cost_usd: Money | None = None,
        estimated_input_tokens: int = 0,
        estimated_output_tokens: int = 0,
        executions: int = 0,
    ) -> Ask[Explanation]:
        """A budget's totals, limits and last changes, and the rule that decides of what is asked.

        Without anything asked the rule says how the budget stands.
        """
        return Ask(
            read=reading(Explanation),
            path={"scope": scope_key(scope)},
            query={
                "estimated_cost_usd": usd(estimated_cost_usd),
                "estimated_input_tokens": estimated_input_tokens,
                "estimated_output_tokens": estimated_output_tokens,
                "executions": executions,
            },
        )

    @all_of(page)
    def list(
        self,
        *,
        organization_id: str | None = None,
        kind: ScopeKind | None = None,
        state: State | None = None,
        page_size: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> None:
        """All budgets that the key sees, page by page, by the keys of their scopes."""


def _write(
    scope: Scope | str,
    fields: dict[str, Any],
    if_version: IfVersion,
    idempotency_key: str | None,
) -> Ask[WrittenBudget]:
    return Ask(
        read=_written,
        path={"scope": scope_key(scope)},
        headers=if_match_or_none(if_version) | idempotency(idempotency_key),
        content=encode(fields),
    )


def _written(answer: Answer) -> WrittenBudget:
    return msgspec.structs.replace(_read_written(answer), created=answer.status == 201)
