"""The API process: `python -m api`, or `outlay api`.

With chDB it keeps the history, too. It ends with 0 when it was asked to, with 1 when it cannot
start or the history gives up, and with 2 when its settings cannot be.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog
import uvicorn

from api.app import create_app
from api.hosts import is_loopback
from schemas.settings import Settings
from streams.clickhouse import check_dsn
from streams.clickhouse_errors import HistoryRefused
from streams.logs import configure_logging

SHUTDOWN_TIMEOUT_S = 10
"""How long open requests may take at a stop, in seconds."""

log = structlog.get_logger("outlay.api")


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    config = uvicorn.Config(
        create_app(settings, on_failure=fail),
        host=settings.api_host,
        port=settings.api_port,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
    )
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()
    # uvicorn raises a signal again when it has stopped: with a handler here it ends nothing.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    log.info("api starts", host=settings.api_host, port=settings.api_port)
    await server.serve()
    log.info("api stopped")
    return 1 if failures or not server.started else 0


def main() -> int:
    """The exit code."""
    try:
        settings = Settings()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if not is_loopback(settings.api_host) and not settings.api_allow_remote:
        print(
            f"the API knows no keys yet and listens on loopback only, not on {settings.api_host}:"
            " OUTLAY_API_ALLOW_REMOTE=true allows it all the same",
            file=sys.stderr,
        )
        return 2
    configure_logging(settings.log_level)
    try:
        check_dsn(settings)
    except HistoryRefused as error:
        log.error("api cannot start", error=str(error))
        return 1
    try:
        return asyncio.run(serve(settings))
    except SystemExit:  # uvicorn's word for a port that is taken; it has logged it
        return 1


if __name__ == "__main__":
    sys.exit(main())
