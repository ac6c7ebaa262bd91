"""Cardinality: what a record costs, and a total takes, as ever more agents are active."""

from __future__ import annotations

from itertools import islice

from bench.installation import Installation
from bench.plan import Plan
from bench.report import Report
from bench.usage import Usage, differences

AGENTS = (1_000, 10_000, 100_000, 1_000_000)
SMOKE_AGENTS = (10, 500)
RECORDS = 1_000_000
SMOKE_RECORDS = 1_000
PACK = 500

COST_GROWTH_MAX = 3.0
BYTES_PER_ROW_MAX = 400.0


def run(plan: Plan, report: Report) -> None:
    """Count as many records of ever more agents, and look at what the worker takes."""
    sizes = SMOKE_AGENTS if plan.smoke else AGENTS
    fleets = [_Fleet(plan, report, agents) for agents in sizes]
    few, *between, many = fleets
    for fleet in between:  # once: they show the course, and are held against no goal
        report.add(fleet.wall, fleet.count())
    report.measure({few.wall: few.count, many.wall: many.count}, warmups=0)
    for fleet in fleets:
        fleet.close()
    for what, value, baseline in (("cpu", many.cpu, few.cpu), ("wall", many.wall, few.wall)):
        growth = report.ratio(f"{what}: {many.name} / {few.name}", value, baseline)
        report.goal(f"{what} per record, {many.name} / {few.name}", growth, at_most=COST_GROWTH_MAX)
    _compare_memory(report, few, many)


def _compare_memory(report: Report, few: _Fleet, many: _Fleet) -> None:
    """What the tables' rows take: what a worker grew by, over the rows that it has more."""
    rows, pairs = many.rows - few.rows, many.pairs - few.pairs
    for when in ("counted", "restarted"):
        grown_mb = report.value(many.memory(when)) - report.value(few.memory(when))
        report.add(f"{when}_bytes_per_scope_and_window", grown_mb * 1e6 / pairs)
        report.add(f"{when}_bytes_per_row", grown_mb * 1e6 / rows)
        report.goal(
            f"bytes per row of a table, {when}", grown_mb * 1e6 / rows, at_most=BYTES_PER_ROW_MAX
        )
    report.note(
        f"Memory is what a worker's resident set grew by from {few.name} to {many.name}: "
        "`counted` at the end of the load, with what its allocator keeps of the flushes, "
        "`restarted` after it has read all of it back. A (scope, window) has a row in the partials "
        "for each usage partition with records of it, and, but for agents without a budget, one "
        f"in the totals for each of these; the goal is held against rows, {many.rows:,} of them "
        f"for {many.pairs:,} scopes and windows."
    )


class _Fleet:
    """So many agents, and the same number of records whatever that is, each agent active."""

    def __init__(self, plan: Plan, report: Report, agents: int) -> None:
        self.name = f"{agents:,} agents"
        self.cpu = f"agents_{agents}_cpu_us_per_record"
        self.wall = f"agents_{agents}_wall_us_per_record"
        self._agents = agents
        self._report = report
        self._records = plan.size(RECORDS, SMOKE_RECORDS)
        self._usage = Usage(agents, trace=plan.trace, everyone=True)
        self._installation = Installation(plan.broker, plan.directory)
        self._installation.load(islice(self._usage, self._records), pack=PACK)
        self._checked = False
        self.pairs = 2 * self._usage.scopes  # a day and a month
        self.rows = self._usage.rows

    def memory(self, when: str) -> str:
        """The name of a figure of memory."""
        return f"agents_{self._agents}_{when}_rss_mb"

    def count(self) -> float:
        """One worker, from nothing to the last decision; microseconds per record.

        What it counted is read back the first time only, which takes longer than to count it.
        """
        self._installation.forget()
        workers = self._installation.workers
        workers.start()
        try:
            began_s = workers.began_s()[0]
            before_s = sum(workers.cpu_s())
            elapsed_s = self._installation.wait_done() - began_s
            cpu_s = sum(workers.cpu_s()) - before_s
            self._add_memory("counted")
        finally:
            workers.stop()
        self._report.add(self.cpu, cpu_s / self._records * 1e6)
        if not self._checked:
            self._checked = True
            self._check()
        return elapsed_s / self._records * 1e6

    def _check(self) -> None:
        installation = self._installation
        wrong = differences(installation.totals(), self._usage.sums)
        self._report.expect(f"totals of {self.name} that differ", wrong, {})
        installation.workers.start()
        try:
            installation.wait_ready()
            self._add_memory("restarted")
        finally:
            installation.workers.stop()

    def _add_memory(self, when: str) -> None:
        rss_bytes = sum(self._installation.workers.rss_bytes())
        self._report.add(self.memory(when), rss_bytes / 1e6)

    def close(self) -> None:
        """Delete its topics."""
        self._installation.delete()
