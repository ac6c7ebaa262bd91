"""`outlay budgets`: budgets as a file has them, compared with those of a stream and applied."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from outlay.alert_config import AlertConfig
from outlay.alert_configs import AlertConfigs
from outlay.budget import Budget
from outlay.budget_plan import BudgetsFile, Change, plan, resolved_alerts, summary
from outlay.budgets import REQUEST_TIMEOUT_S, BudgetClient
from outlay.cli.outcome import carry_out
from outlay.errors import OutlayError
from outlay.feed import DecisionFeed
from outlay.topics import TopicNames

APPLIED_AT_ONCE_MAX = 32
"""How many changes are under way at once."""

EXIT_DIFFERENT = 1
"""Of `outlay budgets diff`: the budgets are not as the file says."""

app = typer.Typer(help="Budgets as code: compare a file with the stream, and apply it.")

File = Annotated[
    Path, typer.Option("--file", "-f", help="YAML: `budgets:`, and a scope to each budget.")
]
Prune = Annotated[
    bool,
    typer.Option(
        "--prune", help="Delete what the file's organizations have and the file does not name."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Servers = Annotated[
    str,
    typer.Option(
        envvar="OUTLAY_KAFKA_BOOTSTRAP_SERVERS",
        help="The stream's Kafka brokers, host:port, separated by commas.",
    ),
]
Prefix = Annotated[
    str,
    typer.Option(
        envvar="OUTLAY_TOPIC_PREFIX", help="What the names of the stream's topics start with."
    ),
]


@dataclass(frozen=True, slots=True)
class Stream:
    """Where the budgets are."""

    bootstrap_servers: str
    topics: TopicNames

    def feed(self) -> DecisionFeed:
        """What is known of them; to be started."""
        return DecisionFeed(self.bootstrap_servers, topics=self.topics)

    def alerts(self) -> AlertConfigs:
        """What is known of their alert configurations; to be started."""
        return AlertConfigs(self.bootstrap_servers, topics=self.topics)

    def client(self, feed: DecisionFeed) -> BudgetClient:
        """What changes them."""
        return BudgetClient(self.bootstrap_servers, feed, requested_by="outlay budgets apply")


@app.command()
def apply(
    file: File,
    prune: Prune = False,
    dry_run: DryRun = False,
    bootstrap_servers: Servers = "127.0.0.1:9092",
    topic_prefix: Prefix = "outlay",
) -> None:
    """Make the budgets those of a file; a second time changes nothing."""
    stream = Stream(bootstrap_servers, TopicNames(topic_prefix))
    carry_out(lambda: run_apply(stream, file, prune=prune, dry_run=dry_run))


@app.command()
def diff(
    file: File,
    prune: Prune = False,
    bootstrap_servers: Servers = "127.0.0.1:9092",
    topic_prefix: Prefix = "outlay",
) -> None:
    """Say what `apply` would do; ends with 1 where that is something."""
    stream = Stream(bootstrap_servers, TopicNames(topic_prefix))
    carry_out(lambda: run_diff(stream, file, prune=prune))


@app.command()
def export(
    organization: Annotated[
        list[str] | None, typer.Option(help="Only this one's; can be given several times.")
    ] = None,
    bootstrap_servers: Servers = "127.0.0.1:9092",
    topic_prefix: Prefix = "outlay",
) -> None:
    """Print the budgets of the stream as a file that `apply` reads."""
    stream = Stream(bootstrap_servers, TopicNames(topic_prefix))
    carry_out(lambda: run_export(stream, organization or []))


def run_apply(stream: Stream, path: Path, *, prune: bool, dry_run: bool) -> int:
    """The exit code: 0 when all is as the file says, or only the plan was asked for.

    Raises:
        OutlayError: a change was refused, or its outcome is not known; others may be done.
        ValueError: the file cannot be.
    """
    wanted = _load(path)
    with stream.feed() as feed:
        changes = _plan(stream, feed, wanted, prune=prune)
        _show(changes, wanted)
        if changes and not dry_run:
            asyncio.run(_apply(stream, feed, changes))
            typer.echo(f"applied {len(changes)}")
    return 0


def run_diff(stream: Stream, path: Path, *, prune: bool) -> int:
    """The exit code: 0 where nothing differs, else `EXIT_DIFFERENT`."""
    wanted = _load(path)
    with stream.feed() as feed:
        changes = _plan(stream, feed, wanted, prune=prune)
    _show(changes, wanted)
    return EXIT_DIFFERENT if changes else 0


def run_export(stream: Stream, organizations: Sequence[str]) -> int:
    """The exit code, 0."""
    from outlay.cli.budgets_yaml import dump
    from outlay.scope import Scope

    with stream.feed() as feed:
        known = _known(feed)
    alerts = _known_alerts(stream)
    budgets = {
        key: budget
        for key, (budget, _) in known.items()
        if not organizations or Scope.parse(key).organization_id in organizations
    }
    typer.echo(dump(budgets, {key: alerts[key] for key in budgets if key in alerts}), nl=False)
    return 0


def _load(path: Path) -> BudgetsFile:
    from outlay.cli.budgets_yaml import load

    return load(path)


def _known(feed: DecisionFeed) -> dict[str, tuple[Budget, int]]:
    feed.wait_ready()
    return {
        key: (known.decision.budget, known.decision.version)
        for key, known in feed.decisions.items()
    }


def _known_alerts(stream: Stream) -> dict[str, AlertConfig]:
    with stream.alerts() as own:
        own.wait_current()
        return {key: record.config for key, record in own.records.items()}


def _plan(stream: Stream, feed: DecisionFeed, wanted: BudgetsFile, *, prune: bool) -> list[Change]:
    alerts = resolved_alerts(wanted, os.environ)
    known = _known(feed)
    if not alerts:
        return plan(wanted, known, prune=prune)
    # After the decisions: a configuration stands before the decision with its version.
    return plan(wanted, known, prune=prune, alerts=alerts, known_alerts=_known_alerts(stream))


def _show(changes: list[Change], wanted: BudgetsFile) -> None:
    for change in changes:
        for line in change.lines():
            typer.echo(line)
    typer.echo(summary(changes, wanted))


async def _apply(stream: Stream, feed: DecisionFeed, changes: list[Change]) -> None:
    """Carry all changes out, some at once; each only on the version that the plan has seen."""
    turn = asyncio.Semaphore(APPLIED_AT_ONCE_MAX)
    client = stream.client(feed)

    async def carry(change: Change) -> None:
        async with turn:
            await _carry_out(client, change)

    async with client:
        ended = await asyncio.gather(*map(carry, changes), return_exceptions=True)
    failures = [
        f"{change.scope}: {error}"
        for change, error in zip(changes, ended, strict=True)
        if error is not None
    ]
    if failures:
        done = len(changes) - len(failures)
        shown = "; ".join(failures[:5]) + ("; …" if len(failures) > 5 else "")
        raise OutlayError(f"applied {done} of {len(changes)}; {shown}; apply it again")


async def _carry_out(client: BudgetClient, change: Change) -> None:
    version = change.version
    if change.after is None:
        await client.adelete(change.scope, expected_version=version, timeout_s=REQUEST_TIMEOUT_S)
        return
    if change.before != change.after:
        decision = await client.aput(
            change.scope, change.after, expected_version=version, timeout_s=REQUEST_TIMEOUT_S
        )
        version = decision.version
    if not change.changes_alerts:
        return
    if change.alerts_after is None:
        await client.adelete_alerts(
            change.scope, expected_version=version, timeout_s=REQUEST_TIMEOUT_S
        )
    else:
        await client.aput_alerts(
            change.scope,
            change.alerts_after,
            expected_version=version,
            timeout_s=REQUEST_TIMEOUT_S,
        )
