"""HTTP bodies of budgets: what sets and changes one, and what is answered of it.

Amounts in USD and shares are decimal strings in answers; requests may write numbers or strings.
The `budget` of an answer is what a PUT takes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from outlay.budget import Budget, EnforcementMode, OnStale, State
from outlay.scope import ScopeKind
from schemas import http
from schemas.http import UsdString
from schemas.http_alerts import AlertSource

_PUT_EXAMPLE: dict[str, Any] = {
    "monthly_budget_usd": "500.00",
    "daily_execution_limit": 1000,
    "warning_threshold": "0.75",
    "degradation_threshold": "0.90",
    "enforcement_mode": "hard",
    "on_stale": "allow",
}

_PATCH_EXAMPLE: dict[str, Any] = {"monthly_budget_usd": "750.00", "daily_execution_limit": None}


def _utc(value: object) -> str:
    if value != "UTC":
        raise ValueError("must be UTC: days and months of other timezones are not kept (yet)")
    return "UTC"


_Utc = Annotated[str, BeforeValidator(_utc), WithJsonSchema({"type": "string", "const": "UTC"})]


class _Fields(http.BudgetConfigPatch):
    timezone: _Utc = "UTC"

    def given(self) -> dict[str, Any]:
        """The budget's fields that were given, as a budget request carries them."""
        fields = super().changes() if self.model_fields_set else {}
        return {name: value for name, value in fields.items() if name != "timezone"}


class BudgetPut(_Fields):
    """A whole budget: a limit that is absent or null is no limit, zero blocks what would add to it.

    Amounts are USD, rounded half-even to nine decimals; thresholds are fractions in (0, 1], the
    warning not above the degradation.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_PUT_EXAMPLE]})

    def budget(self) -> Budget:
        """The budget.

        Raises:
            ValueError: the thresholds are out of order.
        """
        return Budget().changed(self.given())


class BudgetPatch(_Fields):
    """Fields of a budget to change, as a JSON merge patch (RFC 7396).

    A limit of null is taken away; any other field of null is what it is by default.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "minProperties": 1,
            "examples": [{"monthly_budget_usd": "750.00", "daily_token_limit": None}],
        }
    )

    def changes(self) -> dict[str, Any]:
        """The fields that were given, as a budget request carries them.

        Raises:
            ValueError: none was.
        """
        given = self.given()
        if not given:
            raise ValueError("name at least one field to change")
        return given


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


class BudgetFields(_Body):
    """A budget as it was set; a limit of null is no limit."""

    daily_budget_usd: UsdString | None
    monthly_budget_usd: UsdString | None
    daily_execution_limit: int | None
    monthly_execution_limit: int | None
    daily_token_limit: int | None
    monthly_token_limit: int | None
    daily_input_token_limit: int | None
    monthly_input_token_limit: int | None
    daily_output_token_limit: int | None
    monthly_output_token_limit: int | None
    warning_threshold: str
    degradation_threshold: str
    enforcement_mode: EnforcementMode
    on_stale: OnStale
    timezone: Literal["UTC"] = "UTC"


class Used(_Body):
    """What a window has used; `tokens` are input and output together."""

    cost_usd: UsdString
    executions: int
    tokens: int
    input_tokens: int
    output_tokens: int


class Remaining(_Body):
    """What is left of each limit, negative where it is passed; null without a limit."""

    cost_usd: UsdString | None
    executions: int | None
    tokens: int | None
    input_tokens: int | None
    output_tokens: int | None


class BudgetWindow(_Body):
    """The current day or month, from `start` up to and without `end`."""

    start: datetime
    end: datetime
    used: Used
    remaining: Remaining


class BudgetWindows(_Body):
    """The current day and the current month, in UTC."""

    day: BudgetWindow
    month: BudgetWindow


class BudgetBody(_Body):
    """A scope's budget, its version and state, and what is used of it.

    `usage_percentage` is the highest used share of any limit, as a fraction, which the state is
    decided by. `stale` says that the decisions feed is silent, so that all may be out of date.
    `alerts` says whose alert configuration holds: the budget's own, that of its organization's
    budget, or the default, which sends to nobody; null while that is not known.
    """

    scope: str
    kind: ScopeKind
    organization_id: str
    team_id: str | None
    user_id: str | None
    agent_id: str | None
    version: int
    state: State
    usage_percentage: str
    budget: BudgetFields
    windows: BudgetWindows
    alerts: AlertSource | None
    stale: bool


class BudgetWarning(_Body):
    """A limit that is below what its window has used already."""

    field: str
    limit: str
    used: str
    message: str


class BudgetWritten(BudgetBody):
    """A budget after a write, with what may surprise whoever wrote it."""

    warnings: list[BudgetWarning] = Field(
        description="Limits that are below what is used already: they hold from now on."
    )


class BudgetPage(_Body):
    """Budgets sorted by the keys of their scopes; `next_cursor` asks for those behind them.

    A page may hold fewer than asked for and still have a next one.
    """

    items: list[BudgetBody]
    next_cursor: str | None
