"""HTTP bodies of checks, of the stream of decisions, and of explanations.

Amounts in USD are decimal strings in answers; requests may write numbers or strings.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from outlay.budget import LIMIT_MAX, EnforcementMode, LimitKind, OnStale, State
from outlay.money import to_nano, to_usd
from outlay.scope import ID_LENGTH_MAX, ScopeKind
from outlay.window import WindowKind
from schemas.http import UsdString
from schemas.http_budgets import BudgetFields


def _estimate_usd(value: object) -> Decimal | None:
    if value is None:
        return None
    if not isinstance(value, str | int | Decimal) or isinstance(value, bool):
        raise ValueError("must be a number or a decimal string")
    nano = to_nano(value)
    if nano < 0:
        raise ValueError("must not be negative")
    return Decimal(to_usd(nano))


_Id = Annotated[str, Field(min_length=1, max_length=ID_LENGTH_MAX)]
_Count = Annotated[int, Field(ge=0, le=LIMIT_MAX, strict=True)]
_EstimateUsd = Annotated[
    Decimal | None,
    BeforeValidator(_estimate_usd),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "null"}]}),
]


class Estimates(BaseModel):
    """What a call would add: a cost in USD that is not known (null) asks for the least there is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    estimated_cost_usd: _EstimateUsd = None
    estimated_input_tokens: _Count = 0
    estimated_output_tokens: _Count = 0
    executions: _Count = 1


class AgentCheckRequest(Estimates):
    """A call of an agent, which the path names; team and user where they count, too."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"estimated_cost_usd": "0.05", "team_id": "search"}]}
    )

    team_id: _Id | None = None
    user_id: _Id | None = None


class CheckRequest(AgentCheckRequest):
    """A call: who it counts for, and what it would add."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "organization_id": "acme",
                    "agent_id": "researcher-7",
                    "team_id": "search",
                    "estimated_cost_usd": "0.05",
                    "estimated_input_tokens": 1200,
                    "estimated_output_tokens": 400,
                }
            ]
        }
    )

    organization_id: _Id
    agent_id: _Id | None = None


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


class Resets(_Body):
    """When the current day and month are over, and their limits are whole again."""

    day: datetime
    month: datetime


class CheckAnswer(_Body):
    """What the budgets of all scopes of a call say to it; the strictest counts.

    `state` is that of the budget that decided, before this call, and `scope` its key; `degraded`
    asks for a cheaper call. `remaining_usd` is the least that is left over all scopes with a limit
    in USD, before this call; negative where one is overspent, null where there is none. `stale`:
    the answer rests on decisions that may be out of date. `retry_after_s` says when a blocked call
    can fit; null where it is allowed, and where no reset helps.
    """

    allowed: bool
    state: State
    degraded: bool
    reason: str
    scope: str
    remaining_usd: UsdString | None
    stale: bool
    resets_at: Resets
    retry_after_s: int | None


class DecisionWindow(_Body):
    """What a scope has used in one day or month."""

    cost_usd: UsdString
    executions: int
    input_tokens: int
    output_tokens: int


class DecisionBody(_Body):
    """The data of a `decision` event: a budget, its state, and what is used, by window."""

    scope: str
    version: int
    state: State
    budget: BudgetFields
    windows: dict[str, DecisionWindow]
    published_at: datetime


class DeletedBody(_Body):
    """The data of a `deleted` event: this scope has no budget any more."""

    scope: str


class ExplainedLimit(_Body):
    """One limit: USD as decimal strings, all else counts. `remaining` may be negative."""

    kind: LimitKind
    limit: UsdString | int
    used: UsdString | int
    asked: UsdString | int
    remaining: UsdString | int
    used_share: str
    fits: bool


class ExplainedWindow(_Body):
    """The current day or month: what is used of it, its limits, and which usage that contains.

    `offsets` maps each partition of the usage topic to the offset up to which it is counted.
    """

    window: str
    kind: WindowKind
    resets_at: datetime
    used: DecisionWindow
    limits: list[ExplainedLimit]
    offsets: dict[str, int]


class Rule(_Body):
    """What decided: the limit that the call would pass, or else the one that is used the most."""

    allowed: bool
    degraded: bool
    decided_by: Literal["limit", "share", "stale", "none"]
    window: str | None
    limit_kind: LimitKind | None
    sentence: str


class TransitionBody(_Body):
    """A change of a budget's state, with the time of the decision that published it.

    `offsets` says what that decision contains: by window, up to which offset each partition of the
    usage topic is counted.
    """

    at: datetime
    from_state: State
    to_state: State
    version: int
    offsets: dict[str, dict[str, int]]


class ExplainAnswer(_Body):
    """A budget's numbers, and the rule that they lead to.

    `age_s` is how long ago its decisions were last known to be up to date, null where that was
    never. `transitions` are the last ones that this process has seen since it started
    (`transitions_since`), the newest first.
    """

    scope: str
    kind: ScopeKind
    organization_id: str
    version: int
    state: State
    enforcement_mode: EnforcementMode
    on_stale: OnStale
    at: datetime
    published_at: datetime
    stale: bool
    age_s: float | None
    rule: Rule
    windows: list[ExplainedWindow]
    transitions: list[TransitionBody]
    transitions_since: datetime
