"""The demo from its beginning to its exit code."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from outlay.cli.outcome import log_to
from outlay.demo.display import Display, Say
from outlay.demo.evidence import Evidence
from outlay.demo.guest import guest_name, remove_topics
from outlay.demo.scene import Scene
from outlay.demo.tenant import Tenant, new_tenant
from outlay.demo.workload import Fleet, Replay, Workload
from outlay.embedded.ports import LOOPBACK
from outlay.keyfile import KeyFile
from outlay.stack import Stack
from outlay.trace import Roster, Trace

AGENTS = 300
DURATION_S = 25.0
TEAMS, USERS = 8, 40
TEND_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the demo does; see `outlay demo --help`."""

    trace: Path | None = None
    agents: int = AGENTS
    duration_s: float = DURATION_S
    report: Path | None = None
    keep_running: bool = False
    data_dir: Path | None = None


def run_demo(options: DemoOptions, console: Console) -> int:
    """Run it; the exit code: 0 when all checks held, 1 otherwise.

    Raises:
        StackError, EmbeddedError, OutlayError: it could not be run, or not to its end.
        OSError: the report, or a file of the stack, cannot be written.
    """
    if options.report is not None:
        _check_writable(options.report)
    began_s = time.monotonic()

    def say(line: str) -> None:
        seconds = time.monotonic() - began_s
        console.print(f"{seconds:5.1f} s  {line}", highlight=False, markup=False, soft_wrap=True)

    workload = make_workload(options, datetime.now(UTC))
    with ExitStack() as opened:
        stack, tenant = _start_stack(options, say, opened)
        scene = Scene(stack, workload, opened, tenant)
        say(
            f"setting {len(scene.scopes)} budgets, {len(scene.plan.patches)} of them through "
            "the REST API"
        )
        scene.set_budgets()
        say(f"{workload.roster.agents} agents begin, for {options.duration_s:g} s")
        scene.drive(partial(Display, console, say, watched=scene.watched))
        say("the agents have ended; waiting until the stream and the history have everything")
        evidence = scene.settle()
        for arrival in scene.take_arrivals():  # those that came when the display had ended
            say(arrival.line)
        conclude(evidence, options.report, console)
        say("done")
        if options.keep_running:
            say(f"a key for its organization, {tenant.organization_id}: {tenant.key}")
            _keep_running(stack, say)
    return 0 if evidence.report()["ok"] else 1


def make_workload(options: DemoOptions, now: datetime) -> Workload:
    """What the agents do: a trace if one is named, and else a generated fleet.

    Raises:
        TraceError: the file is not a trace.
        ValueError: no agents.
    """
    agents = options.agents
    roster = Roster(agents, min(USERS, agents), min(TEAMS, agents))
    if options.trace is None:
        return Fleet(roster, options.duration_s)
    return Replay(Trace(options.trace), roster, options.duration_s, now)


def conclude(evidence: Evidence, report: Path | None, console: Console) -> None:
    """Say what was checked and found, and write the report."""
    found = evidence.report()
    console.print()
    for check in evidence.checks():
        mark = "[green]ok[/]    " if check.ok else "[red]FAILED[/]"
        console.print(f"{mark} {check.name}: {check.said}", highlight=False, soft_wrap=True)
    latency = found["decision_latency_ms"]
    console.print(
        f"\n{found['records_sent']:,} records for {found['cost_usd_sent']} USD; of "
        f"{found['calls_checked']:,} calls {found['calls_blocked']:,} were blocked; from emit to "
        f"the decision {latency['p50']} ms (median), {latency['p99']} ms (99 %)",
        highlight=False,
        soft_wrap=True,
    )
    if report is not None:
        report.write_text(json.dumps(found, indent=2) + "\n")


def _check_writable(report: Path) -> None:
    """Raises OSError when the report could not be written; leaves all as it was."""
    existed = report.exists()
    with report.open("a"):
        pass
    if not existed:
        report.unlink()


def _start_stack(options: DemoOptions, say: Say, opened: ExitStack) -> tuple[Stack, Tenant]:
    settings = {
        "OUTLAY_CLICKHOUSE_DSN": "",  # chDB, in the demo's own directory
        "OUTLAY_ALERT_PRIVATE_TARGETS": LOOPBACK,  # where the demo's webhook is
    }
    name = guest_name()
    if name is not None:
        settings |= {"OUTLAY_TOPIC_PREFIX": name, "OUTLAY_APP_ID": name}
    stack = Stack(options.data_dir, alerts=True, auth=True, settings=settings, say=say)
    say(f"starting {stack.broker.name}, a worker, the API with the history, and the alerts")
    if name is not None:
        opened.callback(remove_topics, stack.bootstrap_servers, name)
    stack.lock()
    opened.callback(stack.stop)  # which lets go of the directory, after the key is revoked
    tenant = new_tenant(KeyFile(stack.keys_file), opened)
    stack.start()
    log_to(stack.log_dir / "demo.log")
    if not stack.broker.transactions:
        say(
            "it has no transactions: totals stay exact when a worker crashes, but not when one "
            "stands still past its session and wakes up"
        )
    stack.wait_ready(tend=True)
    say(f"ready: Kafka protocol at {stack.bootstrap_servers}, API at {stack.api_url}")
    return stack, tenant


def _keep_running(stack: Stack, say: Say) -> None:
    say(f"the stack goes on until Ctrl-C; API: {stack.api_url}/docs")
    try:
        while True:
            time.sleep(TEND_INTERVAL_S)
            stack.tend()
    except KeyboardInterrupt:
        say("stopping")
