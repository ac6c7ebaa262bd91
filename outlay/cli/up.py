"""`outlay up`: the embedded stack until Ctrl-C."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rich.console import Console

from outlay.cli.outcome import log_to
from outlay.embedded.ports import free_port, is_free
from outlay.keyfile import KeyFile
from outlay.stack import Stack, StackError

KAFKA_PORT = 9092
"""Where clients look for a broker when they are not told."""

TEND_INTERVAL_S = 0.5

_console = Console(highlight=False, soft_wrap=True)


def run_up(
    data_dir: Path, *, api_port: int, kafka_port: int | None = None, auth: bool = True
) -> int:
    """Run the stack until SIGINT or SIGTERM; the exit code, 0 then.

    Raises:
        StackError, EmbeddedError: it cannot be started, or something in it ends again and again.
    """
    if kafka_port is None and is_free(KAFKA_PORT):
        kafka_port = KAFKA_PORT
    stack = Stack(
        data_dir,
        kafka_port=kafka_port,
        api_port=api_port,
        alerts=True,
        auth=auth,
        metrics_port=None if os.environ.get("OUTLAY_METRICS_PORT") else free_port(),
        say=_console.print,
    )
    try:
        _run(stack, auth)
    except KeyboardInterrupt:
        _console.print("stopped")
    return 0


def _run(stack: Stack, auth: bool) -> None:
    _console.print(f"starting {stack.broker.name}")
    stack.lock()  # first: whoever holds the directory may hold the port, too
    if not is_free(stack.api_port):
        raise StackError(f"port {stack.api_port} is in use: choose another with --api-port")
    if auth:
        _make_first_key(stack.keys_file)
    with stack:
        log_to(stack.log_dir / "up.log")
        _tell_limits(stack)
        stack.wait_ready(tend=True)
        _tell_ready(stack, auth)
        try:
            while True:
                time.sleep(TEND_INTERVAL_S)
                stack.tend()
        except KeyboardInterrupt:
            _console.print("stopping: the API, the alerts, the worker, the broker")
            raise


def _make_first_key(keys_file: Path) -> None:
    """Where no key is in force: make one for everything, and show it, which nobody can again."""
    key = KeyFile(keys_file).first_admin("admin")
    if key is not None:
        _console.print(f"admin key, shown only now: {key}")


def _tell_limits(stack: Stack) -> None:
    if not stack.broker.durable:
        _console.print("this broker keeps everything in memory: the stream begins empty")
    if not stack.broker.transactions:
        _console.print(
            "it has no transactions: totals stay exact when a worker crashes, but not when one "
            "stands still past its session and wakes up"
        )


def _tell_ready(stack: Stack, auth: bool) -> None:
    _console.print(f"ready; Ctrl-C stops it. Data and logs are in {stack.data_dir}")
    _console.print(f"  Kafka protocol   {stack.bootstrap_servers}")
    _console.print(f"  API              {stack.api_url}/docs")
    if auth:
        _console.print(f"  keys             {stack.keys_file}")
    if stack.metrics_url is not None:
        _console.print(f"  worker's metrics {stack.metrics_url}")
