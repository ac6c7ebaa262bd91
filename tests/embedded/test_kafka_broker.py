"""The embedded Apache Kafka keeps what it promises: transactions, and data that outlives it."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from embedded_traffic import create_topic, produce, read, run

from outlay.embedded import ChildFailed, KafkaBroker, PortInUse, asking
from outlay.embedded.broker import kafka_possible
from outlay.embedded.ports import free_port

pytestmark = pytest.mark.skipif(
    not kafka_possible(), reason="Apache Kafka needs java >= 17 and mvn (or its cached jars)"
)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.stop()


def test_says_what_it_is_and_is_reached_from_this_machine_only(kafka: KafkaBroker) -> None:
    """The name carries kind and version; the address is a loopback one."""
    assert kafka.name.startswith("Apache Kafka 4.")
    assert kafka.bootstrap_servers == f"127.0.0.1:{kafka.port}"
    assert kafka.transactions
    assert kafka.durable


def test_transactions_are_found_by_asking(kafka: KafkaBroker) -> None:
    """The probe used for external brokers agrees with what the embedded one declares."""
    assert asking.supports_transactions(kafka.bootstrap_servers) is True


def test_idempotent_producer_and_group(kafka: KafkaBroker) -> None:
    """An idempotent producer's records reach a member of a group, in order."""
    servers = kafka.bootstrap_servers
    run(create_topic(servers, "idempotent"))
    values = [b"a", b"b", b"c"]
    run(produce(servers, "idempotent", values, enable_idempotence=True))
    assert run(read(servers, "idempotent", 3, group="readers")) == values


def test_readers_see_committed_transactions_only(kafka: KafkaBroker) -> None:
    """What an aborted transaction sent is not read; what a committed one sent is."""
    servers = kafka.bootstrap_servers

    async def abort() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id="aborting")
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait("transactional", b"aborted")
        await producer.abort_transaction()
        await producer.stop()

    run(create_topic(servers, "transactional"))
    run(abort())
    run(produce(servers, "transactional", [b"committed"], transactional_id="committing"))
    assert run(read(servers, "transactional", 1)) == [b"committed"]


def test_topic_settings_have_effect(kafka: KafkaBroker) -> None:
    """With `LogAppendTime` the broker's clock replaces the producer's."""
    servers = kafka.bootstrap_servers
    settings = {"cleanup_policy": "compact", "message_timestamp_type": "LogAppendTime"}

    async def send() -> int:
        producer = AIOKafkaProducer(bootstrap_servers=servers)
        await producer.start()
        try:
            sent = await producer.send_and_wait("timed", b"v", key=b"k", timestamp_ms=1)
        finally:
            await producer.stop()
        return sent.timestamp_type

    run(create_topic(servers, "timed", **settings))
    assert run(send()) == 1


def test_another_broker_at_its_port_is_not_taken_for_it(
    kafka: KafkaBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one that took the port after it was found free: it ends, and is told with its log.

    The error has the broker's own words.
    """
    monkeypatch.setattr("outlay.embedded.kafka.check_free", lambda port, whose: None)
    second = KafkaBroker(tmp_path, port=kafka.port)
    with pytest.raises(ChildFailed, match=r"(?s)ended with exit code 1.*Address already in use"):
        second.start()
    assert second.pid is None
    assert kafka.pid is not None


def test_data_outlives_a_stop_and_a_kill(kafka: KafkaBroker) -> None:
    """The same data directory again: after SIGTERM, and after SIGKILL at another port.

    The kill comes right after a commit, before the broker has written the commit's markers.
    """
    servers = kafka.bootstrap_servers
    run(create_topic(servers, "kept"))
    run(produce(servers, "kept", [b"1"]))
    kafka.stop()
    assert kafka.pid is None
    kafka.start()
    run(produce(servers, "kept", [b"2"], transactional_id="keeper"))
    pid = kafka.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    kafka.kill()  # waits for its end

    again = KafkaBroker(kafka.data_dir, port=free_port())
    again.start()
    try:
        assert run(read(again.bootstrap_servers, "kept", 2)) == [b"1", b"2"]
        run(produce(again.bootstrap_servers, "kept", [b"3"], transactional_id="keeper"))
        assert run(read(again.bootstrap_servers, "kept", 3))[2] == b"3"
    finally:
        again.stop()


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """Whoever listens there would get the clients until the broker has failed to bind."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        for broker in (
            KafkaBroker(tmp_path, port=port),
            KafkaBroker(tmp_path, controller_port=port),
        ):
            with pytest.raises(PortInUse, match=rf"Apache Kafka .* port {port} .* in use"):
                broker.start()
            assert broker.pid is None
    assert not list(tmp_path.iterdir())
