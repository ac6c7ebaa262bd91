"""The commands: their options, and what a user sees when one cannot be carried out."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Annotated

import typer

from outlay.cli import alerts, budgets, keys
from outlay.cli.outcome import carry_out
from outlay.cli.service import run_module

app = typer.Typer(
    help="Keeps fleets of AI agents inside their budgets, by what they report to have used.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(alerts.app, name="alerts")
app.add_typer(budgets.app, name="budgets", no_args_is_help=True)
app.add_typer(keys.app, name="keys", no_args_is_help=True)

DataDir = Annotated[Path, typer.Option(help="Where the broker, chDB and logs keep their files.")]
NoAuth = Annotated[
    bool, typer.Option("--no-auth", help="Let everybody who reaches the API do everything.")
]
Servers = Annotated[
    str,
    typer.Option(
        envvar="OUTLAY_KAFKA_BOOTSTRAP_SERVERS",
        help="The stream's Kafka brokers, host:port, separated by commas.",
    ),
]


@app.command()
def up(
    data_dir: DataDir = Path(".outlay"),
    api_port: Annotated[
        int, typer.Option(min=1, max=65_535, help="TCP port of the API on 127.0.0.1.")
    ] = 8000,
    kafka_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_535,
            help="TCP port of the broker on 127.0.0.1: by default 9092, or a free one.",
        ),
    ] = None,
    no_auth: NoAuth = False,
) -> None:
    """Run the whole stack on this machine until Ctrl-C: broker, worker, API with history."""
    from outlay.cli.up import run_up

    carry_out(lambda: run_up(data_dir, api_port=api_port, kafka_port=kafka_port, auth=not no_auth))


@app.command()
def demo(
    trace: Annotated[
        Path | None, typer.Option(help="Replay this trace, instead of a generated fleet.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the findings here, as JSON.")] = None,
    agents: Annotated[int, typer.Option(min=1, max=5_000, help="How many agents there are.")] = 300,
    duration: Annotated[
        float, typer.Option(min=5, max=3_600, help="How long they work, in seconds.")
    ] = 25.0,
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Stay up afterwards, until Ctrl-C.")
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where to keep files; by default a directory that is removed."),
    ] = None,
) -> None:
    """Start a stack, drive a fleet of agents into its budgets, and check that all is exact."""
    from rich.console import Console

    from outlay.demo import DemoOptions, run_demo

    options = DemoOptions(trace, agents, duration, report, keep_running, data_dir)
    carry_out(lambda: run_demo(options, Console()))


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="A CSV: TIMESTAMP,ContextTokens,GeneratedTokens.")],
    speed: Annotated[
        str, typer.Option(help="How many times as fast as it was; or max: without waiting.")
    ] = "max",
    organization: Annotated[str, typer.Option(help="Whose usage it is.")] = "acme",
    agents: Annotated[int, typer.Option(min=1, help="Over how many agents it is spread.")] = 200,
    users: Annotated[int, typer.Option(min=1, help="How many users these agents have.")] = 40,
    teams: Annotated[int, typer.Option(min=1, help="How many teams these users are in.")] = 8,
    input_price: Annotated[str, typer.Option(help="USD per million input tokens.")] = "2.50",
    output_price: Annotated[str, typer.Option(help="USD per million output tokens.")] = "10.00",
    keep_times: Annotated[
        bool,
        typer.Option("--keep-times", help="Send the times as they are: the trace ends now if not."),
    ] = False,
    bootstrap_servers: Servers = "127.0.0.1:9092",
    topic_prefix: Annotated[
        str,
        typer.Option(
            envvar="OUTLAY_TOPIC_PREFIX", help="What the names of the stream's topics start with."
        ),
    ] = "outlay",
) -> None:
    """Send a trace to a running stack as the usage of a fleet."""
    from outlay.cli.replay import ReplayOptions, parse_price, parse_speed, run_replay
    from outlay.topics import TopicNames
    from outlay.trace import Prices, Roster

    def run() -> int:
        options = ReplayOptions(
            file=file,
            speed=parse_speed(speed),
            organization_id=organization,
            roster=Roster(agents, users, teams),
            prices=Prices(parse_price(input_price), parse_price(output_price)),
            keep_times=keep_times,
            bootstrap_servers=bootstrap_servers,
            topics=TopicNames(topic_prefix),
        )
        return run_replay(options)

    carry_out(run)


@app.command()
def worker() -> None:
    """Run one stream worker; settings from OUTLAY_… variables (see the README)."""
    carry_out(lambda: run_module("streams.worker"))


@app.command()
def history() -> None:
    """Run the history: usage into ClickHouse. With chDB `outlay api` does it, not this."""
    carry_out(lambda: run_module("streams.history"))


@app.command()
def api(no_auth: NoAuth = False) -> None:
    """Run the REST API; with chDB it runs the history, too."""
    carry_out(lambda: run_module("api", *(["--no-auth"] if no_auth else [])))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"outlay {importlib.metadata.version('outlay')}")
