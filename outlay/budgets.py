"""Budgets: changing one, by asking whoever owns its scope and waiting for the outcome."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from outlay import background
from outlay.alert_config import AlertConfig
from outlay.background import Background
from outlay.budget import Budget
from outlay.budget_asking import alert_fields, budget_changes, budget_fields, budget_request
from outlay.budget_sending import RequestSending
from outlay.closing import Closing
from outlay.decision import BudgetRequest, Decision, RequestAction
from outlay.errors import BudgetRefused, BudgetRequestTimeout
from outlay.feed import DecisionFeed
from outlay.scope import Scope
from outlay.sending import KafkaSender, SenderFactory
from outlay.topics import TopicNames

__all__ = ["BudgetClient"]

REQUEST_TIMEOUT_S = 30.0
"""How long a request may take until its outcome is seen, in seconds."""

CLOSE_TIMEOUT_S = 10.0

_T = TypeVar("_T")


class BudgetClient(Closing):
    """Asks for changes of budgets and waits for their outcomes; in any thread or event loop.

    A request is sent again until it has arrived, under the same request id: it is carried out
    once. All methods wait for what the scope's owner said, as seen in the feed; a budget and its
    alert configuration have one version. With `expected_version` a request is refused unless the
    budget has that version (0: none). Whoever may have to ask again, after a crash say, gives a
    `request_id`: under one id a scope's owner carries out one request, as long as it is among the
    last 16 of the scope, and the others are told what became of that one. It is unique over all
    scopes.

    They raise:
        BudgetRefused: it was refused, with the reason and the budget's version.
        BudgetRequestTimeout: no outcome was seen in time; it may still be carried out.
        ValueError: a scope, a field, a value or a request id that cannot be.
        FeedNotReady: the feed is not started, or has not caught up in time; nothing was sent.

    Args:
        bootstrap_servers: `host:port`, several separated by commas.
        feed: where the outcomes are seen; it is started and closed by whoever made it.
        topics: the names of the topics; those of the feed by default.
        requested_by: who asks, for the audit, where a call does not say another; at most 256
            characters.
        client_options: more arguments for aiokafka's client: `security_protocol`, `ssl_context`,
            `sasl_…`.
        sender_factory: makes the connection; for tests.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        feed: DecisionFeed,
        *,
        topics: TopicNames | None = None,
        requested_by: str = "",
        client_options: Mapping[str, Any] | None = None,
        sender_factory: SenderFactory | None = None,
    ) -> None:
        topic = (topics or feed.topics).budgets
        self._feed = feed
        self._requested_by = requested_by
        self._sending = RequestSending(
            sender_factory or (lambda: KafkaSender(bootstrap_servers, topic, client_options))
        )
        self._lock = threading.Lock()
        self._background: Background | None = None

    def put(
        self,
        scope: Scope | str,
        budget: Budget,
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Decision:
        """Set the whole budget of a scope; the decision that carries it."""
        request = self._request(
            scope, "put", budget_fields(budget), expected_version, request_id, requested_by
        )
        return self._run(self._decided(request, timeout_s), timeout_s)

    async def aput(
        self,
        scope: Scope | str,
        budget: Budget,
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Decision:
        """`put` for code in an event loop."""
        request = self._request(
            scope, "put", budget_fields(budget), expected_version, request_id, requested_by
        )
        return await self._arun(self._decided(request, timeout_s), timeout_s)

    def patch(
        self,
        scope: Scope | str,
        changes: Mapping[str, Any],
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Decision:
        """Change some fields of a scope's budget (a limit of None is taken away), or make one."""
        request = self._request(
            scope, "patch", budget_changes(changes), expected_version, request_id, requested_by
        )
        return self._run(self._decided(request, timeout_s), timeout_s)

    async def apatch(
        self,
        scope: Scope | str,
        changes: Mapping[str, Any],
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Decision:
        """`patch` for code in an event loop."""
        request = self._request(
            scope, "patch", budget_changes(changes), expected_version, request_id, requested_by
        )
        return await self._arun(self._decided(request, timeout_s), timeout_s)

    def delete(
        self,
        scope: Scope | str,
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        """Take a scope's budget away."""
        request = self._request(scope, "delete", {}, expected_version, request_id, requested_by)
        self._run(self._accepted(request, timeout_s), timeout_s)

    async def adelete(
        self,
        scope: Scope | str,
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        """`delete` for code in an event loop."""
        request = self._request(scope, "delete", {}, expected_version, request_id, requested_by)
        await self._arun(self._accepted(request, timeout_s), timeout_s)

    def put_alerts(
        self,
        scope: Scope | str,
        alerts: AlertConfig,
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Decision:
        """Set the alert configuration of a scope's budget; the decision with its next version."""
        fields = alert_fields(alerts)
        request = self._request(
            scope, "put_alerts", fields, expected_version, request_id, requested_by
        )
        return self._run(self._decided(request, timeout_s), timeout_s)

    async def aput_alerts(
        self,
        scope: Scope | str,
        alerts: AlertConfig,
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Decision:
        """`put_alerts` for code in an event loop."""
        fields = alert_fields(alerts)
        request = self._request(
            scope, "put_alerts", fields, expected_version, request_id, requested_by
        )
        return await self._arun(self._decided(request, timeout_s), timeout_s)

    def delete_alerts(
        self,
        scope: Scope | str,
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Decision:
        """Take a budget's own alert configuration away; that of its organization holds then."""
        request = self._request(
            scope, "delete_alerts", {}, expected_version, request_id, requested_by
        )
        return self._run(self._decided(request, timeout_s), timeout_s)

    async def adelete_alerts(
        self,
        scope: Scope | str,
        *,
        expected_version: int | None = None,
        request_id: str | None = None,
        requested_by: str | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Decision:
        """`delete_alerts` for code in an event loop."""
        request = self._request(
            scope, "delete_alerts", {}, expected_version, request_id, requested_by
        )
        return await self._arun(self._decided(request, timeout_s), timeout_s)

    def _request(
        self,
        scope: Scope | str,
        action: RequestAction,
        changes: dict[str, Any],
        expected_version: int | None,
        request_id: str | None,
        requested_by: str | None,
    ) -> BudgetRequest:
        if requested_by is None:
            requested_by = self._requested_by
        return budget_request(scope, action, changes, expected_version, request_id, requested_by)

    # -- carrying it out, on the background loop

    async def _decided(self, request: BudgetRequest, timeout_s: float) -> Decision:
        deadline_s = time.monotonic() + timeout_s
        version = await self._accepted(request, timeout_s)

        def look() -> Decision | None:
            known = self._feed.decisions.get(request.scope)
            if known is not None and known.decision.version >= version:
                return known.decision
            return None

        try:
            return await self._feed.await_until(look, max(deadline_s - time.monotonic(), 0.0))
        except TimeoutError:
            text = f"request {request.request_id} was accepted, its decision was not seen in time"
            raise BudgetRequestTimeout(text, request.request_id) from None

    async def _accepted(self, request: BudgetRequest, timeout_s: float) -> int:
        """Send it and wait for its outcome; the version that it led to."""
        deadline_s = time.monotonic() + timeout_s
        await self._feed.await_ready(timeout_s)  # otherwise nobody would see the outcome
        outcome = self._feed.outcome(request.request_id)  # there: it was asked before
        if outcome is None:
            await self._deliver(request, timeout_s, deadline_s)
            left_s = max(deadline_s - time.monotonic(), 0.0)
            outcome = await self._feed.await_outcome(request.request_id, left_s)
        if not outcome.accepted:
            raise BudgetRefused(outcome.reason, outcome.version)
        return outcome.version

    async def _deliver(self, request: BudgetRequest, timeout_s: float, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                await self._sending.send(request)
        except TimeoutError:
            text = (
                f"request {request.request_id} could not be sent within {timeout_s:g} s: "
                f"{self._sending.problem}"
            )
            raise BudgetRequestTimeout(text, request.request_id) from None

    # -- the background thread

    def _acquire(self) -> Background:
        with self._lock:
            if self._background is None:
                self._background = background.acquire()
                self._sending.begin()
            return self._background

    # A request keeps its own bound and says what it was at; this one is for what ends it.
    def _run(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
        return self._acquire().run(coroutine, timeout_s + CLOSE_TIMEOUT_S)

    async def _arun(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
        return await self._acquire().arun(coroutine, timeout_s + CLOSE_TIMEOUT_S)

    def close(self) -> None:
        """End the connection. The feed goes on."""
        with self._lock:
            holder, self._background = self._background, None
        if holder is not None:
            with contextlib.suppress(TimeoutError):
                holder.run(self._sending.stop(), CLOSE_TIMEOUT_S)
            holder.release()

    async def aclose(self) -> None:
        """`close` for code in an event loop."""
        await asyncio.to_thread(self.close)
