"""History: every usage record that counts, in ClickHouse. `python -m streams.history` runs it.

A process for ClickHouse servers. chDB, which one process can open, is fed by the API's own
process, where `HistorySink` runs beside the requests.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog
from aiokafka.errors import KafkaError
from prometheus_client import start_http_server

from schemas.settings import Settings
from streams.clickhouse_errors import HistoryError
from streams.history_sink import HistorySink
from streams.logs import configure_logging

__all__ = ["HistorySink", "main", "run"]

log = structlog.get_logger("outlay.history")


async def run(settings: Settings) -> None:
    """The sink as a process of its own, until SIGTERM or SIGINT; raises what `run` raises."""
    sink = HistorySink(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, sink.stop)
    if settings.metrics_port:
        start_http_server(
            settings.metrics_port, settings.metrics_host, registry=sink.metrics.registry
        )
    log.info("history starts", topic=settings.topics.usage)
    await sink.run()
    log.info("history stopped")


def main() -> int:
    """The exit code: 0 after a stop, 1 when waiting could not help, 2 for bad settings."""
    try:
        settings = Settings()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logging(settings.log_level)
    try:
        asyncio.run(run(settings))
    except (HistoryError, KafkaError) as error:
        log.error("history gives up", error=str(error) or repr(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
