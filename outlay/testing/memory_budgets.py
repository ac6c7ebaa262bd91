"""The budget client of an in-memory stream: the real one, but for where its requests go."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from outlay.budgets import BudgetClient
from outlay.decision import BudgetRequest, encode
from outlay.errors import BudgetRefused, BudgetRequestTimeout
from outlay.testing.memory_broker import DeliveryFailed, MemoryBroker
from outlay.testing.memory_feed import InMemoryFeed

__all__ = ["InMemoryBudgets"]

_T = TypeVar("_T")


class InMemoryBudgets(BudgetClient):
    """A `BudgetClient` whose requests are carried out when the call returns.

    Nothing here waits. While the broker is away a request cannot be sent; one that is made while
    the stream is stalled is carried out when that goes on, and the caller is told that its outcome
    was not seen. Both are a `BudgetRequestTimeout`, at once. Get one from `InMemoryStream`.
    """

    def __init__(self, broker: MemoryBroker, feed: InMemoryFeed, *, requested_by: str = "") -> None:
        super().__init__("in-memory", feed, requested_by=requested_by)
        self._broker = broker

    async def _accepted(self, request: BudgetRequest, timeout_s: float) -> int:
        await self._feed.await_ready(timeout_s)
        try:
            self._broker.ask(encode(request))
        except DeliveryFailed as error:
            text = f"request {request.request_id} could not be sent: {error}"
            raise BudgetRequestTimeout(text, request.request_id) from None
        outcome = await self._feed.await_outcome(request.request_id, timeout_s)
        if not outcome.accepted:
            raise BudgetRefused(outcome.reason, outcome.version)
        return outcome.version

    def _run(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
        try:
            coroutine.send(None)
        except StopIteration as done:
            result: _T = done.value
            return result
        raise AssertionError("nothing in memory waits")

    async def _arun(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
        return await coroutine

    def close(self) -> None:
        """There is no connection to end."""

    async def aclose(self) -> None:
        """`close` for code in an event loop."""
