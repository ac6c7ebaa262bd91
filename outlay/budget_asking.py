"""Budget asking: the requests that a budget client makes, checked before they are sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import uuid_utils

from outlay.alert_config import AlertConfig
from outlay.budget import Budget
from outlay.decision import (
    REQUEST_ID_LENGTH_MAX,
    REQUESTED_BY_LENGTH_MAX,
    BudgetRequest,
    RequestAction,
    encode,
)
from outlay.scope import Scope


def budget_fields(budget: Budget) -> dict[str, Any]:
    """What a `put` asks for.

    Raises:
        ValueError: not a budget.
    """
    if not isinstance(budget, Budget):
        raise ValueError(f"put takes a Budget, not {type(budget).__name__}")
    fields: dict[str, Any] = msgspec.to_builtins(budget)
    return fields


def budget_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """What a `patch` asks for.

    Raises:
        ValueError: a field that no budget has.
    """
    for name in changes:
        if name not in Budget.__struct_fields__:
            raise ValueError(f"a budget has no field {name!r}")
    # A field alone says little about the whole, which only the owner knows: it has the word.
    return dict(changes)


def alert_fields(alerts: AlertConfig) -> dict[str, Any]:
    """What a `put_alerts` asks for.

    Raises:
        ValueError: not an alert configuration.
    """
    if not isinstance(alerts, AlertConfig):
        raise ValueError(f"put_alerts takes an AlertConfig, not {type(alerts).__name__}")
    fields: dict[str, Any] = msgspec.to_builtins(alerts)
    return fields


def budget_request(
    scope: Scope | str,
    action: RequestAction,
    changes: dict[str, Any],
    expected_version: int | None,
    request_id: str | None,
    requested_by: str,
) -> BudgetRequest:
    """A request, under a new id where none is given.

    Raises:
        ValueError: a scope, a value, a request id or a name of who asks that cannot be.
    """
    if len(requested_by) > REQUESTED_BY_LENGTH_MAX:  # the owner would take it for no request
        raise ValueError(f"requested_by has at most {REQUESTED_BY_LENGTH_MAX} characters")
    if request_id is None:
        request_id = str(uuid_utils.uuid7())
    elif not 1 <= len(request_id) <= REQUEST_ID_LENGTH_MAX:
        raise ValueError(f"a request id has 1 to {REQUEST_ID_LENGTH_MAX} characters")
    request = BudgetRequest(
        request_id=request_id,
        scope=scope.key if isinstance(scope, Scope) else Scope.parse(scope).key,
        action=action,
        changes=changes,
        expected_version=expected_version,
        requested_by=requested_by,
    )
    try:
        encode(request)
    except TypeError as error:
        raise ValueError(str(error)) from None
    return request
