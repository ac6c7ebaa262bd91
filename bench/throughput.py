"""Throughput: usage records to durable totals, against the limit and against other ways."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from itertools import islice

from bench import kafka, two_workers
from bench.installation import Installation
from bench.peer import Peer, is_installed, run_peer
from bench.plan import Plan
from bench.report import Report
from bench.usage import PARTITIONS, Usage, differences

AGENTS = 10_000
SMOKE_AGENTS = 100
SINGLE_RECORDS, ARRAYS_RECORDS, PACKED_RECORDS = 600_000, 3_000_000, 6_000_000
TWO_RECORDS = 3_000_000
"""For two workers: the first of them has counted a good deal before both own partitions."""

PACK = 500

PEERS = {
    "naive_faust": ("faust", "bench.naive_faust", 2_000),
    "quix": ("quixstreams", "bench.quix_totals", 20_000),
}
"""By name: the package, the module that runs it, and how many records it counts."""

LIMIT_SHARE_MIN = 0.6
PACKED_PER_S_MIN = 1_000_000
NAIVE_FAUST_MIN = 200
QUIX_MIN = 20
TWO_WORKERS_MIN = 1.7
TWO_WORKERS_CORES = 4
"""From how many cores on, the broker included, two workers have to be faster than one."""

SINGLE = "outlay_single_records_per_s"
ARRAYS = "outlay_arrays_records_per_s"
PACKED = "outlay_packed_records_per_s"
TWO = "two_workers_single_records_per_s"


def run(plan: Plan, report: Report) -> None:
    """Measure one worker on single-record and on packed messages, and what it is held against.

    Packed are frames, as emitters send them; `arrays` are the same records in arrays of JSON.
    """
    single = _Load(plan, report, "single", plan.size(SINGLE_RECORDS, 1_000), 1)
    arrays = _Load(plan, report, "arrays", plan.size(ARRAYS_RECORDS, 2_000), PACK)
    packed = _Load(
        plan, report, "packed", plan.size(PACKED_RECORDS, 2_000), PACK, packing=kafka.frame_of
    )
    loads = (single, arrays, packed)
    variants: dict[str, Callable[[], float]] = {}
    two = None if plan.smoke else _Load(plan, report, "two", TWO_RECORDS, 1)
    for load in loads:
        variants[f"limit_{load.name}_records_per_s"] = load.limit
        variants[f"outlay_{load.name}_records_per_s"] = load.outlay
    if two is not None:
        variants |= peers(plan, report)
        for load in loads:  # for the broker; all others start anew each time
            load.read()
        if _has_cores():
            variants[TWO] = two.two_workers
    report.measure(variants, warmups=0)
    if two is not None:
        if not _has_cores():  # last, since a broker that was just loaded is busy
            report.add(TWO, two.two_workers())
        two.installation.delete()
    for load in loads:
        load.installation.delete()
    _hold(report)


def _hold(report: Report) -> None:
    for name, value in (("single", SINGLE), ("arrays", ARRAYS), ("packed", PACKED)):
        share = report.ratio(f"{name}: outlay / limit", value, f"limit_{name}_records_per_s")
        report.goal(f"{name}, of its limit", share, at_least=LIMIT_SHARE_MIN)
    report.goal("packed, records/s", report.value(PACKED), at_least=PACKED_PER_S_MIN)
    for name, times in (("naive_faust", NAIVE_FAUST_MIN), ("quix", QUIX_MIN)):
        ratio = report.ratio(f"single: outlay / {name}", SINGLE, f"{name}_records_per_s")
        report.goal(f"single, times {name}", ratio, at_least=times)
    ratio = report.ratio("single: two workers / one", TWO, SINGLE)
    if _has_cores():
        report.goal("single, two workers / one", ratio, at_least=TWO_WORKERS_MIN)
    elif ratio is not None:
        report.note(
            f"Two workers are held against no goal on fewer than {TWO_WORKERS_CORES} cores: they "
            "and the broker share these. What each process takes for a million records is shown, "
            "measured once."
        )


def _has_cores() -> bool:
    return (os.cpu_count() or 1) >= TWO_WORKERS_CORES


def peers(plan: Plan, report: Report) -> dict[str, Callable[[], float]]:
    """Those that are installed, each on a topic of its own."""
    found = {}
    for name, (package, module, records) in PEERS.items():
        if not is_installed(package):
            report.skip(name, f"{package} is not installed")
            continue
        found[f"{name}_records_per_s"] = _Peer(plan, report, name, module, records).count
    return found


class _Peer:
    """Another way of counting, in a process of its own, and the usage that it counts."""

    def __init__(self, plan: Plan, report: Report, name: str, module: str, records: int) -> None:
        self._name, self._module, self._records = name, module, records
        self._report = report
        self._servers = plan.broker.bootstrap_servers
        self._topic = f"bench-{name}-{os.getpid()}"
        usage = Usage(AGENTS, trace=plan.trace)
        asyncio.run(kafka.make_topic(self._servers, self._topic, PARTITIONS))
        asyncio.run(kafka.load(self._servers, self._topic, usage.take(records)))
        self._sums = usage.sums

    def count(self) -> float:
        """From its first record to its last commit; records per second."""
        found = run_peer(self._module, self._servers, self._topic, self._records)
        wrong = differences(found.sums, self._sums)
        self._report.expect(f"totals of {self._name} that differ", wrong, {})
        self._report.add(f"{self._name}_cpu_s_per_million", found.cpu_s_per_million)
        return found.records_per_s


class _Load:
    """A usage topic with so many records in it, and who reads it."""

    def __init__(
        self,
        plan: Plan,
        report: Report,
        name: str,
        records: int,
        pack: int,
        packing: kafka.Packing = kafka.array_of,
    ) -> None:
        self.name = name
        self.records = records
        self._broker = plan.broker
        self._report = report
        self.usage = Usage(plan.size(AGENTS, SMOKE_AGENTS), trace=plan.trace)
        self.installation = Installation(plan.broker, plan.directory)
        self.installation.load(islice(self.usage, records), pack=pack, packing=packing)

    def outlay(self) -> float:
        """One worker of ours, from nothing to the last decision; records per second."""
        installation = self.installation
        installation.forget(workers=1)
        workers = installation.workers
        workers.start()
        try:
            began_s = workers.began_s()[0]
            before_s = sum(workers.cpu_s())
            elapsed_s = installation.wait_done() - began_s
            cpu_s = sum(workers.cpu_s()) - before_s
        finally:
            workers.stop()
        self._check()
        self._report.add(f"outlay_{self.name}_cpu_s_per_million", cpu_s / self.records * 1e6)
        return self.records / elapsed_s

    def limit(self) -> float:
        """aiokafka and msgspec alone; records per second."""
        found = self.read()
        self._report.add(f"limit_{self.name}_cpu_s_per_million", found.cpu_s_per_million)
        return found.records_per_s

    def two_workers(self) -> float:
        """Two workers, from when each owns partitions to the last decision; records per second."""
        found = two_workers.count(self.installation, self._broker, self.records, self._report)
        self._check()
        return found

    def _check(self) -> None:
        wrong = differences(self.installation.totals(), self.usage.sums)
        self._report.expect(f"totals that differ, {self.name}", wrong, {})

    def read(self) -> Peer:
        """Have all of it read and decoded."""
        topic = self.installation.settings.topics.usage
        return run_peer("bench.reader", self.installation.servers, topic, self.records)
