"""Throughput: usage records to durable totals, against the limit and against other ways."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import msgspec

from bench.installation import Installation
from bench.plan import Plan
from bench.report import Report
from bench.usage import Usage

AGENTS = 10_000
PACK = 500
CHILD_TIMEOUT_S = 600.0


def run(plan: Plan, report: Report) -> None:
    """Measure one worker on single-record and on packed messages, and what it is held against."""
    single = _Load(plan, report, "single", plan.size(1_000_000, 2_000), 1)
    packed = _Load(plan, report, "packed", plan.size(4_000_000, 5_000), PACK)
    variants: dict[str, Callable[[], float]] = {}
    for load in (single, packed):
        variants[f"outlay_{load.name}_records_per_s"] = load.outlay
        variants[f"limit_{load.name}_records_per_s"] = load.limit
    report.measure(variants, warmups=0 if plan.smoke else 1)
    for load in (single, packed):
        report.ratio(
            f"{load.name}: outlay / limit",
            f"outlay_{load.name}_records_per_s",
            f"limit_{load.name}_records_per_s",
        )


class _Load:
    """A usage topic with so many records in it, and who reads it."""

    def __init__(self, plan: Plan, report: Report, name: str, records: int, pack: int) -> None:
        self.name = name
        self._records = records
        self._report = report
        usage = Usage(plan.size(AGENTS, 100), trace=plan.trace)
        self.installation = Installation(plan.broker, plan.directory)
        self.installation.load(usage.take(records), pack=pack)
        self._sums = usage.sums

    def outlay(self) -> float:
        """One worker of ours, from nothing to the last decision; records per second."""
        installation = self.installation
        installation.forget()
        installation.start()
        try:
            began_s = installation.began_s()
            before = sum(installation.cpu_s())
            elapsed_s = installation.wait_done() - began_s
            cpu_s = sum(installation.cpu_s()) - before
        finally:
            installation.stop()
        self._report.expect(f"totals, {self.name}", installation.totals(), self._sums)
        self._report.add(f"outlay_{self.name}_cpu_s_per_million", cpu_s / self._records * 1e6)
        return self._records / elapsed_s

    def limit(self) -> float:
        """aiokafka and msgspec alone; records per second."""
        topic = self.installation.settings.topics.usage
        command = [sys.executable, "-m", "bench.reader", self.installation.servers, topic]
        output = subprocess.run(
            [*command, str(self._records)],
            capture_output=True,
            text=True,
            check=True,
            timeout=CHILD_TIMEOUT_S,
        ).stdout
        found = msgspec.json.decode(output)
        self._report.add(
            f"limit_{self.name}_cpu_s_per_million", found["cpu_s"] / self._records * 1e6
        )
        return float(found["records_per_s"])
