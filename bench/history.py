"""History: records from Kafka into ClickHouse against a bare insert, and a month's spend by team.

The sink's whole path is measured, from the assignment of its partitions to its last commit; the
bare insert gives the same client the same columns, made beforehand. Each runs in a process of its
own, since a process opens one chDB path at a time.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bench import kafka
from bench.history_month import Month
from bench.plan import Plan
from bench.report import Report
from bench.usage import ORGANIZATION, PARTITIONS, Usage
from schemas.settings import Settings
from streams.topics import ensure_topics, topic_specs

DSN_VARIABLE = "OUTLAY_BENCH_CLICKHOUSE_DSN"
"""A ClickHouse server to measure, too; databases of our own are made there, and dropped."""

RATIO_MIN = 0.5
AGENTS = 10_000
PACK = 500
CHILD_TIMEOUT_S = 900.0
BYTES_PER_ROW = 150
"""Disk that a row of the month takes at most while it is made, with room for merges."""


def run(plan: Plan, report: Report) -> None:
    """Measure the sink and the query; a smoke run has the sink and a small month alone."""
    _measure_rows(plan, report)
    _measure_month(plan, report)


def _measure_rows(plan: Plan, report: Report) -> None:
    packed, single = _Load(plan, report, PACK), _Load(plan, report, 1)
    dsns = {"": ""}
    if dsn := os.environ.get(DSN_VARIABLE):
        dsns["server_"] = urlsplit(dsn)._replace(path="").geturl()
    else:
        report.skip("server_history_rows_per_s", f"{DSN_VARIABLE} names no ClickHouse server")
    variants: dict[str, Callable[[], float]] = {}
    for prefix, dsn in dsns.items():
        ways = [("history", packed, "sink"), ("history_single", single, "sink")]
        if not plan.smoke:
            ways.append(("bare_insert", packed, "bare"))
        for name, load, way in ways:
            variants[f"{prefix}{name}_rows_per_s"] = load.measure(f"{prefix}{name}", way, dsn)
    try:
        report.measure(variants, warmups=0 if plan.smoke else 1)
    finally:
        packed.close()
        single.close()
    for prefix in dsns:
        bare = f"{prefix}bare_insert_rows_per_s"
        ratio = report.ratio(f"{prefix}history / bare insert", f"{prefix}history_rows_per_s", bare)
        report.goal(f"{prefix}history / bare insert", ratio, at_least=RATIO_MIN)
        name = f"{prefix}history, one record a message / bare insert"
        report.ratio(name, f"{prefix}history_single_rows_per_s", bare)
    report.note(
        f"history: messages of {PACK} records in arrays of JSON; history_single:"
        " one record a message. Batches are equally large in all of them"
        f" ({packed.batch_rows:,} rows), each insert is on disk when it returns, and the bare one"
        " is given the columns that the sink has found to be the quickest."
    )


class _Load:
    """A usage topic with records in it, `pack` to a message, and who takes them into a history."""

    def __init__(self, plan: Plan, report: Report, pack: int) -> None:
        self.batch_rows = plan.size(100_000, 1_000)
        self._rows = plan.size(5, 3) * self.batch_rows
        self._report = report
        self._directory = plan.directory / f"history-{pack}"
        self._name = f"bench-{uuid.uuid4().hex[:12]}"
        self._servers = plan.broker.bootstrap_servers
        self._children = 0
        usage = Usage(plan.size(AGENTS, 200), trace=plan.trace)
        # Whole packs to the partitions in turn, so that every batch is cut at the same size.
        samples = [
            sample._replace(partition=number // pack % PARTITIONS)
            for number, sample in enumerate(usage.take(self._rows))
        ]
        settings = self._settings("")
        self._topics = [spec.name for spec in topic_specs(settings)]
        asyncio.run(ensure_topics(settings))
        asyncio.run(kafka.load(self._servers, settings.topics.usage, samples, pack=pack))
        self._ends = asyncio.run(kafka.ends(self._servers, settings.topics.usage))
        self._month = min(window for _, window in usage.sums)
        self._teams = _teams(usage, self._month)

    def _settings(self, dsn: str) -> Settings:
        return Settings(
            kafka_bootstrap_servers=self._servers,
            topic_prefix=self._name,
            app_id=f"{self._name}-{self._children}",
            usage_partitions=PARTITIONS,
            data_dir=self._directory,
            clickhouse_dsn=dsn,
            clickhouse_database=f"outlay_{self._name}_{self._children}".replace("-", "_"),
            history_batch_rows_max=self.batch_rows,
            history_flush_interval_s=60.0,  # batches are full before
        )

    def measure(self, name: str, way: str, dsn: str) -> Callable[[], float]:
        """What takes all records in once, one way; it returns rows per second."""

        def run() -> float:
            self._children += 1
            try:
                found = _child(
                    "bench.history_child",
                    {
                        "way": way,
                        "settings": self._settings(dsn).model_dump(mode="json"),
                        "ends": self._ends,
                        "month": self._month,
                    },
                )
            finally:
                shutil.rmtree(self._directory, ignore_errors=True)
            self._report.expect(f"{name}: rows", found["records"], self._rows)
            self._report.expect(f"{name}: spend by team", found["teams"], self._teams)
            cpu_s = found["cpu_s"] / self._rows * 1e6
            self._report.add(f"{name}_cpu_s_per_million", cpu_s)
            return float(self._rows / found["elapsed_s"])

        return run

    def close(self) -> None:
        """Delete the topics."""
        asyncio.run(kafka.delete_topics(self._servers, self._topics))


def _teams(usage: Usage, month: str) -> dict[str, list[int]]:
    """What each team has used in a month, by its id."""
    start = f"organization:{ORGANIZATION}/team:"
    return {
        scope.removeprefix(start): amounts
        for (scope, window), amounts in usage.sums.items()
        if window == month and scope.startswith(start) and "/user:" not in scope
    }


def _measure_month(plan: Plan, report: Report) -> None:
    full = month = Month(plan.size(10_000, 200), plan.size(167, 2))
    free = shutil.disk_usage(plan.directory).free
    while month.rows * BYTES_PER_ROW > free and month.calls_daily > 1:
        month = msgspec.structs.replace(month, calls_daily=month.calls_daily // 2)
    if month != full:
        report.note(f"spend_by_team: not {full.rows:,} rows, since {free / 1e9:.0f} GB are free.")
    directory = plan.directory / "history-month"
    request = {"directory": str(directory), "month": msgspec.to_builtins(month)}
    try:
        _child("bench.history_month", request | {"fill": True})
        plan.say(f"history: a month of {month.rows:,} rows is made")
        teams = month.teams()

        def cold() -> float:
            found = _child("bench.history_month", request | {"fill": False})
            report.expect("the month's spend by team", found["teams"], teams)
            report.add("spend_by_team_warm_s", found["warm_s"])
            return float(found["cold_s"])

        report.measure({"spend_by_team_cold_s": cold}, warmups=0)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    report.note(
        f"spend_by_team: over {month.rows:,} records of one month, {month.replayed:,} of which are"
        " there twice. Cold: the first query of a process, with none of ClickHouse's own caches;"
        " the page cache of the system stays. Warm: the median of three more in that process."
    )


def _child(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """Run a module of ours with a request; what it answers."""
    child = subprocess.run(
        [sys.executable, "-m", module],
        input=msgspec.json.encode(request),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
        check=True,
        timeout=CHILD_TIMEOUT_S,
    )
    answer: dict[str, Any] = msgspec.json.decode(child.stdout.splitlines()[-1])
    return answer
