"""`outlay alerts`: delivering alerts, trying whether they arrive, and sending dead ones again."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from outlay.cli.outcome import carry_out
from outlay.cli.service import run_module

COMMANDS = "streams.alert_commands"

app = typer.Typer(
    help="Take alerts to webhooks and mailboxes; settings from OUTLAY_… variables (see the README)."
)

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


@app.callback(invoke_without_command=True)
def deliver(context: typer.Context) -> None:
    """Run the delivery of alerts; settings from OUTLAY_… variables (see the README)."""
    if context.invoked_subcommand is None:
        carry_out(lambda: run_module("streams.alerts"))


@app.command("test")
def send_test(
    budget: Annotated[
        str, typer.Option(help="The key of its scope: organization:acme/team:search.")
    ],
    bootstrap_servers: Servers = "127.0.0.1:9092",
    topic_prefix: Prefix = "outlay",
) -> None:
    """Send a test alert of a budget, marked as one, to whom its alerts go."""
    _on(bootstrap_servers, topic_prefix)
    carry_out(lambda: run_module(COMMANDS, "test", f"--budget={budget}"))


@app.command()
def redeliver(
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", help="Of a delivery or an alert; can be given several times."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that there are.")] = False,
    bootstrap_servers: Servers = "127.0.0.1:9092",
    topic_prefix: Prefix = "outlay",
) -> None:
    """Send alerts again whose delivery was given up."""
    if bool(ids) == everything:
        raise typer.BadParameter("name some with --id, or take --all")
    _on(bootstrap_servers, topic_prefix)
    which = ["--all"] if everything else [f"--id={each}" for each in ids or ()]
    carry_out(lambda: run_module(COMMANDS, "redeliver", *which))


def _on(bootstrap_servers: str, topic_prefix: str) -> None:
    """Have the service's part read which stream is meant: it knows the settings alone."""
    os.environ["OUTLAY_KAFKA_BOOTSTRAP_SERVERS"] = bootstrap_servers
    os.environ["OUTLAY_TOPIC_PREFIX"] = topic_prefix
