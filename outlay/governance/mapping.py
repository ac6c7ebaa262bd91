"""Mapping: what the governance classes say, in the words of the stream, and back. Pure."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any

from outlay.budget import LIMIT_FIELDS, NOTHING, Amounts
from outlay.governance.amounts import Usd, identifier, usd_nano, usd_of
from outlay.governance.budget import (
    COUNTED_FIELDS,
    DEFAULT_COST_PER_EXECUTION,
    ExternalAgentBudget,
    repr_of,
)
from outlay.governance.periods import Period
from outlay.governance.scope import BudgetScope
from outlay.governance.usage import BudgetUsageRecord
from outlay.money import to_nano, to_usd
from outlay.scope import Scope
from outlay.standing import KnownBudget
from outlay.usage import UsageRecord
from outlay.window import Window

_INVOCATIONS = uuid.UUID("5d1c2f0e-7f0a-5b3c-9a52-0d5e8c6b4a11")
"""The namespace of the record ids that are made of invocation ids."""

_THRESHOLDS = ("warning_threshold", "degradation_threshold")
_MODES = ("enforcement_mode", "on_stale")


def stream_scope(agent_id: str, scope: BudgetScope) -> Scope:
    """The scope of the stream whose budget and totals are meant.

    A scope that names only the organization means the agent itself; one with a team, a user or
    both means that team, user or member, whichever agent asks.

    Raises:
        ValueError: the stream keeps no such total, or the scope names another agent.
    """
    identifier("agent_id", agent_id)
    if not isinstance(scope, BudgetScope):
        raise ValueError(f"scope must be a BudgetScope, not {scope!r}")
    if scope.agent_id not in (None, agent_id):
        raise ValueError(f"the scope is of the agent {scope.agent_id!r}, not of {agent_id!r}")
    if scope.team_id is None and scope.user_id is None:
        return Scope(scope.organization_id, agent_id=agent_id)
    if scope.agent_id is not None:
        raise ValueError(
            f"the stream keeps no total of an agent within a team or of a user: {scope.to_key()};"
            " name the organization alone for the agent's own budget, or leave the agent out"
        )
    return Scope(scope.organization_id, scope.team_id, scope.user_id)


def agent_budget(
    agent_id: str, scope: BudgetScope, known: KnownBudget, now: datetime
) -> ExternalAgentBudget:
    """The last known budget of a scope, with what the current day and month have used of it.

    Raises:
        ValueError: corrections have made a total negative, which this class does not hold.
    """
    limits = known.decision.budget
    fields: dict[str, Any] = {}
    for name in LIMIT_FIELDS:
        value = getattr(limits, name)
        is_usd = isinstance(value, Decimal)
        fields[name] = usd_of(to_nano(value)) if is_usd else value
    for name in _THRESHOLDS:
        fields[name] = _number(getattr(limits, name))
    for name in _MODES:
        fields[name] = getattr(limits, name)
    fields |= _counts("daily", known.amounts.get(Window.day(now).name, NOTHING))
    fields |= _counts("monthly", known.amounts.get(Window.month(now).name, NOTHING))
    return ExternalAgentBudget(external_agent_id=agent_id, scope=scope, counted_at=now, **fields)


def _number(share: Decimal) -> float | Decimal:
    """A float where it means the same."""
    shortest = float(share)
    return shortest if Decimal(repr(shortest)) == share else share


def _counts(period: Period, used: Amounts) -> dict[str, Any]:
    return {
        f"{period}_spent_usd": usd_of(used.cost_nano),
        f"{period}_execution_count": used.executions,
        f"{period}_input_tokens": used.input_tokens,
        f"{period}_output_tokens": used.output_tokens,
    }


def budget_changes(
    agent_id: str, scope: BudgetScope, budget: ExternalAgentBudget
) -> dict[str, Any]:
    """The changes to ask for so that a scope has the limits, thresholds and modes of a budget.

    Raises:
        ValueError: it holds what the stream does not keep, or is another agent's or scope's.
    """
    if not isinstance(budget, ExternalAgentBudget):
        raise ValueError(f"update_budget takes an ExternalAgentBudget, not {budget!r}")
    if budget.external_agent_id != agent_id:
        raise ValueError(f"the budget is of {budget.external_agent_id!r}, not of {agent_id!r}")
    if budget.scope not in (None, scope):
        raise ValueError("the budget is of another scope than the one to change")
    if budget.counted_at is None:  # otherwise an enforcer or the stream itself has counted on it
        for name in COUNTED_FIELDS:
            if getattr(budget, name):
                raise ValueError(f"the stream counts by itself: leave {name} out, report usage")
    unkept = {
        "metadata": bool(budget.metadata),
        "cost_per_execution": _nano(budget.cost_per_execution) != _nano(DEFAULT_COST_PER_EXECUTION),
    }
    for name, is_set in unkept.items():
        if is_set:
            raise ValueError(f"the stream does not keep a budget's {name}: leave it out")
    changes: dict[str, Any] = {}
    for name in LIMIT_FIELDS:
        value = getattr(budget, name)
        is_usd = name.endswith("_usd") and value is not None
        changes[name] = to_usd(usd_nano(name, value)) if is_usd else value
    for name in _THRESHOLDS:
        share = getattr(budget, name)
        changes[name] = None if share is None else repr_of(share)
    return changes | {name: getattr(budget, name) for name in _MODES}


def _nano(amount: Usd) -> int:
    return usd_nano("cost_per_execution", amount)  # a float and a `Decimal` never compare equal


def usage_record(record: BudgetUsageRecord) -> UsageRecord:
    """The report of usage that a record stands for.

    Its id is the invocation's where that is a UUID, and else one made of it.

    Raises:
        ValueError: what the stream would reject, or could not count right.
    """
    if not isinstance(record, BudgetUsageRecord):
        raise ValueError(f"record_usage takes a BudgetUsageRecord, not {record!r}")
    scope = record.scope
    if scope.agent_id not in (None, record.agent_id):
        raise ValueError(f"the scope is of the agent {scope.agent_id!r}, not {record.agent_id!r}")
    if record.tokens_used != record.input_tokens + record.output_tokens:
        raise ValueError(
            "the stream counts input and output tokens each: give input_tokens and output_tokens,"
            f" not {record.tokens_used} together"
        )
    record_id, metadata = _identity(record)
    try:
        return UsageRecord.new(
            id=record_id,
            occurred_at=record.timestamp,
            organization_id=scope.organization_id,
            team_id=scope.team_id,
            user_id=scope.user_id,
            agent_id=record.agent_id,
            cost_usd=record.cost,
            input_tokens=record.input_tokens,
            output_tokens=record.output_tokens,
            success=record.success,
            provider=record.provider,
            model=record.model,
            metadata=metadata,
        )
    except TypeError as error:  # metadata that is no JSON
        raise ValueError(str(error)) from None


def _identity(record: BudgetUsageRecord) -> tuple[str, dict[str, Any]]:
    """The id of a report, and metadata that names the invocation where the id does not."""
    try:
        return str(uuid.UUID(record.invocation_id)), record.metadata
    except ValueError:
        name = f"{record.scope.organization_id}/{record.agent_id}/{record.invocation_id}"
        named = {"invocation_id": record.invocation_id} | record.metadata
        return str(uuid.uuid5(_INVOCATIONS, name)), named
