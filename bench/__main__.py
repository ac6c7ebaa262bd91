"""`python -m bench [NAME …]`: run benchmarks, print what they found, and keep it where told.

It ends with 1 when what a benchmark measured was not correct; a goal that is missed is only said.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import msgspec
from rich.console import Console

from bench.plan import Plan
from bench.report import Report, Result
from bench.results import print_result, write_results
from streams.logs import configure_logging

BENCHES = ("throughput", "cardinality", "recovery", "latency", "check", "emit", "history", "api")


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    options = _parse(arguments)
    console = Console(stderr=True, highlight=False)
    configure_logging("warning")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it cries over topics just made
    results = []
    with tempfile.TemporaryDirectory(
        prefix="outlay-bench-", ignore_cleanup_errors=True
    ) as directory:
        plan = Plan(
            Path(directory),
            rounds=options.rounds,
            smoke=options.smoke,
            trace=options.trace,
            say=console.print,
        )
        try:
            for name in options.names or BENCHES:
                results.append(run(name, plan))
                print_result(Console(), results[-1])
        finally:
            plan.close()
    if options.json is not None:
        found = results[0] if len(options.names) == 1 else results
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    if options.results is not None:
        write_results(options.results, results)
    return 0 if all(result.correct for result in results) else 1


def run(name: str, plan: Plan) -> Result:
    """Run one benchmark."""
    report = Report(name, plan.rounds, plan.say)
    started = time.monotonic()
    import_module(f"bench.{name}").run(plan, report)
    gc.collect()  # what one leaves behind is not the next one's
    plan.say(f"{name}: took {time.monotonic() - started:.0f} s")
    return report.result()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the result as JSON")
    parser.add_argument("--results", type=Path, metavar="OUT", help="write them as Markdown")
    parser.add_argument("--rounds", type=int, default=3, help="rounds after the warm-up (3)")
    parser.add_argument("--smoke", action="store_true", help="the smallest run that checks all")
    trace_dir = os.environ.get("OUTLAY_TRACE_DIR")
    default = next(iter(sorted(Path(trace_dir).glob("*.csv"))), None) if trace_dir else None
    parser.add_argument("--trace", type=Path, default=default, help="a trace file to draw from")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BENCHES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if options.rounds < 1:
        parser.error("there must be at least one round")
    return options


if __name__ == "__main__":
    sys.exit(main())
