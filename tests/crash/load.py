"""A load whose truth is known: paced usage records, and an independent count of them."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import defaultdict
from datetime import UTC, datetime
from fractions import Fraction

from aiokafka import AIOKafkaProducer

from outlay.framing import encode_message
from outlay.topics import TopicNames, usage_partition
from outlay.usage import UsageRecord
from tests.kafka_log import Sums

PARTITIONS = 4
AGENTS, USERS, TEAMS = 200, 40, 8
ORGANIZATION = "acme"
TICK_S = 0.05
JOIN_TIMEOUT_S = 120.0


class Load:
    """Sends records at a pace until it is told to finish, and at least `records` of them."""

    def __init__(
        self, servers: str, topics: TopicNames, *, records: int, per_second: float
    ) -> None:
        self.sent = 0
        self.sums: Sums = defaultdict(lambda: [0, 0, 0, 0])
        self._servers, self._topics = servers, topics
        self._records, self._per_second = records, per_second
        self._rng = random.Random(7)
        self._finish = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="load", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Send what is missing of `records`, as fast as it goes, and stop."""
        self._finish.set()
        self._thread.join(JOIN_TIMEOUT_S)
        if self._error is not None:
            raise self._error
        assert not self._thread.is_alive(), "the load did not come to its end"

    def _main(self) -> None:
        try:
            asyncio.run(self._send_all())
        except BaseException as error:
            self._error = error

    async def _send_all(self) -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=self._servers, enable_idempotence=True, max_batch_size=262_144
        ) as producer:
            while not self._finish.is_set():
                await self._send(producer, max(1, round(self._per_second * TICK_S)))
                await asyncio.sleep(TICK_S)
            while self.sent < self._records:
                await self._send(producer, min(5_000, self._records - self.sent))

    async def _send(self, producer: AIOKafkaProducer, count: int) -> None:
        packs: dict[int, list[UsageRecord]] = defaultdict(list)
        for _ in range(count):
            record = self._record()
            packs[usage_partition(ORGANIZATION, record.agent_id, PARTITIONS)].append(record)
        acknowledged = []
        for partition, records in packs.items():
            while records:
                size = self._rng.choice((1, 1, 5, 50))
                value = encode_message(records[:size])
                del records[:size]
                acknowledged.append(
                    await producer.send(self._topics.usage, value, partition=partition)
                )
        await asyncio.gather(*acknowledged)
        self.sent += count

    def _record(self) -> UsageRecord:
        agent = self._rng.randrange(AGENTS)
        record = UsageRecord.new(
            organization_id=ORGANIZATION,
            agent_id=f"agent-{agent}",
            user_id=f"user-{agent % USERS}",
            team_id=f"team-{agent % TEAMS}",
            cost_usd=f"0.{self._rng.randrange(10**9):09d}",
            input_tokens=self._rng.randrange(5_000),
            output_tokens=self._rng.randrange(1_000),
            occurred_at=datetime.now(UTC),
        )
        self._count(record)
        return record

    def _count(self, record: UsageRecord) -> None:
        organization = f"organization:{ORGANIZATION}"
        scopes = (
            organization,
            f"{organization}/team:{record.team_id}",
            f"{organization}/user:{record.user_id}",
            f"{organization}/team:{record.team_id}/user:{record.user_id}",
            f"{organization}/agent:{record.agent_id}",
        )
        day = record.occurred_at.strftime("%Y-%m-%d")
        amounts = (
            int(Fraction(str(record.cost_usd)) * 10**9),
            1,
            record.input_tokens,
            record.output_tokens,
        )
        for scope in scopes:
            for window in (day, day[:7]):
                sums = self.sums[scope, window]
                for i, amount in enumerate(amounts):
                    sums[i] += amount
