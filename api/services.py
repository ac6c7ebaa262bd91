"""Services: what requests are answered from, and how a scope's status is found."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel

from api.alert_service import Alerts
from api.live import Live
from api.problems import ProblemError
from api.seams import Budgets, Feed, History
from api.status import Status
from outlay.budget import Budget
from outlay.decision import Decision
from outlay.scope import Scope
from outlay.window import Window, day_ordinal
from schemas import http
from schemas.http_alerts import AlertSource
from schemas.settings import Settings
from streams.clickhouse_errors import HistoryAway
from streams.clickhouse_queries import ScopeUsage
from streams.history_sinks import HistorySinks

PREFIX = "/api/v1"
"""What the paths of all resources start with; health and metrics stand outside."""

STALE_HEADER = "Outlay-Stale"
"""Says `true` where the decisions feed is silent, so that an answer may be out of date."""


STATUS_TIMEOUT_S = 5.0
"""How long ClickHouse may take to say what a scope without a budget has used, in seconds."""


@dataclass(slots=True)
class Services:
    """What one app has; `sink` only where this process keeps the history, too.

    `live` is what follows the feed, where that is one that can be followed: a `DecisionFeed`.
    `ask_broker` returns when the broker of the budgets answers, or raises an `OSError`; it is not
    there where the budgets are not those of a broker.
    """

    settings: Settings
    feed: Feed
    budgets: Budgets
    history: History
    now: Callable[[], datetime]
    sink: HistorySinks | None = None
    live: Live | None = None
    ask_broker: Callable[[], Awaitable[None]] | None = None
    alerts: Alerts = field(default_factory=Alerts)

    def alert_source(self, scope: Scope) -> AlertSource | None:
        """Whose alert configuration holds for a scope; None while that is not known."""
        return self.alerts.holding(scope).source if self.alerts.ready else None

    async def status(self, scope: Scope) -> Status:
        """The scope's budget and usage from the feed; without a budget, usage from the history.

        Raises:
            ProblemError: the feed has not caught up: whether there is a budget is not known.
            HistoryError: there is no budget, and ClickHouse does not answer.
        """
        if not self.feed.ready:
            raise ProblemError("feed-unavailable", "the decisions feed has not caught up yet")
        known = self.feed.decisions.get(scope.key)
        if known is not None:
            return self.status_of(scope, known.decision)
        at = self.now()
        try:
            async with asyncio.timeout(STATUS_TIMEOUT_S):
                day, month = [
                    (await self.history.ask(ScopeUsage(scope, window)))[0]
                    for window in (Window.day(at), Window.month(at))
                ]
        except TimeoutError:
            raise HistoryAway(f"no answer within {STATUS_TIMEOUT_S:g} s") from None
        return Status(scope, Budget(), day, month, at)

    def status_of(self, scope: Scope, decision: Decision) -> Status:
        """The status that a decision says, for the windows of now."""
        at = self.now()
        return Status(scope, decision.budget, *decision.used(day_ordinal(at)), at)

    def answer(self, scope: Scope, body: BaseModel) -> Response:
        """A body about a scope, marked where it may be out of date."""
        headers = {STALE_HEADER: "true"} if self.feed.is_stale(scope.key) else {}
        return Response(http.encode(body), 200, headers, "application/json")


async def services(request: Request) -> Services:
    """The services of the app that a request came to; a coroutine, as `api.live.live` is."""
    found: Services = request.app.state.services
    return found


def agent_scope(organization_id: str, external_agent_id: str) -> Scope:
    """The scope of an agent.

    Raises:
        ProblemError: ids that cannot be.
    """
    try:
        return Scope(organization_id, agent_id=external_agent_id)
    except ValueError as error:
        raise ProblemError("invalid-request", str(error)) from None
