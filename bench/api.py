"""API: how many requests one process answers, and how fast, with wrk asking over HTTP.

Usage, one record and 500 of them a request, which are answered when the broker has them, and
checks over five scopes with budgets: each over more and more connections, with a key, while a
worker counts. Beside them a bare endpoint of the same framework takes the same bodies. All that was
acknowledged is looked for at the broker, and in the totals of the worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from bench.api_bodies import CheckBodies
from bench.api_held import records_held
from bench.api_load import COMMAND, Load, load, why_absent
from bench.api_processes import ApiProcess, bare_api, our_api, settings_of_api, wait_for_answers
from bench.api_results import find_best, hold_against_bare
from bench.api_ways import CHECK_P99_MS_MAX, USAGE_P99_MS_MAX, Way, make_ways
from bench.installation import Installation
from bench.plan import Plan
from bench.report import Report
from bench.usage import ORGANIZATION, Sums, differences
from outlay import BudgetClient, DecisionFeed

CONNECTIONS = (1, 4, 16, 64)
SMOKE_CONNECTIONS = (4,)
BARE_CONNECTIONS = 16
SECONDS = 2.0
SMOKE_SECONDS = 0.3

BUDGETS_TIMEOUT_S = 60.0


def run(plan: Plan, report: Report) -> None:
    """Measure each kind of request at each number of connections; nothing without wrk."""
    if (why := why_absent()) is not None:
        report.skip("api", why)
        return
    with ExitStack() as stack:
        course = _Course(plan, report, stack)
        variants: dict[str, Callable[[], float]] = {}
        connections = SMOKE_CONNECTIONS if plan.smoke else CONNECTIONS
        for way in course.ways:
            for count in connections:
                name = f"{way.name}_c{count}"
                variants[f"{name}_requests_per_s"] = partial(course.per_s, way, count)
            if not plan.smoke:
                name = f"bare_{way.name}_c{BARE_CONNECTIONS}"
                variants[f"{name}_requests_per_s"] = partial(course.bare_per_s, way)
        report.measure(variants, warmups=0 if plan.smoke else 1)
        course.compare()
    for way in course.ways:
        find_best(report, way, connections)
        hold_against_bare(report, way, BARE_CONNECTIONS)
    report.note(
        f"One API process with a key, without a history in it; {COMMAND} asks over so many"
        " connections (`c`), each of which sends its next request when it has its answer. `best` is"
        f" the highest rate without errors whose p99 is at most {USAGE_P99_MS_MAX:.0f} ms for usage"
        f" and {CHECK_P99_MS_MAX:.0f} ms for checks. `bare`: FastAPI on uvicorn reads the same"
        " body, and answers 200. `cpu` is the process's own."
    )


class _Course:
    """An installation with one API process and budgets, and what was reported to it so far."""

    def __init__(self, plan: Plan, report: Report, stack: ExitStack) -> None:
        self._plan = plan
        self._report = report
        self._sums: Sums = {}
        self._acknowledged = 0
        self._unsure = 0
        settings = settings_of_api(plan.directory)
        self._installation = installation = Installation(
            plan.broker, plan.directory, settings=settings
        )
        installation.load([])
        installation.workers.start()
        stack.callback(installation.workers.stop)
        self._api = our_api(installation, ORGANIZATION)
        stack.callback(self._api.stop)
        self._bare: ApiProcess | None = None
        self.ways, checks = make_ways(plan)
        installation.wait_ready()
        asyncio.run(_put_budgets(installation, checks))
        self._start(checks)
        if not plan.smoke:
            self._bare = bare_api(installation.directory)
            stack.callback(self._bare.stop)

    def _start(self, checks: CheckBodies) -> None:
        *allowed, blocked = checks.bodies
        expected = dict.fromkeys(allowed, b'"allowed":true') | {blocked: b'"allowed":false'}
        self._api.start(lambda: self._api.post("/check", blocked)[0] == 200)
        wait_for_answers(self._api, "/check", expected)

    def per_s(self, way: Way, connections: int) -> float:
        """Requests a second that our API answers; the rest of what is seen is added beside it."""
        name = f"{way.name}_c{connections}"
        found = self._load(self._api, self._api.url + way.path, way, connections, name)
        self._note_down(way, found, name)
        self._report.add(f"{name}_p50_ms", found.p50_ms)
        self._report.add(f"{name}_p99_ms", found.p99_ms)
        self._report.add(f"{name}_errors", found.errors)
        if way.records:
            self._report.add(f"{name}_records_per_s", found.per_s * way.records)
            if not self._plan.smoke:
                self._wait_done()  # what the worker has left over would be the next one's
        return found.per_s

    def bare_per_s(self, way: Way) -> float:
        """Requests a second of the bare endpoint, with the same bodies."""
        assert self._bare is not None
        name = f"bare_{way.name}_c{BARE_CONNECTIONS}"
        found = self._load(self._bare, self._bare.url, way, BARE_CONNECTIONS, name)
        self._report.expect(f"{name}: errors", found.errors, 0)
        self._report.add(f"{name}_p99_ms", found.p99_ms)
        return found.per_s

    def _load(self, api: ApiProcess, url: str, way: Way, connections: int, name: str) -> Load:
        before_s = api.cpu_s()
        found = load(
            url,
            way.bodies.lines,
            connections=connections,
            seconds=SMOKE_SECONDS if self._plan.smoke else SECONDS,
            mark=way.mark,
            key=self._api.key,
        )
        cpu_us = (api.cpu_s() - before_s) * 1e6
        self._report.add(f"{name}_cpu_us_per_request", cpu_us / max(found.answered, 1))
        return found

    def _note_down(self, way: Way, found: Load, name: str) -> None:
        """Add up what was acknowledged; the answers are what they are to be."""
        if isinstance(way.bodies, CheckBodies):
            if not found.errors:
                allowed = way.bodies.allowed(found.good)
                self._report.expect(f"{name}: allowed", found.marked, allowed)
            return
        self._report.expect(f"{name}: answers that name all records", found.marked, found.good)
        self._acknowledged += found.good * way.records
        self._unsure += (found.sent - found.good) * way.records
        way.bodies.add_to(self._sums, found.good)

    def _wait_done(self) -> None:
        self._installation.load([])  # to see how far the topic reaches now
        self._installation.wait_done()

    def compare(self) -> None:
        """What was acknowledged is at the broker, once, and in the totals.

        Where some requests were not, the broker may have their records or not, and which bodies
        these were is not known: then their number is held to that, and the totals to nothing.
        """
        self._wait_done()
        self._installation.workers.stop()
        installation = self._installation
        found = asyncio.run(records_held(installation.servers, installation.settings.topics.usage))
        beyond = found - self._acknowledged
        if self._unsure:
            self._report.expect(
                f"records beyond those acknowledged ({beyond}) are at most {self._unsure}",
                0 <= beyond <= self._unsure,
                True,
            )
            self._report.note("The totals were not compared: some usage was not acknowledged.")
        else:
            self._report.expect("records at the broker", found, self._acknowledged)
            wrong = differences(installation.totals(), self._sums)
            self._report.expect("totals that differ", wrong, {})
        self._api.stop()
        installation.delete()


async def _put_budgets(installation: Installation, checks: CheckBodies) -> None:
    topics = installation.settings.topics
    async with (
        DecisionFeed(installation.servers, topics=topics) as feed,
        BudgetClient(installation.servers, feed, topics=topics) as client,
    ):
        put = [
            client.aput(key, budget, timeout_s=BUDGETS_TIMEOUT_S)
            for key, budget in checks.budgets.items()
        ]
        await asyncio.gather(*put)
