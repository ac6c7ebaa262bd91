"""The worker as a process: how it ends, and what it does when the broker goes."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from outlay.embedded import Broker, KafkaBroker
from outlay.embedded.broker import kafka_possible
from outlay.stack import Stack
from outlay.usage import UsageRecord, encode_usage
from schemas.settings import Settings
from streams.trimming import trim
from tests.kafka_log import KafkaLog, wait_until

ACME = "organization:acme"
GONE_TIMEOUT_S = 90.0
"""From the broker's death to the worker's: two requests' timeouts and the bound of its end."""


def new_stack(broker: Broker, data_dir: Path, app_id: str | None = None, **settings: str) -> Stack:
    app_id = app_id or f"process-{uuid.uuid4().hex[:8]}"
    names = {"OUTLAY_TOPIC_PREFIX": app_id, "OUTLAY_APP_ID": app_id}
    everything = names | {f"OUTLAY_{name}": value for name, value in settings.items()}
    return Stack(data_dir, broker=broker, owns_broker=False, api=False, settings=everything)


def send(stack: Stack, count: int) -> None:
    async def send_all() -> None:
        async with AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers) as producer:
            for _ in range(count):
                record = UsageRecord.new(organization_id="acme", agent_id="a", cost_usd="0.5")
                await producer.send(stack.topics.usage, encode_usage([record]), partition=0)

    asyncio.run(send_all())


def log_of(stack: Stack) -> Callable[[], str]:
    return lambda: (stack.log_dir / "worker-0.log").read_text()


def executions(log: KafkaLog, app_id: str) -> int:
    """How many calls the month's total of the organization holds."""
    month = [s for (scope, w), s in log.totals(app_id).items() if len(w) == 7 and scope == ACME]
    return month[0][1] if month else 0


def test_a_graceful_stop_flushes_and_commits(kafka: Broker, tmp_path: Path) -> None:
    """What was applied is written by the last flush, though the next one was far away."""
    stack = new_stack(kafka, tmp_path, FLUSH_INTERVAL_S="3")
    app_id = stack.settings["OUTLAY_APP_ID"]
    log = KafkaLog(kafka.bootstrap_servers)

    with stack:
        stack.wait_ready()
        send(stack, 10)
        time.sleep(0.5)  # long enough to be applied, not to be flushed by itself
        assert stack.workers[0].stop() == 0
        assert log.committed(app_id)[stack.topics.usage, 0] == 10
        stack.workers[0].start()
        wait_until("the totals hold them", lambda: executions(log, app_id) == 10)


def test_partials_are_trimmed_and_a_restart_goes_on(kafka: Broker, tmp_path: Path) -> None:
    """What the totals have committed goes; what they have not stays, however long it takes."""
    if not kafka.transactions:
        pytest.skip(f"{kafka.name} deletes no records")
    stack = new_stack(kafka, tmp_path)
    app_id, topic = stack.settings["OUTLAY_APP_ID"], stack.topics.partials
    log = KafkaLog(kafka.bootstrap_servers)
    settings = Settings(
        kafka_bootstrap_servers=kafka.bootstrap_servers, topic_prefix=app_id, app_id=app_id
    )

    with stack:
        stack.wait_ready()
        send(stack, 10)
        wait_until("the totals hold them", lambda: executions(log, app_id) == 10)
        ours = {(topic, partition) for partition in range(4)}
        wait_until("they are committed", lambda: ours <= log.committed(app_id).keys())
        before = log.committed(app_id)
        asyncio.run(trim(settings, sorted(ours)))
        kept = log.read(topic, dict.fromkeys(before, 0))
        assert all(r.offset >= before[topic, r.partition] for r in kept)
        stack.workers[0].kill()
        send(stack, 5)
        stack.workers[0].start()
        wait_until("the totals go on", lambda: executions(log, app_id) == 15)


def test_a_worker_obeys_while_it_recovers(kafka: Broker, tmp_path: Path) -> None:
    """A start that does not come to its end can be stopped."""
    with new_stack(kafka, tmp_path) as stack:
        stack.workers[0].start()
        wait_until("it starts", lambda: "worker starts" in log_of(stack)())
        assert stack.workers[0].stop() == 0


def test_a_worker_whose_settings_do_not_fit_the_topics_does_not_start(
    kafka: Broker, tmp_path: Path
) -> None:
    """Another number of partitions would have totals start again from nothing."""
    with new_stack(kafka, tmp_path) as stack:
        stack.wait_ready()
        app_id = stack.settings["OUTLAY_APP_ID"]
    other = new_stack(kafka, tmp_path / "other", app_id, USAGE_PARTITIONS="8")
    other.workers[0].start()
    wait_until("it ends", lambda: other.workers[0].exit_code is not None)
    assert other.workers[0].exit_code == 1
    assert "has 4 partitions, the settings say 8" in log_of(other)()
    other.stop()


@pytest.mark.parametrize(
    ("topic", "config"),
    [
        ("usage", "message.timestamp.type=CreateTime"),
        ("decisions", "cleanup.policy=delete"),
    ],
)
def test_a_worker_refuses_topics_that_make_totals_wrong(
    kafka: Broker, tmp_path: Path, topic: str, config: str
) -> None:
    """One agent's wrong clock would age everybody's windows; old decisions would vanish."""
    if not kafka.transactions:
        pytest.skip(f"{kafka.name} keeps no such configuration")
    stack = new_stack(kafka, tmp_path)
    name, value = config.split("=")
    asyncio.run(make_topic(stack, getattr(stack.topics, topic), {name: value}))
    stack.workers[0].start()
    wait_until("it ends", lambda: stack.workers[0].exit_code is not None)
    assert stack.workers[0].exit_code == 1
    assert config in log_of(stack)()
    stack.stop()


async def make_topic(stack: Stack, name: str, configs: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 4, 1, topic_configs=configs)])
    finally:
        await admin.close()


@pytest.mark.skipif(not kafka_possible(), reason="Apache Kafka cannot be started here")
def test_a_worker_that_cannot_write_ends_with_an_error(tmp_path: Path) -> None:
    """With the broker gone it does not go on as if nothing were, and does not hang."""
    broker = KafkaBroker(tmp_path / "kafka")
    broker.start()
    try:
        stack = new_stack(broker, tmp_path / "stack", WRITE_TIMEOUT_S="3")
        with stack:
            stack.wait_ready()
            send(stack, 10)
            broker.kill()
            worker = stack.workers[0]
            wait_until("the worker ends", lambda: worker.exit_code is not None, GONE_TIMEOUT_S)
            assert worker.exit_code == 1
            assert "worker fails" in log_of(stack)()
    finally:
        broker.stop()
