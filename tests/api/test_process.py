"""The real process on a real port, and a real engine behind it."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import uvicorn

from api.app import create_app
from api.seams import ClickHouseHistory
from outlay.embedded.ports import free_port
from outlay.keyfile import KeyFile
from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from tests.api.fakes import NOW, FakeBudgets, FakeFeed
from tests.history.contract import insert
from tests.history.records import message, usage

NO_AUTH = "--no-auth"


def _get(port, path, method="GET", body=None, key=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


def test_over_a_socket_with_clickhouse(tmp_path):
    """A report and the status of an agent without a budget, from rows in the real engine."""
    settings = Settings(data_dir=tmp_path, clickhouse_dsn="")

    async def main():
        writer, history, feed = ClickHouse(settings), ClickHouseHistory(settings), FakeFeed()
        await writer.migrate()
        costs = ["0.1", "0.2", "0.000000003"]
        await insert(writer, *(message(usage(cost_usd=cost, model="m")) for cost in costs))
        app = create_app(
            settings, feed=feed, budgets=FakeBudgets(feed), history=history, now=lambda: NOW
        )
        config = uvicorn.Config(app, port=0, log_config=None, lifespan="on")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  # uvicorn offers no event
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        answers = [
            await asyncio.to_thread(_get, port, path)
            for path in (
                "/api/v1/reports/spend?from=2026-11-01&to=2026-12-01&group_by=model",
                "/api/v1/external-agents/a1/budget?organization_id=acme",
                "/api/v1/external-agents/a%252Fb/budget?organization_id=acme",
                "/readyz",
            )
        ]
        server.should_exit = True
        await serving
        await history.close()
        await writer.close()
        return answers

    report, status, odd, ready = asyncio.run(main())
    assert report[0] == status[0] == odd[0] == ready[0] == 200
    assert report[1]["total"]["cost_usd"] == "0.300000003"
    assert [row["group"] for row in report[1]["rows"]] == ["m"]
    assert (status[1]["cost_used"], status[1]["invocations"]) == (0.300000003, 3)
    assert odd[1]["external_agent_id"] == "a%2Fb"


@contextmanager
def _api(*arguments, **environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "api", *arguments],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _wait_for(look, process, timeout_s=40, pause_s=0.05):
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if found := look():
                return found
        except (OSError, http.client.HTTPException):
            pass
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(pause_s)


def test_the_process_keeps_the_history_with_chdb(topic_prefix, tmp_path):
    """Records sent to Kafka come back as a report; it says what is missing; SIGTERM ends it."""
    port = free_port()
    topic_prefix.create(usage=2, decisions=1, budgets=1, audit=1, alerts=1, alert_deliveries=1)
    records = [usage(organization_id="acme", cost_usd="0.25") for _ in range(4)]
    topic_prefix.send(
        topic_prefix.names.usage, [(None, message(record).value, 0) for record in records]
    )
    settings = {
        "OUTLAY_KAFKA_BOOTSTRAP_SERVERS": topic_prefix.bootstrap_servers,
        "OUTLAY_TOPIC_PREFIX": topic_prefix.names.prefix,
        "OUTLAY_APP_ID": topic_prefix.names.prefix,
        "OUTLAY_DATA_DIR": str(tmp_path),
        "OUTLAY_CLICKHOUSE_DSN": "",
        "OUTLAY_API_PORT": str(port),
        "OUTLAY_HISTORY_FLUSH_INTERVAL_S": "0.2",
        "OUTLAY_SESSION_TIMEOUT_S": "6",
        "OUTLAY_API_BUDGET_TIMEOUT_S": "0.5",
    }
    path = "/api/v1/reports/spend?from=2026-11-01&to=2026-12-01&interval=month"
    with _api(NO_AUTH, **settings) as process:

        def report():
            status, body = _get(port, path)
            return body if status == 200 and body["rows"] else None

        assert _wait_for(report, process)["total"]["cost_usd"] == "1.00"
        status, problem = _get(port, "/readyz")
        assert status == 503  # no worker publishes watermarks here
        assert not problem["checks"]["feed"]["ok"]
        assert problem["checks"]["clickhouse"]["ok"]
        assert problem["checks"]["history"] == {"ok": True, "detail": "running"}
        config = "/api/v1/external-agents/a1/budget/config?organization_id=acme"
        status, problem = _get(port, config, "PATCH", b'{"monthly_budget_usd": 1}')
        assert (status, problem["type"].rpartition(":")[2]) in [
            (503, "feed-unavailable"),
            (503, "budget-timeout"),
        ]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "says"),
    [
        ([], {}, 2, "name a file of keys in OUTLAY_API_KEYS_FILE"),
        ([], {"OUTLAY_API_HOST": "0.0.0.0"}, 2, "on 0.0.0.0 the API needs keys"),
        ([NO_AUTH], {"OUTLAY_API_HOST": "0.0.0.0"}, 2, "on 0.0.0.0 the API needs keys"),
        ([NO_AUTH], {"OUTLAY_API_KEYS_FILE": "keys.json"}, 2, "cannot be together"),
        ([], {"OUTLAY_API_KEYS_FILE": __file__}, 2, "not a file of keys"),
        ([], {"OUTLAY_API_KEYS_FILE": "/proc/self/mem"}, 2, "OUTLAY_API_KEYS_FILE: "),
        ([NO_AUTH], {"OUTLAY_API_PORT": "70000"}, 2, "api_port"),
        ([NO_AUTH], {"OUTLAY_API_CORS_ORIGINS": "*"}, 2, "OUTLAY_API_CORS_ORIGINS needs keys"),
        ([NO_AUTH], {"OUTLAY_CLICKHOUSE_DSN": "chdb://relative"}, 1, "write chdb"),
        ([NO_AUTH], {"OUTLAY_CLICKHOUSE_DSN": "foo://x"}, 1, "must start with clickhouse://"),
    ],
)
def test_what_cannot_be_ends_with_a_reason(arguments, environment, code, says):
    """Before it serves, or as soon as the history gives up."""
    given = {"OUTLAY_API_PORT": str(free_port())} | environment
    with _api(*arguments, **given) as process:
        assert process.wait(30) == code
        assert says in process.stderr.read()


def test_keys_are_made_and_revoked_while_it_runs(topic_prefix, tmp_path):
    """From no file on, where nobody is let in; on all addresses; no key is in its log."""
    port, file = free_port(), KeyFile(tmp_path / "keys.json")
    topic_prefix.create(usage=1, decisions=1, budgets=1, audit=1, alerts=1, alert_deliveries=1)
    settings = {
        "OUTLAY_KAFKA_BOOTSTRAP_SERVERS": topic_prefix.bootstrap_servers,
        "OUTLAY_TOPIC_PREFIX": topic_prefix.names.prefix,
        "OUTLAY_DATA_DIR": str(tmp_path),
        "OUTLAY_CLICKHOUSE_DSN": "",
        "OUTLAY_API_PORT": str(port),
        "OUTLAY_API_HOST": "0.0.0.0",
        "OUTLAY_API_KEYS_FILE": str(file.path),
    }
    path = "/api/v1/reports/spend?from=2026-11-01&to=2026-12-01"
    with _api(**settings) as process:
        _wait_for(lambda: _get(port, "/healthz")[0] == 200, process)
        assert _get(port, path)[0] == 401
        made, key = file.create("a", "acme", ("viewer",))
        # Not too often: ten wrong keys a minute, and then it says 429.
        _wait_for(lambda: _get(port, path, key=key)[0] == 200, process, pause_s=0.5)
        assert _get(port, f"{path}&organization_id=globex", key=key)[0] == 404
        file.revoke(made.id)
        _wait_for(lambda: _get(port, path, key=key)[0] == 401, process, pause_s=0.5)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "no key is in force" in log
    assert "reason=revoked" in log
    assert key not in log


def test_a_port_that_is_taken_ends_with_a_reason(tmp_path):
    """And not with a trace."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        given = {"OUTLAY_DATA_DIR": str(tmp_path), "OUTLAY_CLICKHOUSE_DSN": ""}
        with _api(NO_AUTH, OUTLAY_API_PORT=port, **given) as process:
            assert process.wait(30) == 1
            text = process.stderr.read()
    assert "address already in use" in text
    assert "Traceback" not in text
