"""The benchmarks of the streams run, and notice when what they measured is wrong; never how fast.

They are as small as they can be: what they find says nothing.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from bench import cardinality, latency, recovery, throughput
from bench.installation import COLUMNS, Installation
from bench.report import Report, Result
from bench.usage import Usage, differences
from outlay.embedded import Broker
from streams.stages import Changelogs

RunSmoke = Callable[..., Result]


@pytest.fixture
def kafka(kafka: Broker) -> Broker:
    """The session's, where it has what the streams need."""
    if not kafka.transactions:
        pytest.skip(f"{kafka.name} has no transactions: nothing here is durable")
    return kafka


def test_throughput(run_smoke: RunSmoke, kafka: Broker) -> None:
    result = run_smoke(throughput, kafka)
    assert result.correct, result.wrong
    assert result.results.keys() >= {
        "outlay_single_records_per_s",
        "outlay_packed_records_per_s",
        "outlay_packed_cpu_s_per_million",
        "limit_single_records_per_s",
        "limit_packed_records_per_s",
        "outlay_arrays_records_per_s",
        "limit_arrays_records_per_s",
    }
    kinds = ("single", "arrays", "packed")
    assert result.ratios.keys() == {f"{kind}: outlay / limit" for kind in kinds}
    assert [goal.name for goal in result.goals] == [
        "single, of its limit",
        "arrays, of its limit",
        "packed, of its limit",
        "packed, records/s",
    ]


def test_cardinality(run_smoke: RunSmoke, kafka: Broker) -> None:
    result = run_smoke(cardinality, kafka)
    assert result.correct, result.wrong
    assert result.results.keys() >= {
        "agents_10_cpu_us_per_record",
        "agents_500_wall_us_per_record",
        "agents_500_counted_rss_mb",
        "agents_500_restarted_rss_mb",
        "restarted_bytes_per_row",
        "restarted_bytes_per_scope_and_window",
    }
    assert len(result.goals) == 4


def test_recovery(run_smoke: RunSmoke, kafka: Broker) -> None:
    result = run_smoke(recovery, kafka)
    assert result.correct, result.wrong
    assert result.results.keys() >= {"ready_s", "recovery_s", "changelog_entries_per_s"}
    assert result.results["changelog_entries"] >= 4 * recovery.SMOKE_AGENTS
    assert [goal.name for goal in result.goals] == ["changelog entries/s", "ready in s"]


def test_latency(run_smoke: RunSmoke, kafka: Broker) -> None:
    result = run_smoke(latency, kafka)
    assert result.correct, result.wrong
    rate = latency.SMOKE_RATE_PER_S
    assert result.results.keys() >= {
        "hop_p50_ms",
        f"at_{rate}_p50_ms",
        f"at_{rate}_p99_ms",
        f"at_{rate}_reached_per_s",
    }
    assert len(result.goals) == 2


def test_totals_are_what_the_changelog_says_last_and_a_wrong_one_is_noticed(
    kafka: Broker, tmp_path: Path
) -> None:
    installation, usage = Installation(kafka, tmp_path), Usage(20)
    installation.load(usage.take(100), pack=10)
    rows = [
        (scope, window, part, (amounts[0] - 1, *amounts[1:]) if part else (1, 0, 0, 0))
        for (scope, window), amounts in usage.sums.items()
        for part in (0, 1)  # two usage partitions, which add up
    ]
    write_totals(installation, 0, [(*where, (0, 9, 0, 0)) for *where, _ in rows])
    write_totals(installation, 1, rows)  # later ones count
    assert differences(installation.totals(), usage.sums) == {}

    scope, window, part, (cost_nano, *others) = rows[-1]
    write_totals(installation, 2, [(scope, window, part, (cost_nano - 1, *others))])
    report = Report("smoke", 1, print)
    report.expect("totals that differ", differences(installation.totals(), usage.sums), {})
    assert not report.result().correct
    assert scope in report.result().wrong[0]
    installation.delete()


def write_totals(
    installation: Installation, save: int, rows: list[tuple[str, str, int, tuple[int, ...]]]
) -> None:
    """Write blocks of the changelogs, one for each row, as a worker does in a save.

    Those of agents stand in the one of the partials.
    """

    async def run() -> None:
        changelogs = Changelogs(installation.settings.app_id)
        async with AIOKafkaProducer(bootstrap_servers=installation.servers) as producer:
            for number, (scope, window, part, amounts) in enumerate(rows):
                columns = zip(COLUMNS, ([amount] for amount in (0, *amounts)), strict=True)
                value = json.dumps({"scopes": [scope], "windows": {window: dict(columns)}}).encode()
                key = f"{window[:7]} {part} {1_000 * save + number}".encode()
                topic = changelogs.partials if "/agent:" in scope else changelogs.totals
                await producer.send(topic, value, key, partition=0)
            await producer.flush()

    asyncio.run(run())
