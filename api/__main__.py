"""The API process: `python -m api`, or `outlay api`.

It starts with a file of keys, or with `--no-auth` on loopback, where everybody may do everything.
With chDB it keeps the history, too. It ends with 0 when it was asked to, with 1 when it cannot
start or the history gives up, and with 2 when its settings cannot be.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

import structlog
import uvicorn

from api.app import create_app
from api.connections import server_config
from api.hosts import is_loopback
from api.live import end_streams
from api.logs import configure_logging
from outlay.keyfile import KeyFile, KeyFileError
from schemas.settings import Settings
from streams.clickhouse import check_dsn
from streams.clickhouse_errors import HistoryRefused

_MAKE_KEYS = "name a file of keys in OUTLAY_API_KEYS_FILE, which `outlay keys create` makes"

log = structlog.get_logger("outlay.api")


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        end_streams(app)
        server.should_exit = True

    def stop(number: int) -> None:
        end_streams(app)  # which would go on for ever
        server.handle_exit(number, None)

    app = create_app(settings, on_failure=fail)
    server = uvicorn.Server(server_config(app, settings))
    loop = asyncio.get_running_loop()
    # uvicorn raises a signal again when it has stopped: with a handler here it ends nothing.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    log.info("api starts", host=settings.api_host, port=settings.api_port)
    await server.serve()
    log.info("api stopped")
    return 1 if failures or not server.started else 0


def _refusal(settings: Settings, *, no_auth: bool) -> str | None:
    """Why the API must not start with these keys; None: it may."""
    path = settings.keys_path
    if path is None:
        if not is_loopback(settings.api_host):
            return f"on {settings.api_host} the API needs keys: {_MAKE_KEYS}"
        if settings.cors_origins:  # every page of them could do everything
            return f"OUTLAY_API_CORS_ORIGINS needs keys: {_MAKE_KEYS}"
        return None if no_auth else f"{_MAKE_KEYS}; on loopback, --no-auth goes without"
    if no_auth:
        return "--no-auth and OUTLAY_API_KEYS_FILE cannot be together: which is meant?"
    try:
        KeyFile(path).read()
    except (KeyFileError, OSError) as error:
        return f"OUTLAY_API_KEYS_FILE: {error}"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="api", description="The REST API of outlay.")
    parser.add_argument("--no-auth", action="store_true", help="go without keys; on loopback only")
    arguments = parser.parse_args(argv)
    try:
        settings = Settings()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    refusal = _refusal(settings, no_auth=arguments.no_auth)
    if refusal is not None:
        print(refusal, file=sys.stderr)
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
