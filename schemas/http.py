"""HTTP bodies of the API.

Amounts of the three resources that users of the earlier systems know are JSON numbers, written
from decimals digit by digit (`encode`); newer ones carry decimal strings. Numbers of requests are
read as decimals, too (`decode`), so that no float takes part.
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from outlay.budget import LIMIT_MAX, EnforcementMode, OnStale
from outlay.money import NANO_PER_USD, to_nano, to_usd

_THRESHOLD_STEP_NANO = 1_000  # six decimals

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(body: BaseModel) -> bytes:
    """The body as JSON, decimals as numbers with all their digits."""
    return _encoder.encode(body.model_dump(mode="python"))


def decode(content: bytes) -> Any:
    """JSON with its numbers as `int` and `Decimal`.

    Raises:
        ValueError: not JSON; NaN and infinities are not.
    """
    try:
        return json.loads(content, parse_float=Decimal, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("the body nests too deep") from None
    except InvalidOperation:  # an exponent that no Decimal can have
        raise ValueError("a number is out of range") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _limit_usd(value: object) -> Decimal | None:
    if value is None:
        return None
    if not isinstance(value, str | int | Decimal) or isinstance(value, bool):
        raise ValueError("must be a number or a decimal string")
    nano = to_nano(value)
    if nano < 0:
        raise ValueError("must not be negative")
    return Decimal(to_usd(nano))


def _threshold(value: object) -> Decimal | None:
    if value is None:
        return None
    if not isinstance(value, str | int | Decimal) or isinstance(value, bool):
        raise ValueError("must be a number or a decimal string")
    try:
        nano = to_nano(value)
    except ValueError:  # of an amount of USD, which this is not
        nano = 0
    if not 0 < nano <= NANO_PER_USD or nano % _THRESHOLD_STEP_NANO:
        raise ValueError("a threshold must be above 0 and at most 1, with at most six decimals")
    return Decimal(to_usd(nano))


Usd = Annotated[Decimal, WithJsonSchema({"type": "number", "description": "USD"})]
UsdString = Annotated[
    str,
    WithJsonSchema({"type": "string", "format": "decimal", "pattern": r"^-?[0-9]+\.[0-9]{2,9}$"}),
]
Fraction = Annotated[Decimal, WithJsonSchema({"type": "number", "minimum": 0})]

_Limit = Annotated[int | None, Field(ge=0, le=LIMIT_MAX, strict=True)]
_NUMBER = {
    "anyOf": [
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1_000_000_000},
        {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?$"},
        {"type": "null"},
    ]
}
_LimitUsd = Annotated[Decimal | None, BeforeValidator(_limit_usd), WithJsonSchema(_NUMBER)]
_FRACTION = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "string", "pattern": r"^(0?\.[0-9]{1,6}|1(\.0{1,6})?)$"},
        {"type": "null"},
    ]
}
_Threshold = Annotated[Decimal | None, BeforeValidator(_threshold), WithJsonSchema(_FRACTION)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


class BudgetConfigPatch(BaseModel):
    """Fields of a budget to change; a limit of null is taken away, a threshold of null is reset.

    Amounts are USD, rounded half-even to nine decimals; thresholds are fractions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"minProperties": 1})

    monthly_budget_usd: _LimitUsd = None
    daily_budget_usd: _LimitUsd = None
    monthly_execution_limit: _Limit = None
    daily_execution_limit: _Limit = None
    monthly_token_limit: _Limit = None
    daily_token_limit: _Limit = None
    monthly_input_token_limit: _Limit = None
    daily_input_token_limit: _Limit = None
    monthly_output_token_limit: _Limit = None
    daily_output_token_limit: _Limit = None
    warning_threshold: _Threshold = None
    degradation_threshold: _Threshold = None
    enforcement_mode: EnforcementMode | None = None
    on_stale: OnStale | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that were given, as a budget request carries them: decimals as strings.

        Raises:
            ValueError: none was.
        """
        given = self.model_dump(exclude_unset=True)
        if not given:
            raise ValueError("name at least one field to change")
        return {
            name: format(value, "f") if isinstance(value, Decimal) else value
            for name, value in given.items()
        }


class BudgetStatusBody(_Body):
    """An agent's budget in its period: the month, or the day where only daily limits are set.

    What remains may be negative. `usage_percentage` is the highest used share of any limit, as a
    fraction, which the state is decided by.
    """

    external_agent_id: str
    organization_id: str
    period: Literal["monthly", "daily"]
    period_start: datetime
    period_end: datetime
    cost_used: Usd
    cost_limit: Usd | None
    cost_remaining: Usd | None
    invocations: int
    invocations_limit: int | None
    invocations_remaining: int | None
    tokens_used: int
    tokens_limit: int | None
    tokens_remaining: int | None
    usage_percentage: Fraction
    warning_triggered: bool
    limit_exceeded: bool


class CurrentUsage(_Body):
    """What the month has used so far."""

    cost_used: Usd
    invocations: int


class BudgetConfigUpdated(_Body):
    """A budget after a change."""

    message: str
    external_agent_id: str
    budget_limit_monthly: Usd | None
    budget_limit_daily: Usd | None
    current_usage: CurrentUsage


class GovernanceBudget(_Body):
    """A budget with its month and its day; limits that are not set are null."""

    monthly_budget_usd: Usd | None
    monthly_spent_usd: Usd
    remaining_monthly_usd: Usd | None
    daily_budget_usd: Usd | None
    daily_spent_usd: Usd
    remaining_daily_usd: Usd | None
    monthly_execution_limit: int | None
    monthly_execution_count: int
    remaining_executions: int | None
    usage_percentage: Fraction
    warning_triggered: bool
    degraded_mode: bool


class GovernanceStatus(_Body):
    """What governs an agent; `rate_limit` and `policy` belong to other systems."""

    external_agent_id: str
    organization_id: str
    budget: GovernanceBudget
    rate_limit: None = None
    policy: None = None
    timestamp: datetime


class SpendTotal(_Body):
    """Amounts of all rows together."""

    cost_usd: UsdString
    executions: int
    input_tokens: int
    output_tokens: int
    records: int


class SpendRowBody(SpendTotal):
    """What a group spent in a window; `group` is null for records that name no such id."""

    window: str
    organization_id: str | None
    group: str | None


class SpendReportBody(_Body):
    """Spend from `from` up to and without `to`, in UTC."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True)

    start: AwareDatetime = Field(serialization_alias="from")
    end: AwareDatetime = Field(serialization_alias="to")
    interval: Literal["day", "month"]
    group_by: Literal["organization", "team", "user", "agent", "model"]
    organization_id: str | None
    rows: list[SpendRowBody]
    total: SpendTotal


class Check(_Body):
    """One thing that must be in order."""

    ok: bool
    detail: str


class Readiness(_Body):
    """Whether requests can be answered, thing by thing."""

    status: Literal["ready"] = "ready"
    checks: dict[str, Check]


class ProblemError(_Body):
    """Which part of a request is wrong: `query.from`, `body.monthly_budget_usd`."""

    location: str
    message: str


class Problem(BaseModel):
    """RFC 9457: `type` is stable, `title` its short name, `detail` about this occurrence."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
