"""Two workers and an API with history on a broker, and what can be seen of them from outside."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from outlay.embedded import Broker
from outlay.embedded.ports import free_port
from outlay.stack import Stack, Worker
from tests.crash.load import Sums

SESSION_TIMEOUT_S = 4.0
FLUSH_INTERVAL_S = 0.7
WAIT_TIMEOUT_S = 90.0
SCRAPE_TIMEOUT_S = 2.0

_POSITION = re.compile(r'outlay_stream_position\{partition="(\d+)",topic="([^"]+)"\} ([0-9.e+]+)')

Positions = dict[tuple[str, int], int]


class Cluster:
    """Under test; `app_id` names the consumer group."""

    def __init__(self, broker: Broker, data_dir: Path, app_id: str) -> None:
        self.app_id = app_id
        settings = {
            "OUTLAY_TOPIC_PREFIX": app_id,
            "OUTLAY_APP_ID": app_id,
            "OUTLAY_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
            "OUTLAY_FLUSH_INTERVAL_S": str(FLUSH_INTERVAL_S),
            "OUTLAY_TRANSACTIONS": "on",
        }
        self.stack = Stack(data_dir, broker=broker, owns_broker=False, workers=0, settings=settings)
        self.ports = [free_port(), free_port()]
        self.workers = [
            Worker(
                index,
                env=self.stack.settings | {"OUTLAY_METRICS_PORT": str(port)},
                log_dir=self.stack.log_dir,
            )
            for index, port in enumerate(self.ports)
        ]
        self.stack.workers = self.workers
        self.usage = self.stack.topics.usage

    def log(self, worker: Worker) -> str:
        return (self.stack.log_dir / f"{worker.name}.log").read_text()

    # -- what a worker says

    def positions(self, worker: Worker) -> Positions:
        """The next offsets that it will apply; empty while it owns nothing, or does not answer."""
        url = f"http://127.0.0.1:{self.ports[worker.index]}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=SCRAPE_TIMEOUT_S) as response:
                text = response.read().decode()
        except OSError:
            return {}
        return {(t, int(p)): int(float(at)) for p, t, at in _POSITION.findall(text)}

    def both_own(self) -> bool:
        return all(
            any(topic == self.usage for topic, _ in self.positions(worker))
            for worker in self.workers
        )

    # -- what the broker says

    def committed(self) -> Positions:
        async def ask() -> Positions:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.stack.bootstrap_servers)
            await admin.start()
            try:
                offsets = await admin.list_consumer_group_offsets(self.app_id)
            finally:
                await admin.close()
            return {(tp.topic, tp.partition): at.offset for tp, at in offsets.items()}

        return asyncio.run(ask())

    def ends(self, topic: str) -> Positions:
        async def ask(consumer: AIOKafkaConsumer, tps: list[TopicPartition]) -> Positions:
            ends = await consumer.end_offsets(tps)
            return {(tp.topic, tp.partition): end for tp, end in ends.items()}

        return self._with_topic(topic, ask)

    def read(self, topic: str, start: Positions | None = None) -> list[Any]:
        """Everything in a topic, or from some offsets on, uncommitted messages too."""

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

        return self._with_topic(topic, read)

    def _with_topic(self, topic: str, ask: Callable[..., Any]) -> Any:
        async def run() -> Any:
            async with AIOKafkaConsumer(
                bootstrap_servers=self.stack.bootstrap_servers, enable_auto_commit=False
            ) as consumer:
                await consumer._client.set_topics([topic])
                found = consumer.partitions_for_topic(topic)
                return await ask(consumer, [TopicPartition(topic, p) for p in sorted(found)])

        return asyncio.run(asyncio.wait_for(run(), WAIT_TIMEOUT_S))

    def lag(self) -> int:
        """Messages of the usage topic that are not committed yet."""
        committed = self.committed()
        return sum(end - committed.get(tp, 0) for tp, end in self.ends(self.usage).items())

    def is_settled(self) -> bool:
        """Whether every stage has committed all messages of its sources."""
        committed = self.committed()
        topics = self.stack.topics
        if self.lag():
            return False
        for topic in (topics.partials, topics.budgets):
            start = {tp: at for tp, at in committed.items() if tp[0] == topic}
            # A report of progress each second is the rest of an idle stream.
            rest = [r for r in self.read(topic, start) if b'"entries":[]' not in (r.value or b"")]
            if rest:
                return False
        return True

    def totals(self) -> Sums:
        """What a worker that starts now would recover as totals."""
        newest = {
            (r.partition, r.key): r.value for r in self.read(f"{self.app_id}-totals-changelog")
        }
        sums: Sums = defaultdict(lambda: [0, 0, 0, 0])
        for (_, key), value in newest.items():
            parts = key.decode().split(" ")
            if len(parts) == 3 and value is not None:
                _, *amounts = map(int, value.strip(b"[]").split(b","))
                for i, amount in enumerate(amounts):
                    sums[parts[0], parts[1]][i] += amount
        return dict(sums)


def wait_until(what: str, ready: Callable[[], bool], timeout_s: float = WAIT_TIMEOUT_S) -> None:
    """Poll until something is so; fails with its name after a bound."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.05)
