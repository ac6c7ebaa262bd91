"""Latency: from `emit()` to the decision that contains the record, in the memory of a gateway."""

from __future__ import annotations

import asyncio
import bisect
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median, quantiles

import msgspec

from bench.hop import hops_s
from bench.installation import Installation
from bench.pacer import Arrival, Paced
from bench.peer import run_child
from bench.plan import Plan
from bench.report import Report
from bench.usage import ORGANIZATION, Sums, Usage, add_sums, differences
from outlay import Budget, BudgetClient, Decision, DecisionFeed, Scope
from outlay.emitter import LINGER_S

RATES_PER_S = (1_000, 10_000, 50_000)
SMOKE_RATE_PER_S = 200
SECONDS = 8
SMOKE_SECONDS = 2
AGENTS = 1_000
HOPS = 200
SMOKE_HOPS = 10

REACHED_MIN = 0.95
"""From which share of a rate on it counts as reached."""

P50_HOPS, P99_HOPS = 3, 6
"""How many hops a record may take beside flush intervals: one at the median, two at p99."""


def run(plan: Plan, report: Report) -> None:
    """Emit at each rate, with a bare hop beside it."""
    rates = (SMOKE_RATE_PER_S,) if plan.smoke else RATES_PER_S
    installation = Installation(plan.broker, plan.directory)
    installation.load([])
    installation.workers.start()
    try:
        with DecisionFeed(installation.servers, topics=installation.settings.topics) as feed:
            course = _Course(plan, report, installation, feed)
            variants: dict[str, Callable[[], float]] = {"hop_p50_ms": course.hop_p50_ms}
            for rate in rates:
                variants[f"at_{rate}_p50_ms"] = partial(course.p50_ms, rate)
            report.measure(variants, warmups=0 if plan.smoke else 1)
    finally:
        installation.workers.stop()
    report.expect("totals that differ", differences(installation.totals(), course.sums), {})
    installation.delete()
    settings = installation.settings
    _hold(report, rates, settings.flush_interval_s * 1000)
    report.note(
        "From `emit` in one process to the decisions feed of another, which a gateway looks into. "
        f"The emitter lets a record wait {LINGER_S * 1000:.0f} ms for others, and the first stage "
        f"flushes every {settings.flush_interval_s * 1000:.0f} ms."
    )


def _hold(report: Report, rates: Sequence[int], flush_ms: float) -> None:
    hop_ms = report.value("hop_p50_ms")
    for rate in rates:
        name = f"ms at {rate:,} records/s"
        p50_ms, p99_ms = report.value(f"at_{rate}_p50_ms"), report.value(f"at_{rate}_p99_ms")
        report.goal(f"p50 {name}", p50_ms, at_most=P50_HOPS * hop_ms + flush_ms)
        report.goal(f"p99 {name}", p99_ms, at_most=P99_HOPS * hop_ms + 2 * flush_ms)
        reached_per_s = report.value(f"at_{rate}_reached_per_s")
        if reached_per_s < REACHED_MIN * rate:
            report.note(f"Instead of {rate:,} records/s only {reached_per_s:,.0f} were emitted.")


class Watch:
    """When a feed first held decisions that contain an offset of the usage topic."""

    def __init__(self, scope_key: str) -> None:
        self._scope_key = scope_key
        self._reached: dict[int, list[tuple[int, float]]] = {}

    def decided(self, scope_key: str, decision: Decision | None) -> None:
        """A listener of the feed; a decision holds all that those before it did."""
        if scope_key != self._scope_key or decision is None:
            return
        now_s = time.monotonic()
        for window in decision.windows.values():
            for partition, offset in window.offsets.items():
                steps = self._reached.setdefault(partition, [])
                if not steps or offset > steps[-1][0]:
                    steps.append((offset, now_s))

    def when_s(self, partition: int, offset: int) -> float | None:
        """On the monotonic clock; None when there is no such decision yet."""
        steps = self._reached.get(partition, [])
        at = bisect.bisect_left(steps, (offset, 0.0))
        return steps[at][1] if at < len(steps) else None


class _Course:
    """One worker with a budget to decide on, and what was emitted to it so far."""

    def __init__(
        self, plan: Plan, report: Report, installation: Installation, feed: DecisionFeed
    ) -> None:
        self.sums: Sums = {}
        self._plan = plan
        self._report = report
        self._installation = installation
        self._runs = 0
        scope = Scope(ORGANIZATION)
        self._watch = Watch(scope.key)
        installation.wait_ready()
        feed.wait_ready()
        feed.add_listener(self._watch.decided)
        budget = Budget(monthly_execution_limit=10**12)
        with BudgetClient(
            installation.servers, feed, topics=installation.settings.topics
        ) as client:
            client.put(scope, budget)

    def hop_p50_ms(self) -> float:
        """A message of aiokafka from a producer to a consumer, nothing else going on."""
        topic = f"{self._installation.name}.hop"
        count = self._plan.size(HOPS, SMOKE_HOPS)
        return median(asyncio.run(hops_s(self._installation.servers, topic, count))) * 1000

    def p50_ms(self, rate: int) -> float:
        """Emit for some seconds, and wait for what comes of it."""
        self._runs += 1
        count = rate * self._plan.size(SECONDS, SMOKE_SECONDS)
        paced = self._emit(rate, count)
        usage = Usage(AGENTS, seed=self._runs)
        usage.take(count)
        add_sums(self.sums, usage.sums)
        self._report.expect(f"delivered at {rate}/s", paced.delivered, count)
        self._installation.load([])  # to see how far the topic reaches now
        self._installation.wait_done()
        waited_ms = [self._waited_ms(arrival) for arrival in paced.arrivals]
        delivered_ms = [1000 * (each.delivered_s - each.emitted_s) for each in paced.arrivals]
        self._report.add(f"at_{rate}_delivered_p50_ms", median(delivered_ms))
        self._report.add(f"at_{rate}_p99_ms", quantiles(waited_ms, n=100)[98])
        self._report.add(f"at_{rate}_reached_per_s", paced.emitted_per_s)
        return median(waited_ms)

    def _emit(self, rate: int, count: int) -> Paced:
        installation = self._installation
        names = [installation.servers, installation.settings.topic_prefix]
        numbers = map(str, (AGENTS, self._runs, rate, count))
        return msgspec.json.decode(run_child("bench.pacer", *names, *numbers), type=Paced)

    def _waited_ms(self, arrival: Arrival) -> float:
        def seen() -> bool:
            return self._watch.when_s(arrival.partition, arrival.offset) is not None

        self._installation.workers.wait("the feed has all decisions", seen)
        decided_s = self._watch.when_s(arrival.partition, arrival.offset)
        assert decided_s is not None
        return (decided_s - arrival.emitted_s) * 1000
