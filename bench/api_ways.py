"""API ways: the kinds of requests that are measured, and how soon an answer is to come."""

from __future__ import annotations

from typing import NamedTuple

from bench.api_bodies import CheckBodies, UsageBodies
from bench.plan import Plan
from bench.usage import Usage

AGENTS = 1_000
CHECKED_AGENTS = 50
SINGLE_BODIES = 200
ARRAY_BODIES = 8
ARRAY_RECORDS = 500

USAGE_P99_MS_MAX = 250.0
CHECK_P99_MS_MAX = 100.0
"""Up to which p99, in milliseconds, a rate counts as steady: later, and requests only queue."""


class Way(NamedTuple):
    """One kind of request: its path, its bodies, and what an answer holds that is to be counted."""

    name: str
    path: str
    bodies: UsageBodies | CheckBodies
    mark: str
    p99_ms_max: float

    @property
    def records(self) -> int:
        """How many records a request reports; none where it is a check."""
        return self.bodies.pack if isinstance(self.bodies, UsageBodies) else 0


def make_ways(plan: Plan) -> tuple[list[Way], CheckBodies]:
    """All of them, and the bodies of the checks, whose budgets are to be there."""
    checks = CheckBodies(plan.directory / "checks", plan.size(CHECKED_AGENTS, 4))
    ways = [
        _usage(plan, "usage_single", plan.size(SINGLE_BODIES, 4), 1),
        _usage(plan, f"usage_array_{ARRAY_RECORDS}", plan.size(ARRAY_BODIES, 2), ARRAY_RECORDS),
        Way("check", "/check", checks, '"allowed":true', CHECK_P99_MS_MAX),
    ]
    return ways, checks


def _usage(plan: Plan, name: str, count: int, pack: int) -> Way:
    usage = Usage(AGENTS, trace=plan.trace)
    bodies = UsageBodies(plan.directory / name, usage, count=count, pack=pack)
    return Way(name, "/usage", bodies, f'"accepted":{pack},', USAGE_P99_MS_MAX)
