"""Alerts of the stream through a real broker and a worker that is killed."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from decimal import Decimal
from pathlib import Path

from aiokafka import AIOKafkaProducer

from outlay import Budget, BudgetClient, DecisionFeed, Scope
from outlay.alert import Alert, decode_alert
from outlay.alert_config import AlertConfig, decode_config_record
from outlay.embedded import Broker
from outlay.stack import Stack
from outlay.usage import UsageRecord, encode_usage
from tests.kafka_log import KafkaLog, wait_until

TEAM = Scope("acme", team_id="search")
LIMIT = 40


def send(stack: Stack, count: int) -> None:
    async def send_all() -> None:
        async with AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers) as producer:
            for _ in range(count):
                record = UsageRecord.new(
                    organization_id="acme", agent_id="a", team_id="search", cost_usd="0.5"
                )
                await producer.send(stack.topics.usage, encode_usage([record]), partition=0)

    asyncio.run(send_all())


def set_up(stack: Stack) -> None:
    """A budget by the month, whose thresholds are its organization's."""
    with DecisionFeed(stack.bootstrap_servers, topics=stack.topics) as feed:
        feed.wait_ready()
        with BudgetClient(stack.bootstrap_servers, feed) as budgets:
            budgets.put(Scope("acme"), Budget())
            alerts = AlertConfig(thresholds=(Decimal("0.5"), Decimal(1)), include_forecast=False)
            assert budgets.put_alerts(Scope("acme"), alerts).version == 2
            budgets.put(TEAM, Budget(monthly_execution_limit=LIMIT))


def test_each_crossing_is_told_though_the_worker_is_killed(kafka: Broker, tmp_path: Path) -> None:
    """Once, or again with the same id; and the one that starts next tells nothing anew."""
    app_id = f"alerts-{uuid.uuid4().hex[:8]}"
    settings = {
        "OUTLAY_TOPIC_PREFIX": app_id,
        "OUTLAY_APP_ID": app_id,
        "OUTLAY_SESSION_TIMEOUT_S": "6",
        "OUTLAY_TOTALS_PARTITIONS": "2",
    }
    log = KafkaLog(kafka.bootstrap_servers)
    with Stack(tmp_path, broker=kafka, owns_broker=False, api=False, settings=settings) as stack:

        def told() -> list[Alert]:
            return [decode_alert(record.value) for record in log.read(stack.topics.alerts)]

        stack.wait_ready()
        set_up(stack)
        send(stack, LIMIT - 5)
        wait_until("half is told", lambda: len(told()) >= 1)
        send(stack, 5)
        stack.workers[0].kill()
        stack.workers[0].start()
        wait_until("all is told", lambda: len({alert.alert_id for alert in told()}) >= 2)
        send(stack, 1)
        wait_until("it goes on", lambda: executions(log, app_id) == LIMIT + 1)
        alerts = told()
        (config,) = log.read(stack.topics.alert_configs)[:1]
    crossed = Counter((alert.alert_id, alert.event, alert.window_kind) for alert in alerts)
    assert len(crossed) == 2
    assert [(event, kind) for _, event, kind in crossed] == [
        ("budget.threshold", "month"),
        ("budget.exceeded", "month"),
    ]
    # Twice only where it was killed between an alert and the changelog that says that it was told.
    assert sum(crossed.values()) <= 3
    assert decode_config_record(config.value).version == 2


def executions(log: KafkaLog, app_id: str) -> int:
    """How many calls the month's total of the team holds."""
    sums = log.totals(app_id)
    return sum(s[1] for (scope, window), s in sums.items() if (scope, len(window)) == (TEAM.key, 7))
