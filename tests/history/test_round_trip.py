"""From Kafka into ClickHouse, through the real process."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from outlay.embedded.ports import free_port
from outlay.usage import encode_usage
from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from streams.clickhouse_audit import AuditLog
from tests.history.records import audit_record, audit_told, usage

RECORDS = 400


@pytest.fixture
def process_environment(topic_prefix, tmp_path):
    """What the history process is told, and a free port for its metrics."""
    return os.environ | {
        "OUTLAY_KAFKA_BOOTSTRAP_SERVERS": topic_prefix.bootstrap_servers,
        "OUTLAY_TOPIC_PREFIX": topic_prefix.names.prefix,
        "OUTLAY_APP_ID": topic_prefix.names.prefix,
        "OUTLAY_DATA_DIR": str(tmp_path),
        "OUTLAY_CLICKHOUSE_DSN": "",
        "OUTLAY_HISTORY_FLUSH_INTERVAL_S": "0.2",
        "OUTLAY_SESSION_TIMEOUT_S": "6",
        "OUTLAY_METRICS_PORT": str(free_port()),
        "OUTLAY_METRICS_HOST": "127.0.0.1",
    }


@contextmanager
def history(environment):
    """The process, ended in any case."""
    process = subprocess.Popen([sys.executable, "-m", "streams.history"], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _rows(environment, of="history") -> float:
    url = f"http://127.0.0.1:{environment['OUTLAY_METRICS_PORT']}/metrics"
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"outlay_{of}_rows_total "):
                return float(line.split()[1])
    return 0


def _wait_for_metrics(process, environment):
    """Signals are heeded by then."""
    address = ("127.0.0.1", int(environment["OUTLAY_METRICS_PORT"]))
    deadline = time.monotonic() + 40
    while True:
        with suppress(OSError), socket.create_connection(address, timeout=5):
            return
        assert process.poll() is None, "the process has ended"
        assert time.monotonic() < deadline, "no metrics after 40 s"
        time.sleep(0.05)


def _wait_for_rows(process, environment, count, of="history"):
    deadline = time.monotonic() + 40
    while _rows(environment, of) < count:
        assert process.poll() is None, "the process has ended"
        assert time.monotonic() < deadline, f"{_rows(environment, of)} rows after 40 s"
        time.sleep(0.05)


def test_every_record_once_after_a_kill_and_a_resend(topic_prefix, process_environment, tmp_path):
    """Killed with rows behind it, started again, sent everything twice: once each, exact."""
    records = [usage(cost_usd="0.000000007", agent_id=f"a{n % 7}") for n in range(RECORDS)]
    messages = [(None, encode_usage(records[n : n + 3]), n % 2) for n in range(0, len(records), 3)]
    topic_prefix.create(usage=2)
    topic = topic_prefix.names.usage
    topic_prefix.send(topic, messages)
    with history(process_environment) as process:
        _wait_for_rows(process, process_environment, 1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    topic_prefix.send(topic, [*messages, (None, b"{bad", 0)])
    with history(process_environment) as process:
        _wait_for_rows(process, process_environment, RECORDS)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0

    async def total():
        clickhouse = ClickHouse(Settings(data_dir=tmp_path, clickhouse_dsn=""))
        try:
            return await clickhouse.total()
        finally:
            await clickhouse.close()

    found = asyncio.run(total())
    assert (found.records, found.ids) == (RECORDS, RECORDS)
    assert found.amounts.cost_nano == 7 * RECORDS


def test_a_stop_before_the_topic_exists(topic_prefix, process_environment):
    """It waits for the worker to make the topic, makes none itself, and can be stopped."""
    with history(process_environment) as process:
        _wait_for_metrics(process, process_environment)
        time.sleep(2)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0

    async def topics():
        admin = AIOKafkaAdminClient(bootstrap_servers=topic_prefix.bootstrap_servers)
        await admin.start()
        try:
            return await admin.list_topics()
        finally:
            await admin.close()

    assert topic_prefix.names.usage not in asyncio.run(topics())


def test_a_permanent_error_exits_non_zero(process_environment):
    """Bad settings and a database that refuses are not waited for."""
    for dsn, code in [("chdb://relative", 1)]:
        with history(process_environment | {"OUTLAY_CLICKHOUSE_DSN": dsn}) as process:
            assert process.wait(30) == code
    with history(process_environment | {"OUTLAY_HISTORY_BATCH_ROWS_MAX": "0"}) as process:
        assert process.wait(30) == 2


def test_every_decided_request_once_after_a_kill_and_a_resend(
    topic_prefix, process_environment, tmp_path
):
    """The audit, as usage: also where the stream publishes a record again."""
    records = [audit_record(partition=n % 2, offset=n // 2) for n in range(RECORDS)]
    messages = [(b"organization:acme", audit_told(r).value, r.partition) for r in records]
    topic_prefix.create(usage=2, audit=2)
    topic = topic_prefix.names.audit
    topic_prefix.send(topic, messages)
    with history(process_environment) as process:
        _wait_for_rows(process, process_environment, 1, of="audit")
        process.send_signal(signal.SIGKILL)
        process.wait()
    topic_prefix.send(topic, [*messages, (None, b"{bad", 0)])
    with history(process_environment) as process:
        _wait_for_rows(process, process_environment, RECORDS, of="audit")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0

    async def entries():
        clickhouse = ClickHouse(Settings(data_dir=tmp_path, clickhouse_dsn=""))
        try:
            return await clickhouse.ask(AuditLog(10 * RECORDS, "acme"))
        finally:
            await clickhouse.close()

    found = [(row.place.partition, row.place.offset) for row in asyncio.run(entries())]
    assert found == sorted(((r.partition, r.offset) for r in records), reverse=True)
