"""Two workers: how fast two of them count what one of them counted before."""

from __future__ import annotations

import time

import psutil

from bench.installation import Installation
from bench.report import Report
from bench.usage import PARTITIONS
from outlay.embedded import Broker

WORKERS = 2
STAGES = ("partials", "totals")


def count(installation: Installation, broker: Broker, records: int, report: Report) -> float:
    """From when each owns partitions until all is decided; records per second.

    For installations with one record a message: then an offset is a record.
    """
    installation.forget(workers=WORKERS)
    workers = installation.workers
    topic = installation.settings.topics.usage

    def both_count() -> bool:
        owned = [workers.owned(worker) for worker in workers]
        return all(
            all(each.get(stage) for each in owned)
            and sum(each[stage] for each in owned) == PARTITIONS
            for stage in STAGES
        ) and len(workers.positions(topic)) == len(installation.usage_ends)

    workers.start()
    try:
        workers.wait("both workers count", both_count)
        began_s, counted = time.time(), sum(workers.positions(topic).values())
        before_s = _cpu_s(installation, broker)
        elapsed_s = installation.wait_done() - began_s
        after_s = _cpu_s(installation, broker)
    finally:
        workers.stop()
    left = records - counted
    for name, cpu_s in after_s.items():
        per_million = (cpu_s - before_s[name]) / left * 1e6
        report.add(f"two_workers_{name}_cpu_s_per_million", per_million)
    return left / elapsed_s


def _cpu_s(installation: Installation, broker: Broker) -> dict[str, float]:
    """The processor time of each process so far; the broker's where it is a child of ours."""
    names = [worker.name.replace("-", "_") for worker in installation.workers]
    taken = dict(zip(names, installation.workers.cpu_s(), strict=True))
    pid = getattr(broker, "pid", None)
    if pid is not None:
        times = psutil.Process(pid).cpu_times()
        taken["broker"] = times.user + times.system
    return taken
