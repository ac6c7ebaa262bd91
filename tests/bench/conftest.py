"""What the tests of the benchmarks share: the smallest run, on the session's broker."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from bench.plan import Plan
from bench.report import Report, Result
from outlay.embedded import Broker


@pytest.fixture
def smoke_plan(tmp_path: Path) -> Plan:
    """The smallest run; a broker is not started for it."""
    return Plan(tmp_path, rounds=1, smoke=True)


@pytest.fixture
def run_smoke(smoke_plan: Plan) -> Callable[..., Result]:
    """Runs a benchmark, on a broker where one is given."""

    def run(bench: ModuleType, broker: Broker | None = None) -> Result:
        if broker is not None:
            smoke_plan.__dict__["broker"] = broker  # as if it had been started
        report = Report(bench.__name__, smoke_plan.rounds, print)
        bench.run(smoke_plan, report)
        return report.result()

    return run
