"""Alerts from usage to webhook and mailbox, while the worker and their own process are killed."""

from __future__ import annotations

import asyncio
import base64
import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from outlay import Budget, BudgetClient, DecisionFeed, Scope
from outlay.alert_config import AlertConfig
from outlay.embedded import Broker
from outlay.stack import Stack
from outlay.topics import usage_partition
from outlay.usage import UsageRecord, encode_usage
from tests.crash.hearing import Crossing, Hearing
from tests.kafka_log import wait_until

ORGANIZATION = "acme"
SECRET = "whsec_" + base64.b64encode(b"a secret of the tests...").decode()
THRESHOLDS = tuple(map(Decimal, ("0.5", "0.75", "0.9", "1", "1.2")))
PARTITIONS = 2
QUIET_S = 4.0


def test_each_alert_arrives_once_without_a_kill(kafka: Broker, tmp_path: Path) -> None:
    """Each crossing, nothing else, and nothing twice."""
    messages, mails = run(kafka, tmp_path, agents=8, seconds=2, worker_kills=0, alerts_kills=0)
    assert set(messages.values()) == set(mails.values()) == {1}


@pytest.mark.crash
def test_each_alert_arrives_though_the_worker_and_the_delivery_are_killed(
    kafka: Broker, tmp_path: Path
) -> None:
    """Each crossing, nothing else, and what arrives again has the id and body that it had."""
    run(kafka, tmp_path, agents=150, seconds=45, worker_kills=3, alerts_kills=2)


def run(
    kafka: Broker, data_dir: Path, *, agents: int, seconds: float, worker_kills: int,
    alerts_kills: int,
) -> tuple[Counter[str], Counter[str]]:  # fmt: skip
    """How often each webhook and each mail arrived, when all that should have arrived has."""
    app_id = f"heard-{uuid.uuid4().hex[:8]}"
    rng = random.Random(time.time_ns())
    with Hearing(SECRET) as hearing:
        heard = hearing.heard
        settings = {
            "OUTLAY_TOPIC_PREFIX": app_id,
            "OUTLAY_APP_ID": app_id,
            "OUTLAY_SESSION_TIMEOUT_S": "6",
            "OUTLAY_USAGE_PARTITIONS": str(PARTITIONS),
            "OUTLAY_TOTALS_PARTITIONS": str(PARTITIONS),
            "OUTLAY_ALERT_PRIVATE_TARGETS": "127.0.0.0/8",
            "OUTLAY_ALERT_SMTP_HOST": "127.0.0.1",
            "OUTLAY_ALERT_SMTP_PORT": str(hearing.smtp_port),
            "OUTLAY_ALERT_SMTP_TLS": "off",
        }
        stack = Stack(
            data_dir, broker=kafka, owns_broker=False, api=False, alerts=True, settings=settings
        )
        with stack:
            stack.wait_ready()
            spending = Spending(rng, agents)
            asyncio.run(set_up(stack, spending.budgets, hearing.url))
            assert stack.alerts is not None
            victims = [stack.workers[0]] * worker_kills + [stack.alerts] * alerts_kills
            rng.shuffle(victims)
            kills = [
                (seconds * rng.uniform(n, n + 0.9) / len(victims), victim)
                for n, victim in enumerate(victims)
            ]

            def kill_if_due(spent_s: float) -> None:
                if kills and spent_s >= kills[0][0]:
                    _, victim = kills.pop(0)
                    victim.kill()
                    victim.start()

            asyncio.run(spending.spend(stack, seconds, kill_if_due))
            wanted = spending.crossings()
            wait_until(
                f"all {len(wanted)} arrive",
                lambda: wanted <= {crossing for _, crossing in heard.crossings().values()},
            )
            wait_until("all mails arrive", lambda: set(heard.mails) == set(heard.messages))
            time.sleep(QUIET_S)  # whatever else would come
        assert heard.problems == []  # each signature was right
        told = [crossing for _, crossing in heard.crossings().values()]
        assert Counter(told) == Counter(wanted)
        assert set(heard.mails) == set(heard.messages)
        return heard.messages, heard.mails


class Spending:
    """Random usage of agents with budgets, and what it has come to."""

    def __init__(self, rng: random.Random, agents: int) -> None:
        self._rng = rng
        self._names = [f"agent-{n}" for n in range(agents)]
        self.budgets = {
            Scope(ORGANIZATION, agent_id=name): Budget(
                daily_budget_usd=Decimal(rng.randint(1, 60)) / 10,
                monthly_execution_limit=rng.randint(1, 40),
            )
            for name in self._names
        }
        self._used: dict[tuple[Scope, str], list[Decimal]] = defaultdict(
            lambda: [Decimal(0), Decimal(0)]
        )

    async def spend(self, stack: Stack, seconds: float, meanwhile: Callable[[float], None]) -> None:
        """Until so many seconds have gone by; `meanwhile` is told how many have."""
        async with AIOKafkaProducer(
            bootstrap_servers=stack.bootstrap_servers, enable_idempotence=True
        ) as producer:
            began = time.monotonic()
            while (spent_s := time.monotonic() - began) < seconds:
                await asyncio.to_thread(meanwhile, spent_s)
                for _ in range(self._rng.randint(1, 2 * len(self._names) // 5)):
                    record = self._record()
                    partition = usage_partition(ORGANIZATION, record.agent_id, PARTITIONS)
                    value = encode_usage([record])
                    await producer.send(stack.topics.usage, value, partition=partition)
                await asyncio.sleep(0.1)

    def _record(self) -> UsageRecord:
        record = UsageRecord.new(
            organization_id=ORGANIZATION,
            agent_id=self._rng.choice(self._names),
            cost_usd=f"0.{self._rng.randrange(10**3):03d}",
            occurred_at=datetime.now(UTC),
        )
        scope = Scope(ORGANIZATION, agent_id=record.agent_id)
        day = record.occurred_at.strftime("%Y-%m-%d")
        for window in (day, day[:7]):
            used = self._used[scope, window]
            used[0] += Decimal(str(record.cost_usd))
            used[1] += 1
        return record

    def crossings(self) -> set[Crossing]:
        """What has been crossed."""
        found = set()
        for (scope, window), (cost, executions) in self._used.items():
            budget = self.budgets[scope]
            is_day = len(window) > 7
            kind, used = ("cost", cost) if is_day else ("executions", executions)
            limit = budget.daily_budget_usd if is_day else budget.monthly_execution_limit
            assert limit is not None
            found |= {
                (scope.key, window, kind, threshold)
                for threshold in THRESHOLDS
                if used >= threshold * limit
            }
        return found


async def set_up(stack: Stack, budgets: dict[Scope, Budget], url: str) -> None:
    """Budgets whose alerts, by their organization, go out each by itself."""
    config = AlertConfig(
        webhook_url=url,
        webhook_secrets=(SECRET,),
        email_recipients=("ops@example.com",),
        thresholds=THRESHOLDS,
        include_forecast=False,
        cooldown_minutes=0,
    )
    async with (
        DecisionFeed(stack.bootstrap_servers, topics=stack.topics) as feed,
        BudgetClient(stack.bootstrap_servers, feed=feed, topics=stack.topics) as client,
    ):
        await feed.await_ready()
        await client.aput(Scope(ORGANIZATION), Budget())
        await client.aput_alerts(Scope(ORGANIZATION), config)
        await asyncio.gather(*(client.aput(*each) for each in budgets.items()))
