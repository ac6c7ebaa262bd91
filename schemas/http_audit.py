"""HTTP bodies of the audit: who asked for which change of a budget, and what came of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas.http_alerts import AlertsShown
from schemas.http_budgets import BudgetFields

_EXAMPLE: dict[str, Any] = {
    "request_id": "019aa5d2-6f0e-7c3a-9b54-1f6c2f9a7d14",
    "requested_at": "2026-11-21T12:00:00.250Z",
    "requested_by": "ops",
    "organization_id": "acme",
    "scope": "organization:acme/agent:researcher-7",
    "action": "delete",
    "accepted": False,
    "reason": "there is no budget to delete",
    "version": 0,
    "before": None,
    "after": None,
    "alerts_before": None,
    "alerts_after": None,
    "partition": 1,
    "offset": 77,
}


class AuditEntry(BaseModel):
    """A request to change a budget that was decided, once.

    `requested_by` is who asked, by the name of the key. `before` and `after` are the budget before
    the request and after it, null where the scope had none; of a refused request, whose `reason`
    says why, they are equal. So are `alerts_before` and `alerts_after`, the budget's own alert
    configuration, of which nothing secret is told. `version` is the budget's after it, 0 when there
    is none. `partition` and `offset` are where the request stands in the log.
    """

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    request_id: str
    requested_at: datetime
    requested_by: str
    organization_id: str
    scope: str
    action: str
    accepted: bool
    reason: str
    version: int
    before: BudgetFields | None
    after: BudgetFields | None
    alerts_before: AlertsShown | None
    alerts_after: AlertsShown | None
    partition: int
    offset: int


class AuditPage(BaseModel):
    """Entries, the newest first; `next_cursor` asks for older ones, null when there are none."""

    model_config = ConfigDict(frozen=True)

    items: list[AuditEntry]
    next_cursor: str | None
