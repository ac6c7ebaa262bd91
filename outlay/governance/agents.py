"""Agents: calls of external agents, with the budgets asked before and the cost recorded after."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from outlay.emitter import FLUSH_TIMEOUT_S
from outlay.errors import BudgetExceededError, FeedNotReady, OutlayError
from outlay.governance.invocation import Actual, Invocation
from outlay.governance.service import GovernanceService
from outlay.money import Money

RESERVATION_EXPIRES_S = 3_600.0
"""How long a call in progress keeps what it may cost reserved, in seconds."""

Invoker = Callable[[str, Any], Any]
"""Runs an agent, given its id and the request: async, or sync, in asyncio's thread pool then."""

Estimate = Money | Callable[[str, Any], Money | None] | None
"""What a call may cost, in USD, or who says so, given the agent's id and the request."""

logger = logging.getLogger("outlay.governance")

_default_invoker: Invoker | None = None


def set_default_invoker(invoker: Invoker | None) -> None:
    """Have all services of this process that were made without an invoker use this one.

    Raises:
        ValueError: it cannot be called.
    """
    global _default_invoker
    _default_invoker = _callable("invoker", invoker)


class ExternalAgentService:
    """Runs external agents inside their budgets.

    It needs no `initialize`: the first use connects. Where that does not succeed in time, checks
    are answered by the governance's `on_not_ready`, and a warning is logged.

    Args:
        invoker: who really runs an agent; by default who was given to `set_default_invoker`. What
            it returns has the cost in USD as attribute or key `actual_cost`, and may have
            `input_tokens`, `output_tokens`, `provider` and `model`; what it raises may, too.
        governance: who is asked; closed by whoever made it. By default one of its own, with the
            settings of the environment.
        estimate: what a call may cost; not known by default, when calls are let through as long
            as anything is left.
        actual: given what the invoker returned, its cost, or a mapping with the names above.

    Raises:
        ValueError: an invoker or `actual` that cannot be called, or a setting that cannot be.
    """

    def __init__(
        self,
        invoker: Invoker | None = None,
        *,
        governance: GovernanceService | None = None,
        estimate: Estimate = None,
        actual: Actual | None = None,
    ) -> None:
        self._invoker = _callable("invoker", invoker)
        self._actual = _callable("actual", actual)
        self._estimate = estimate
        self._owns_governance = governance is None
        self.governance = governance or GovernanceService()

    async def invoke(
        self,
        agent_id: str,
        user_id: str | None,
        organization_id: str,
        request_data: Any,
        *,
        team_id: str | None = None,
    ) -> Any:
        """Run an agent, if the budgets allow it, and record what it has cost; what it returned.

        What the call may cost is held while it runs: of calls at the same time no more are let
        through than there is room for. It is recorded in any case, once: a call that fails, or is
        cancelled, with `success=False` and the cost that its error tells, otherwise none.

        Raises:
            BudgetExceededError: a budget blocks the call, which was not made; a `ValueError` with
                "budget" in its text.
            OutlayError: there is no invoker; or what it returned does not tell a cost, when the
                call is recorded without.
            ValueError: an empty id, or an estimate that is negative or not finite.
            Exception: what the invoker raises.
        """
        invoker = self._invoker or _default_invoker
        if invoker is None:
            raise OutlayError(
                "nobody runs agents: give ExternalAgentService an invoker, or name one for the"
                " process with set_default_invoker"
            )
        estimate = self._estimate
        estimated_cost = estimate(agent_id, request_data) if callable(estimate) else estimate
        await self._connected()
        try:
            reservation = self.governance.reserve(
                agent_id,
                organization_id,
                estimated_cost,
                user_id,
                team_id,
                expires_s=RESERVATION_EXPIRES_S,
            )
        except BudgetExceededError as error:
            text = f"the budget does not allow this call of agent {agent_id}: {error}"
            raise BudgetExceededError(text, error.result) from None
        invocation = Invocation(reservation, self._actual)
        if _is_async(invoker):
            return await invocation.arun(_called(invoker, agent_id, request_data))
        try:
            # The thread records by itself: it goes on when the one who waits for it is cancelled.
            result = await asyncio.to_thread(invocation.run, invoker, agent_id, request_data)
        except asyncio.CancelledError:
            invocation.abandon()
            raise
        return await invocation.arun(result) if inspect.isawaitable(result) else result

    async def check_budget(
        self,
        agent_id: str,
        organization_id: str,
        estimated_cost: Money | None,
        *,
        user_id: str | None = None,
        team_id: str | None = None,
    ) -> tuple[bool, dict[str, Any]]:
        """Whether a call may be made, and why not.

        Returns:
            `allowed`, and a dictionary: `reason`; `remaining_budget_usd`, a number, infinity where
            there is no limit in USD; and `result`, the whole `BudgetCheckResult`.

        Raises:
            ValueError: an empty id, or an estimate that is negative or not finite.
        """
        await self._connected()
        result = await self.governance.check_budget(
            agent_id, organization_id, estimated_cost, user_id, team_id
        )
        remaining = result.remaining_budget_usd
        return result.allowed, {
            "reason": result.reason,
            "remaining_budget_usd": math.inf if remaining is None else remaining,
            "result": result,
        }

    async def _connected(self) -> None:
        # Whoever comes while the first still waits does so, too: nothing is known yet.
        if not self.governance.waited:
            try:
                await self.governance.initialize()
            except FeedNotReady as error:
                logger.warning("agents are called by the policy for unknown budgets: %s", error)

    async def close(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Deliver what is buffered, within `timeout_s` seconds; close a governance of its own.

        The next use connects again.

        Returns:
            Whether everything was delivered or had failed before the bound.
        """
        return not self._owns_governance or await self.governance.close(timeout_s)

    async def __aenter__(self) -> Self:
        await self._connected()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


async def _called(invoker: Invoker, agent_id: str, request_data: Any) -> Any:
    return await invoker(agent_id, request_data)


def _callable(name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise ValueError(f"{name} must be callable, not {value!r}")
    return value


def _is_async(invoker: Invoker) -> bool:
    call = getattr(invoker, "__call__", None)  # noqa: B004 - of an object, not whether it is one
    return inspect.iscoroutinefunction(invoker) or inspect.iscoroutinefunction(call)
