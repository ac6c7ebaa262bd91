"""Recovery: how soon a worker is at work again that has a million keys to read back."""

from __future__ import annotations

import time
from itertools import islice

from bench.installation import Installation
from bench.plan import Plan
from bench.report import Report
from bench.usage import Usage, differences

AGENTS = 500_000
"""A million keys: each agent has a day and a month in the partials."""

SMOKE_AGENTS = 200

MORE_RECORDS = 1_000
"""How many records are counted after each restart."""

PACK = 500

FILLING = {"OUTLAY_WRITE_TIMEOUT_S": "300"}
"""The keys come all at once, which no fleet does: how long it takes to write them is not asked."""

READ_PER_S_MIN = 150_000
READY_S_MAX = 15.0


def run(plan: Plan, report: Report) -> None:
    """Fill the changelogs by counting, restart the worker on them, and count on."""
    agents = plan.size(AGENTS, SMOKE_AGENTS)
    usage = Usage(agents, trace=plan.trace, everyone=True)
    installation = Installation(plan.broker, plan.directory, settings=FILLING)
    installation.load(islice(usage, agents), pack=PACK)
    installation.workers.start()
    try:
        installation.wait_done()
    finally:
        installation.workers.stop()

    def ready_s() -> float:
        return _restart(installation, usage, report)

    report.measure({"ready_s": ready_s}, warmups=0)
    report.expect("totals that differ", differences(installation.totals(), usage.sums), {})
    installation.delete()
    read_per_s = report.value("changelog_entries_per_s")
    report.goal("changelog entries/s", read_per_s, at_least=READ_PER_S_MIN)
    report.goal("ready in s", report.value("ready_s"), at_most=READY_S_MAX)
    report.note(
        "`ready_s` is from the start of the process until it has published a watermark on every "
        "partition of the decisions, `recovery_s` from its taking over of the partitions until "
        "the last of them counts. An entry is a (scope, window) in one of the two tables; some "
        "hundreds are a block, which is one record of a changelog."
    )


def _restart(installation: Installation, usage: Usage, report: Report) -> float:
    """Start the worker on what is there; the seconds until it decides again."""
    workers = installation.workers
    (worker,) = workers
    started_s = time.time()
    workers.start()
    try:
        workers.wait("it owns partitions", lambda: workers.owned(worker).get("totals", 0) > 0)
        owned_s = time.time()
        ready_s = installation.wait_ready() - started_s
        recovery_s = workers.began_s()[-1] - owned_s
        rss_bytes = sum(workers.rss_bytes())
        installation.load(islice(usage, MORE_RECORDS), pack=PACK)
        installation.wait_done()
    finally:
        workers.stop()
    report.add("changelog_entries", usage.rows)
    report.add("taken_over_s", owned_s - started_s)
    report.add("recovery_s", recovery_s)
    report.add("changelog_entries_per_s", usage.rows / recovery_s)
    report.add("rss_mb", rss_bytes / 1e6)
    return ready_s
