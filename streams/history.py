"""History: usage, the audit, alerts and deliveries, in ClickHouse. `python -m streams.history`.

A process for ClickHouse servers. chDB, which one process can open, is fed by the API's own
process, where `HistorySinks` runs beside the requests.
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
from streams.history_lanes import LANES
from streams.history_sinks import HistorySinks
from streams.logs import configure_logging

__all__ = ["HistorySinks", "main", "run"]

log = structlog.get_logger("outlay.history")


async def run(settings: Settings) -> None:
    """The sinks as a process of their own, until SIGTERM or SIGINT; raises what `run` raises."""
    sinks = HistorySinks(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, sinks.stop)
    if settings.metrics_port:
        start_http_server(
            settings.metrics_port, settings.metrics_host, registry=sinks.metrics.registry
        )
    log.info("history starts", topics=[lane.topic(settings.topics) for lane in LANES])
    await sinks.run()
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
