"""The clients: all of the API, on one address, with one key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import httpx2

from outlay.client.agents import Agents
from outlay.client.alerts import Alerts
from outlay.client.async_runner import AsyncRunner
from outlay.client.audit import Audit
from outlay.client.budgets import Budgets
from outlay.client.checks import Checks
from outlay.client.decisions import Decisions
from outlay.client.health import Health
from outlay.client.operations import R
from outlay.client.reports import Reports
from outlay.client.retries import Retries
from outlay.client.sync_runner import SyncRunner
from outlay.client.usage import Usage
from outlay.client.wire import TIMEOUT_S, Wire


class Api(Checks[R], Health[R]):
    """The resources of the API, for both clients.

    Attributes:
        budgets: budgets of all scopes, and what explains them.
        usage: reports usage.
        agents: budgets of external agents, by the agent's id.
        decisions: the stream of decisions.
        alerts: configurations of alerts, what was raised, and what became of it.
        audit: who changed which budget.
        reports: spend from the history.
    """

    def __init__(self, runner: R, address: str) -> None:
        super().__init__(runner)
        self._address = address
        self.budgets = Budgets(runner)
        self.usage = Usage(runner)
        self.agents = Agents(runner)
        self.decisions = Decisions(runner)
        self.alerts = Alerts(runner)
        self.audit = Audit(runner)
        self.reports = Reports(runner)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address!r})"


class Client(Api[SyncRunner]):
    """The REST API for code that waits. One a process is enough, and safe in several threads.

        with Client("http://127.0.0.1:8000", key="outlay_sk_…") as outlay:
            print(outlay.budgets.get("organization:acme").state)

    Args:
        url: where the API is; with a base path, where a proxy puts it behind one.
        key: one of `outlay keys create`; None where the API runs without.
        timeout_s: how long an answer may take, in seconds; a retry has the same again.
        retries: how often and when a request is sent again that failed.
        transport: what carries the requests, for tests.
        sleep: waits for so many seconds, for tests.
        clock: seconds that only grow, for tests.

    Raises:
        ValueError: an address, a key or a timeout that cannot be.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: Retries | None = None,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        wire = Wire(url, key, timeout_s, clock)
        runner = SyncRunner(wire, retries or Retries(), transport, sleep, clock)
        super().__init__(runner, wire.address)

    def close(self) -> None:
        """Close the connections; no more requests can be made."""
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(Api[AsyncRunner]):
    """The REST API for code in an event loop: the words of `Client`, awaited.

        async with AsyncClient("http://127.0.0.1:8000", key="outlay_sk_…") as outlay:
            print((await outlay.budgets.get("organization:acme")).state)

    Lists and streams are iterated with `async for`, without `await`. The arguments are those of
    `Client`; `transport` and `sleep` are asynchronous ones.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: Retries | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        wire = Wire(url, key, timeout_s, clock)
        runner = AsyncRunner(wire, retries or Retries(), transport, sleep, clock)
        super().__init__(runner, wire.address)

    async def aclose(self) -> None:
        """Close the connections; no more requests can be made."""
        await self._runner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
