"""Two workers and an API with history on a broker, and what can be seen of them from outside."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from outlay.embedded import Broker
from outlay.embedded.ports import free_port
from outlay.stack import Stack, Worker
from tests.kafka_log import KafkaLog, Positions

SESSION_TIMEOUT_S = 4.0
FLUSH_INTERVAL_S = 0.7
SCRAPE_TIMEOUT_S = 2.0

_POSITION = re.compile(r'outlay_stream_position\{partition="(\d+)",topic="([^"]+)"\} ([0-9.e+]+)')


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
        self.kafka = KafkaLog(broker.bootstrap_servers)

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
        return self.kafka.committed(self.app_id)

    def lag(self) -> int:
        """Messages of the usage topic that are not committed yet."""
        committed = self.committed()
        return sum(end - committed.get(tp, 0) for tp, end in self.kafka.ends(self.usage).items())

    def is_settled(self) -> bool:
        """Whether every stage has committed all messages of its sources."""
        committed = self.committed()
        topics = self.stack.topics
        if self.lag():
            return False
        for topic in (topics.partials, topics.budgets):
            start = {tp: at for tp, at in committed.items() if tp[0] == topic}
            # A report of progress each second is the rest of an idle stream.
            rest = self.kafka.read(topic, start)
            if topic == topics.partials:
                rest = [r for r in rest if b'"entries"' in r.value]
            if rest:
                return False
        return True
