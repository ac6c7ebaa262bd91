"""What a broker holds, read from outside and with no help of the code under test."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

READ_TIMEOUT_S = 60.0
WAIT_TIMEOUT_S = 90.0

COLUMNS = ("cost_nano", "executions", "input_tokens", "output_tokens")

Positions = dict[tuple[str, int], int]
"""Offsets by topic and partition."""

Sums = dict[tuple[str, str], list[int]]
"""By scope and window: nano-dollars, executions, input and output tokens."""


class KafkaLog:
    """Topics and groups of a broker, read uncommitted where nothing else is said."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers = bootstrap_servers

    def committed(self, group_id: str) -> Positions:
        async def ask() -> Positions:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
            await admin.start()
            try:
                offsets = await admin.list_consumer_group_offsets(group_id)
            finally:
                await admin.close()
            return {(tp.topic, tp.partition): at.offset for tp, at in offsets.items()}

        return asyncio.run(ask())

    def ends(self, topic: str) -> Positions:
        async def ask(consumer: AIOKafkaConsumer, tps: list[TopicPartition]) -> Positions:
            ends = await consumer.end_offsets(tps)
            return {(tp.topic, tp.partition): end for tp, end in ends.items()}

        ends: Positions = self._with_topic(topic, ask)
        return ends

    def read(
        self,
        topic: str,
        start: Positions | None = None,
        *,
        isolation: str = "read_uncommitted",
    ) -> list[Any]:
        """Everything in a topic, or from some offsets on."""

        async def read(consumer: AIOKafkaConsumer, tps: list[TopicPartition]) -> list[Any]:
            ends = await consumer.end_offsets(tps)
            consumer.assign(tps)
            for tp in tps:
                consumer.seek(tp, (start or {}).get((tp.topic, tp.partition), 0))
            records: list[Any] = []
            for tp, end in ends.items():
                while await consumer.position(tp) < end:
                    for fetched in (await consumer.getmany(tp, timeout_ms=200)).values():
                        records += fetched
            return records

        records: list[Any] = self._with_topic(topic, read, isolation)
        return records

    def _with_topic(
        self, topic: str, ask: Callable[..., Any], isolation: str = "read_uncommitted"
    ) -> Any:
        async def run() -> Any:
            async with AIOKafkaConsumer(
                bootstrap_servers=self._servers,
                enable_auto_commit=False,
                isolation_level=isolation,
            ) as consumer:
                await consumer._client.set_topics([topic])
                found = consumer.partitions_for_topic(topic)
                return await ask(consumer, [TopicPartition(topic, p) for p in sorted(found)])

        return asyncio.run(asyncio.wait_for(run(), READ_TIMEOUT_S))

    def totals(self, app_id: str) -> Sums:
        """What a worker that starts now would recover as totals.

        Of agents they are the sums of what the usage partitions have: only those with a budget are
        told to the totals.
        """
        partials = self._parts(f"{app_id}-partials-changelog")
        parts = self._parts(f"{app_id}-totals-changelog")
        of_agents = {part: entry for part, entry in partials.items() if "/agent:" in part[0]}
        sums: Sums = defaultdict(lambda: [0, 0, 0, 0])
        for (scope, window, _), entry in (parts | of_agents).items():
            for i, amount in enumerate(entry):
                sums[scope, window][i] += amount
        return dict(sums)

    def _parts(self, changelog: str) -> dict[tuple[str, str, bytes], list[int]]:
        """The newest entries of a changelog, by scope, window and usage partition."""
        parts: dict[tuple[str, str, bytes], list[int]] = {}
        for record in self.read(changelog, isolation="read_committed"):
            if record.value is None or record.key.count(b" ") != 2:
                continue
            block = json.loads(record.value)
            usage_partition = record.key.split(b" ")[1]
            for window, columns in block["windows"].items():
                amounts = zip(*(columns[name] for name in COLUMNS), strict=True)
                for scope, entry in zip(block["scopes"], amounts, strict=True):
                    parts[scope, window, usage_partition] = entry
        return parts


def wait_until(what: str, ready: Callable[[], bool], timeout_s: float = WAIT_TIMEOUT_S) -> None:
    """Poll until something is so; fails with its name after a bound."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.05)
