"""Governance service: the checks before a call and the records after it, over the stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlay.emitter import UsageEmitter, UsageFields
from outlay.errors import FeedNotReady
from outlay.gateway import RESERVATION_EXPIRES_S, BudgetGateway
from outlay.governance.access import access_to
from outlay.governance.amounts import identifier, usd_nano
from outlay.governance.answer import answer
from outlay.governance.connection import Connections, OnNotReady, shared
from outlay.governance.linked import READY_TIMEOUT_S, Linked
from outlay.governance.report import governance_report
from outlay.governance.results import BudgetCheckResult
from outlay.money import Money, to_usd
from outlay.reservation import Reservation
from outlay.scope import Scope
from outlay.topics import TopicNames
from outlay.usage import UsageRecord


class GovernanceService(Linked):
    """Checks what budgets say to an agent's call, and reports what the call has used.

    A check is answered from memory, over all scopes that the call counts in; the strictest counts,
    and an agent without a budget is allowed. What is recorded here counts at once, what others
    record within about a second. Services with the same settings share one connection in a
    process, and one that is never closed costs nothing more: it may be made for each request.
    Safe in any thread and event loop; in a forked child it is to be initialized anew.

    Args:
        bootstrap_servers: Kafka brokers, `host:port`, several separated by commas; by default what
            `OUTLAY_KAFKA_BOOTSTRAP_SERVERS` says.
        topics: the names of the topics; by default those of the prefix `OUTLAY_TOPIC_PREFIX`.
        stale_after_s: how long the feed may be silent, in seconds, until each budget's `on_stale`
            decides; by default what `OUTLAY_STALE_AFTER_S` says.
        ready_timeout_s: how long `initialize` may take, in seconds.
        on_not_ready: what checks answer while nothing is known yet, "allow" or "block".
        gateway: who answers in place of all that, with the emitter whose records it counts; they
            are started and closed by whoever made them.
        emitter: who reports; given together with `gateway`.
        connections: where connections are shared; for tests.

    Raises:
        ValueError: a setting that cannot be, also in the environment.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str | None = None,
        topics: TopicNames | None = None,
        stale_after_s: float | None = None,
        ready_timeout_s: float = READY_TIMEOUT_S,
        on_not_ready: OnNotReady | None = None,
        gateway: BudgetGateway | None = None,
        emitter: UsageEmitter | None = None,
        connections: Connections = shared,
    ) -> None:
        access = access_to(
            connections, bootstrap_servers, topics, stale_after_s, on_not_ready, gateway, emitter
        )
        super().__init__(access, ready_timeout_s)

    async def check_budget(
        self,
        external_agent_id: str,
        organization_id: str,
        estimated_cost: Money | None,
        user_id: str | None = None,
        team_id: str | None = None,
        *,
        estimated_input_tokens: int = 0,
        estimated_output_tokens: int = 0,
    ) -> BudgetCheckResult:
        """What the budgets say to a call of this agent that may cost so many USD.

        The organization's, the team's, the user's, the member's and the agent's: the strictest
        counts, and it is whose figures come back. A cost of None is not known, and asks for the
        least there is.

        Raises:
            ValueError: an empty id, or an estimate that is negative or not finite.
            FeedNotReady: the service is not initialized.
        """
        explanation = self._linked().gateway.explain(
            organization_id=organization_id,
            agent_id=identifier("external_agent_id", external_agent_id),
            team_id=team_id,
            user_id=user_id,
            estimated_cost_usd=estimated_cost,
            estimated_input_tokens=estimated_input_tokens,
            estimated_output_tokens=estimated_output_tokens,
        )
        return answer(explanation)

    def reserve(
        self,
        external_agent_id: str,
        organization_id: str,
        estimated_cost: Money | None,
        user_id: str | None = None,
        team_id: str | None = None,
        *,
        estimated_input_tokens: int = 0,
        estimated_output_tokens: int = 0,
        expires_s: float = RESERVATION_EXPIRES_S,
    ) -> Reservation:
        """Check a call and hold what it may cost, until it is settled: `BudgetGateway.reserve`.

        Raises:
            BudgetExceededError: a budget blocks it.
            TooManyReservations: more calls are open than there is room for.
            ValueError, FeedNotReady: as `check_budget`.
        """
        return self._linked().gateway.reserve(
            organization_id=organization_id,
            agent_id=identifier("external_agent_id", external_agent_id),
            team_id=team_id,
            user_id=user_id,
            estimated_cost_usd=estimated_cost,
            estimated_input_tokens=estimated_input_tokens,
            estimated_output_tokens=estimated_output_tokens,
            expires_s=expires_s,
        )

    async def record_invocation_cost(
        self,
        external_agent_id: str,
        organization_id: str,
        actual_cost: Money,
        execution_success: bool,
        metadata: Mapping[str, Any] | None = None,
        user_id: str | None = None,
        team_id: str | None = None,
        input_tokens: int = 0,
        output_tokens: int = 0,
        provider: str | None = None,
        model: str | None = None,
    ) -> bool:
        """Report that a call was made and what it has cost, in USD; it counts as one execution.

        It is sent in the background, and counts here at once.

        Returns:
            Whether it was taken: False when the buffer is full.

        Raises:
            ValueError: an empty id, a cost that is negative or not finite, or what else the stream
                would reject; nothing is reported.
            FeedNotReady: the service is not initialized.
        """
        emitter = self._linked().emitter
        fields: UsageFields = {
            "organization_id": organization_id,
            "agent_id": external_agent_id,
            "cost_usd": to_usd(usd_nano("actual_cost", actual_cost)),
            "team_id": team_id,
            "user_id": user_id,
            "provider": provider,
            "model": model,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "success": execution_success,
            "metadata": metadata,
        }
        try:
            UsageRecord.new(**fields)  # the emitter says later, and to the log, what is wrong
        except TypeError as error:
            raise ValueError(str(error)) from None
        return emitter.emit(**fields)

    async def get_governance_status(
        self, external_agent_id: str, organization_id: str
    ) -> dict[str, Any]:
        """An agent's own budget and what is used of it, in the shape of the REST answer.

        Amounts are numbers in USD, `usage_percentage` a fraction. What is used is what the stream
        has published, None for an agent without a budget: it publishes no totals of those.

        Raises:
            ValueError: an empty id.
            FeedNotReady: the service is not initialized, or nothing is known yet.
        """
        gateway = self._linked().gateway
        scope = Scope(
            identifier("organization_id", organization_id),
            agent_id=identifier("external_agent_id", external_agent_id),
        )
        state = gateway.feed.state
        if not state.ready:
            raise FeedNotReady("the decisions feed is not ready, no budget is known")
        at = gateway.explain(organization_id=organization_id, estimated_cost_usd=0).at
        return governance_report(scope, state.decisions.get(scope.key), at)
