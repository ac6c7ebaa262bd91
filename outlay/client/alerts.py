"""Alerts of budgets: their configuration, what was raised, what became of it. `client.alerts`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from outlay.alert_config import AlertConfig
from outlay.client.addresses import scope_key, time_text
from outlay.client.amounts import encode, fields_of
from outlay.client.budgets import PAGE_SIZE
from outlay.client.calls import Ask, Page, reading, reading_page
from outlay.client.operations import R, Resource, all_of, operation
from outlay.client.raised import AlertDelivery, RaisedAlert
from outlay.client.writes import IfVersion, idempotency, if_match, nothing
from outlay.scope import Scope

AlertSource = Literal["budget", "organization", "default"]
"""Whose configuration holds: the budget's own, its organization's, or that of nobody."""

_PATH = "/api/v1/budgets/{scope}/alerts"


class ShownAlerts(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration as it is told: without secrets, and of the URL only the host."""

    webhook_url: str | None = None
    webhook_format: str
    email_recipients: tuple[str, ...]
    thresholds: tuple[Decimal, ...]
    alert_once_per_threshold: bool
    include_forecast: bool
    cooldown_minutes: int


class BudgetAlerts(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration that holds for a budget, and whose it is.

    `version` is the budget's, which its own configuration shares.
    """

    scope: str
    source: AlertSource
    version: int
    alerts: ShownAlerts
    webhook_secret_count: int = 0


class AlertTest(msgspec.Struct, frozen=True, kw_only=True):
    """A test alert that is on its way through these channels; without any it goes to nobody."""

    alert_id: str
    scope: str
    source: AlertSource
    channels: tuple[str, ...]


class Alerts(Resource[R]):
    """Alerts; `if_version` and `idempotency_key` are those of `budgets`."""

    @operation("GET", _PATH)
    def get(self, scope: Scope | str, *, min_version: int | None = None) -> Ask[BudgetAlerts]:
        """The configuration that holds for a budget."""
        return Ask(
            read=reading(BudgetAlerts),
            path={"scope": scope_key(scope)},
            query={"min_version": min_version},
        )

    @operation("PUT", _PATH)
    def put(
        self,
        scope: Scope | str,
        alerts: AlertConfig | Mapping[str, Any],
        *,
        if_version: IfVersion = None,
        idempotency_key: str | None = None,
    ) -> Ask[BudgetAlerts]:
        """Set a budget's own configuration, as a whole.

        Secrets alone stay as they are where there are none in it; fields with an empty list of
        `webhook_secrets` take them away.
        """
        given = msgspec.to_builtins(alerts) if isinstance(alerts, AlertConfig) else alerts
        return Ask(
            read=reading(BudgetAlerts),
            path={"scope": scope_key(scope)},
            headers=if_match(if_version) | idempotency(idempotency_key),
            content=encode(fields_of(given)),
        )

    @operation("DELETE", _PATH)
    def delete(
        self,
        scope: Scope | str,
        *,
        if_version: IfVersion = None,
        idempotency_key: str | None = None,
    ) -> Ask[None]:
        """Take a budget's own configuration away: its organization's holds then, or none."""
        return Ask(
            read=nothing,
            path={"scope": scope_key(scope)},
            headers=if_match(if_version) | idempotency(idempotency_key),
        )

    @operation("POST", f"{_PATH}/test")
    def test(self, scope: Scope | str, *, idempotency_key: str | None = None) -> Ask[AlertTest]:
        """Send a test alert to whom a budget's alerts go."""
        return Ask(
            read=reading(AlertTest),
            path={"scope": scope_key(scope)},
            headers=idempotency(idempotency_key),
        )

    @operation("GET", "/api/v1/alerts")
    def page(
        self,
        *,
        organization_id: str | None = None,
        scope: Scope | str | None = None,
        event: str | None = None,
        window: str | None = None,
        start: datetime | date | str | None = None,
        end: datetime | date | str | None = None,
        page_size: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> Ask[Page[RaisedAlert]]:
        """Some of the alerts that were detected, the newest first."""
        query = {"organization_id": organization_id, "event": event, "window": window}
        return Ask(
            read=reading_page(RaisedAlert, cursor),
            query={**query, **_part(scope, start, end, page_size, cursor)},
        )

    @all_of(page)
    def list(
        self,
        *,
        organization_id: str | None = None,
        scope: Scope | str | None = None,
        event: str | None = None,
        window: str | None = None,
        start: datetime | date | str | None = None,
        end: datetime | date | str | None = None,
        page_size: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> None:
        """All alerts from `start` up to and without `end`, page by page, the newest first."""

    @operation("GET", "/api/v1/alerts/deliveries")
    def deliveries_page(
        self,
        *,
        organization_id: str | None = None,
        scope: Scope | str | None = None,
        status: str | None = None,
        channel: str | None = None,
        alert_id: str | None = None,
        start: datetime | date | str | None = None,
        end: datetime | date | str | None = None,
        page_size: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> Ask[Page[AlertDelivery]]:
        """Some of the attempts to deliver alerts, the newest first."""
        which = {"status": status, "channel": channel, "alert_id": alert_id}
        return Ask(
            read=reading_page(AlertDelivery, cursor),
            query={
                "organization_id": organization_id,
                **which,
                **_part(scope, start, end, page_size, cursor),
            },
        )

    @all_of(deliveries_page)
    def deliveries(
        self,
        *,
        organization_id: str | None = None,
        scope: Scope | str | None = None,
        status: str | None = None,
        channel: str | None = None,
        alert_id: str | None = None,
        start: datetime | date | str | None = None,
        end: datetime | date | str | None = None,
        page_size: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> None:
        """All attempts from `start` up to and without `end`, page by page, the newest first."""


def _part(
    scope: Scope | str | None,
    start: datetime | date | str | None,
    end: datetime | date | str | None,
    page_size: int,
    cursor: str | None,
) -> dict[str, str | int | None]:
    return {
        "scope": None if scope is None else scope_key(scope),
        "from": time_text(start),
        "to": time_text(end),
        "limit": page_size,
        "cursor": cursor,
    }
