"""The worker process: `python -m streams.worker`, or `outlay worker`.

It ends with 0 when it was asked to, with `EXIT_FENCED` when another worker has taken over what it
owned, and with 1 when it cannot write or read: whoever supervises it starts it again. With 2 its
settings cannot be.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

import structlog

from outlay.embedded.asking import supports_transactions, wait_for_answer
from schemas.settings import Settings
from streams import metrics
from streams.app import App, create_app
from streams.logs import configure_logging
from streams.memory import collect_less, keep_freed
from streams.topics import ensure_topics
from streams.trimming import trim_told
from streams.writer import Fenced

EXIT_FENCED = 75
"""The exit code of a worker that was paused for too long: start it again (`EX_TEMPFAIL`)."""

BROKER_TIMEOUT_S = 60.0
"""How long a worker waits for the broker at its start."""

WATCH_INTERVAL_S = 5.0

SHUTDOWN_TIMEOUT_S = 20.0
"""How long a worker may take to end; with the broker gone, Faust would take many minutes."""

log = structlog.get_logger("outlay.streams")


def main() -> int:
    """Run a worker until it is asked to stop; returns the exit code."""
    try:
        settings = Settings()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logging(settings.log_level)
    collect_less()
    keep_freed()
    try:
        if settings.metrics_port:
            metrics.serve(settings.metrics_host, settings.metrics_port)
        return asyncio.run(run(settings))
    except Exception as error:
        log.critical("worker cannot run", error=f"{type(error).__name__}: {error}")
        return 1


async def run(settings: Settings) -> int:
    """The same, in a loop that runs already."""
    servers = settings.kafka_bootstrap_servers
    if not await asyncio.to_thread(wait_for_answer, servers, BROKER_TIMEOUT_S):
        raise RuntimeError(f"no broker answers at {servers} within {BROKER_TIMEOUT_S:.0f} s")
    transactions = await has_transactions(settings)
    await ensure_topics(settings, configs_told=transactions)
    app = create_app(settings, transactions=transactions)
    metrics.watch_positions(app.ownership.positions)
    stop = _stop_event()
    log.info("worker starts", broker=servers, transactions=transactions)
    housework = [asyncio.create_task(_watch(app))]
    if transactions:  # Tansu deletes nothing, and forgets everything
        housework.append(asyncio.create_task(trim_told(settings, app.ownership)))
    starting = asyncio.create_task(app.start())  # it returns when recovery is over
    await _first(stop, app, starting)
    for task in (*housework, starting):
        task.cancel()
    return await _end(app)


async def _watch(app: App) -> None:
    """Let the worker die when its recovery stands still."""
    while True:
        await asyncio.sleep(WATCH_INTERVAL_S)
        await app.ownership.check_progress()


async def has_transactions(settings: Settings) -> bool:
    """Whether flushes are fenced here; said at the start when they are not.

    Raises:
        RuntimeError: the settings insist on transactions, and the broker has none.
    """
    if settings.transactions == "off":
        has = False
    else:
        has = await asyncio.to_thread(supports_transactions, settings.kafka_bootstrap_servers)
    if settings.transactions == "on" and not has:
        raise RuntimeError("OUTLAY_TRANSACTIONS=on, but the broker has no transactions")
    if not has:
        log.warning(
            "no transactions: totals stay exact when a worker crashes, but not when one is "
            "paused past its session and wakes up"
        )
    return has


def _stop_event() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop


async def _first(stop: asyncio.Event, app: App, starting: asyncio.Task[None]) -> None:
    """Wait until it is asked to stop, or has crashed; raises what its start raises."""
    waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(app._crashed.wait())]
    done, _ = await asyncio.wait([*waits, starting], return_when=asyncio.FIRST_COMPLETED)
    if done == {starting}:
        starting.result()
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _end(app: App) -> int:
    code = 0
    if app.crash_reason is not None:
        code = EXIT_FENCED if isinstance(app.crash_reason, Fenced) else 1
    _exit_later(code or 1)
    await app.stop()
    log.info("worker ended", code=code)
    return code


def _exit_later(code: int) -> None:
    """End the process after a bound, whatever hangs; what was not flushed was not committed."""

    def end() -> None:
        log.critical("worker did not stop in time", timeout_s=SHUTDOWN_TIMEOUT_S)
        os._exit(code)

    timer = threading.Timer(SHUTDOWN_TIMEOUT_S, end)
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    sys.exit(main())
