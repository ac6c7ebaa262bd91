"""API results: which rate is the highest steady one, and how it stands to the bare endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from bench.api_ways import Way
from bench.report import Report


def find_best(report: Report, way: Way, connections: Sequence[int]) -> None:
    """Show the number of connections that gets the most, with all that was seen there."""
    best = best_of(report, way.name, connections, way.p99_ms_max)
    if best is None:
        report.note(f"{way.name}: no rate had a p99 of {way.p99_ms_max:.0f} ms without errors.")
        return
    report.add(f"{way.name}_best_connections", best)
    start = f"{way.name}_c{best}_"
    for name in [name for name in report.samples if name.startswith(start)]:
        report.add(f"{way.name}_best_{name.removeprefix(start)}", report.value(name))


def best_of(report: Report, name: str, connections: Sequence[int], p99_ms_max: float) -> int | None:
    """At how many connections most requests were answered, without an error and soon enough."""
    steady = [
        count
        for count in connections
        if not any(report.samples[f"{name}_c{count}_errors"])
        and report.value(f"{name}_c{count}_p99_ms") <= p99_ms_max
    ]
    return max(
        steady, key=lambda count: report.value(f"{name}_c{count}_requests_per_s"), default=None
    )


def hold_against_bare(report: Report, way: Way, connections: int) -> None:
    """Show the ratios to the bare endpoint over as many connections, where that was measured."""
    ours, bare = (f"{kind}{way.name}_c{connections}" for kind in ("", "bare_"))
    for what in ("requests_per_s", "cpu_us_per_request"):
        report.ratio(f"{way.name} / bare, {what}", f"{ours}_{what}", f"{bare}_{what}")
