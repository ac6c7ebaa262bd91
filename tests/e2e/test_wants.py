"""An agent's budget through the real parts: what it used before counts, wherever it was sent."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

from aiokafka import AIOKafkaProducer

from outlay import Budget, BudgetClient, DecisionFeed, Scope
from outlay.embedded import Broker
from outlay.stack import Stack
from outlay.usage import UsageRecord, encode_usage
from tests.e2e.test_worker_process import new_stack
from tests.kafka_log import wait_until

AGENT = Scope("acme", agent_id="a")
PARTITIONS = 4


def send_everywhere(stack: Stack, count: int) -> None:
    """So many calls to each usage partition, a dollar each: by a producer that knows no agents."""

    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers) as producer:
            for partition in list(range(PARTITIONS)) * count:
                record = UsageRecord.new(organization_id="acme", agent_id="a", cost_usd="1")
                await producer.send(stack.topics.usage, encode_usage([record]), partition=partition)

    asyncio.run(run())


def test_an_agents_budget_holds_what_was_used_before_it_was_made(
    kafka: Broker, tmp_path: Path
) -> None:
    """The first decision has all of it; a budget taken away and made anew has what came between."""
    with new_stack(kafka, tmp_path) as stack:
        stack.wait_ready()
        send_everywhere(stack, 3)
        with (
            DecisionFeed(stack.bootstrap_servers, topics=stack.topics) as feed,
            BudgetClient(stack.bootstrap_servers, feed, topics=stack.topics) as budgets,
        ):

            def spent(scope: Scope) -> int:
                known = feed.decisions.get(scope.key)
                windows = {} if known is None else known.decision.windows
                return max((used.executions for used in windows.values()), default=0)

            budgets.put(Scope("acme"), Budget())
            wait_until("all is counted", lambda: spent(Scope("acme")) == 12)
            decision = budgets.put(AGENT, Budget(monthly_budget_usd=Decimal(10)))
            month = max(decision.windows.values(), key=lambda used: used.executions)
            assert (month.executions, decision.state) == (12, "exceeded")
            assert sorted(month.offsets) == list(range(PARTITIONS))

            budgets.delete(AGENT)
            stack.workers[0].kill()
            send_everywhere(stack, 1)
            stack.workers[0].start()
            wait_until("all is counted", lambda: spent(Scope("acme")) == 16)
            decision = budgets.put(AGENT, Budget(monthly_budget_usd=Decimal(100)))
            month = max(decision.windows.values(), key=lambda used: used.executions)
            assert (month.executions, decision.state) == (16, "ok")
            send_everywhere(stack, 1)
            wait_until("the agent is told", lambda: spent(AGENT) == 20)
