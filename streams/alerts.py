"""Alerts: takes alerts to webhooks and mailboxes. `python -m streams.alerts`."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog
from aiokafka.errors import KafkaError
from prometheus_client import start_http_server

from outlay.reading import KafkaReader
from schemas.settings import Settings
from streams.alerting.app import AlertsApp
from streams.alerting.clock import SystemClock
from streams.alerting.configs import FETCH_WAIT_MS, KafkaConfigs
from streams.alerting.connecting import Resolver
from streams.alerting.kafka_log import KafkaAlertLog
from streams.alerting.mail import MailSender, Server
from streams.alerting.targets import Allowed
from streams.alerting.webhook import WebhookSender
from streams.logs import configure_logging

__all__ = ["main", "run"]

log = structlog.get_logger("outlay.alerts")


async def run(settings: Settings) -> None:
    """The application, until SIGTERM or SIGINT; raises what `AlertsApp.run` raises."""
    resolver = Resolver()
    webhooks = WebhookSender(
        resolver, Allowed.parse(settings.private_targets), settings.alert_attempt_timeout_s
    )
    app = AlertsApp(
        settings,
        KafkaAlertLog(settings),
        KafkaConfigs(
            lambda: KafkaReader(
                settings.kafka_bootstrap_servers,
                settings.topics.alert_configs,
                {"fetch_max_wait_ms": FETCH_WAIT_MS},
            )
        ),
        webhooks,
        MailSender(_server(settings), settings.alert_attempt_timeout_s),
        SystemClock(),
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, app.stop)
    if settings.metrics_port:
        start_http_server(
            settings.metrics_port, settings.metrics_host, registry=app.metrics.registry
        )
    log.info("alerts start", topic=settings.topics.alerts)
    try:
        await app.run()
    finally:
        await webhooks.close()
        resolver.close()
    log.info("alerts stopped")


def _server(settings: Settings) -> Server:
    return Server(
        settings.alert_smtp_host,
        settings.alert_smtp_port,
        settings.alert_smtp_user,
        settings.alert_smtp_password,
        settings.alert_smtp_from,
        settings.alert_smtp_tls,
    )


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
    except KafkaError as error:
        log.error("alerts give up", error=str(error) or repr(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
