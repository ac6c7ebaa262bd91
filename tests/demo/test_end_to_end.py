"""The demo, and the stack of `outlay up`, as a user runs them."""

import asyncio
import json
import signal
import time
import urllib.error
import urllib.request
from decimal import Decimal

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from outlay.apikey import new_key
from outlay.embedded import KafkaBroker
from outlay.embedded.ports import free_port
from tests.demo.running import outlay, up


def test_the_demo_holds_what_it_promises(kafka, tmp_path):
    """Sent, counted and history agree exactly; every state was seen, and alerts arrived once."""
    report = tmp_path / "report.json"
    ended = outlay(
        "demo", "--duration", "10", "--agents", "150", "--report", str(report),
        OUTLAY_KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers,
        timeout_s=240,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    found = json.loads(report.read_text())
    assert found["ok"] is True
    assert kafka.bootstrap_servers in found["broker"]
    assert found["records_sent"] == found["records_counted"] == found["history_rows"] > 1_000
    assert found["cost_usd_sent"] == found["cost_usd_counted"] == found["history_cost_usd"]
    assert Decimal(found["cost_usd_sent"]) > 1
    assert found["states_seen"] == ["ok", "warning", "degraded", "exceeded"]
    assert 0 < found["calls_blocked"] < found["calls_checked"]
    assert found["records_sent"] == found["calls_checked"] - found["calls_blocked"]
    latency = found["decision_latency_ms"]
    assert 0 < latency["p50"] <= latency["p99"] < 60_000
    # What is told where there is no terminal: plain lines, one for each check at the end.
    assert "\x1b" not in ended.stdout
    assert " → exceeded" in ended.stdout
    assert ended.stdout.count("\nok     ") == 6
    alerts = found["alerts"]
    assert [each["threshold"] for each in alerts["crossed"][:4]] == ["0.5", "0.75", "0.9", "1"]
    assert len(alerts["arrived"]) == len(alerts["crossed"])
    assert all(each["verified"] for each in alerts["arrived"])
    assert "webhook: budget.exceeded of " in ended.stdout
    # On a broker that is not its own it leaves no topics behind.
    wait_for(lambda: demo_topics(kafka.bootstrap_servers), set())


def demo_topics(bootstrap_servers):
    """The topics of any demo."""

    async def ask():
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
        await admin.start()
        try:
            return {name for name in await admin.list_topics() if name.startswith("outlay-demo-")}
        finally:
            await admin.close()

    return asyncio.run(ask())


def write_trace(path, calls):
    """A trace of a minute."""
    rows = [f"2023-11-16 18:00:{n * 60 // calls:02d},{100 + n},{n % 50}" for n in range(calls)]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    tokens_in = sum(100 + n for n in range(calls))
    return (tokens_in * Decimal("2.50") + sum(n % 50 for n in range(calls)) * 10) / 1_000_000


def ask(url, key, body=None):
    """The answer to a GET, or to a PATCH with a body."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, data, headers, method="PATCH" if data else "GET")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response, parse_float=Decimal)


def wait_for(look, wanted):
    """Ask until the answer is the wanted one."""
    deadline = time.monotonic() + 60
    while (found := look()) != wanted:
        assert time.monotonic() < deadline, (found, wanted)
        time.sleep(0.25)


def test_up_ends_in_order_and_goes_on_where_it_was(kafka, tmp_path):
    """Ctrl-C is exit code 0; on Apache Kafka the next start has the budgets and the totals."""
    if not isinstance(kafka, KafkaBroker):
        pytest.skip("outlay up keeps its data on the embedded Apache Kafka only")
    trace, data_dir = tmp_path / "trace.csv", tmp_path / "data"
    usd = write_trace(trace, 500)
    arguments = ("--data-dir", str(data_dir), "--api-port", str(free_port()))

    with up(tmp_path, *arguments, OUTLAY_BROKER="kafka") as first:
        agents = f"{first.told('API').removesuffix('/docs')}/api/v1/external-agents"
        servers = first.told("Kafka protocol")
        key = first.told("admin key")
        again = outlay("up", "--data-dir", str(data_dir), OUTLAY_BROKER="kafka")
        assert again.returncode == 1
        assert "is in use by another" in again.stdout
        sent = outlay(
            "replay", str(trace), "--agents", "1", "--users", "1", "--teams", "1",
            "--bootstrap-servers", servers,
        )  # fmt: skip
        assert sent.returncode == 0, sent.stdout
        assert f"sent 500 records: {usd.normalize():f} USD" in sent.stdout
        config = f"{agents}/agent-0000/budget/config?organization_id=acme"
        assert ask(config, key, {"monthly_budget_usd": 7})["budget_limit_monthly"] == 7
        budget = f"{agents}/agent-0000/budget?organization_id=acme"
        wait_for(lambda: ask(budget, key)["cost_used"], usd)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(budget, new_key())
        assert first.end(signal.SIGINT) == 0
        assert first.text.rstrip().endswith("stopped")

    with up(tmp_path, *arguments, OUTLAY_BROKER="kafka") as second:
        wait_for(lambda: ask(budget, key)["cost_used"], usd)
        assert "admin key" not in second.text  # it was shown once; it is good for ever
        logs = [log.read_text() for log in (data_dir / "logs").glob("*.log")]
        assert not [log for log in logs if key in log]
        found = ask(budget, key)
        assert found["cost_limit"] == 7
        assert found["invocations"] == 500
        assert second.end(signal.SIGTERM) == 0
