"""What `outlay alerts` does beside delivering: send a test, and send dead letters again.

`python -m streams.alert_commands test --budget SCOPE`, or `redeliver`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

import uuid_utils
from aiokafka.errors import KafkaError

from outlay.alert_config import DEFAULT_ALERTS, AlertConfig
from outlay.alert_configs import AlertConfigs
from outlay.connecting import START_TIMEOUT_S
from outlay.errors import OutlayError
from outlay.feed import DecisionFeed
from outlay.scope import Scope
from outlay.sending import KafkaSender
from schemas.settings import Settings
from streams.alerting.dead import redeliver
from streams.alerting.trying import alert_message, build_test_alert

SEND_TIMEOUT_S = 2 * START_TIMEOUT_S
"""How long the broker may take to take a test alert, in seconds."""


async def send_test(settings: Settings, key: str) -> list[str]:
    """Publish a test alert of a budget; the lines that say what it is and where to look.

    Raises:
        ValueError: the key is no scope's.
        OutlayError: there is no budget, or it could not be read.
        OSError, KafkaError, TimeoutError: the broker does not take it.
    """
    scope = Scope.parse(key)
    servers, topics = settings.kafka_bootstrap_servers, settings.topics
    async with (
        DecisionFeed(servers, topics=topics) as feed,
        AlertConfigs(servers, topics=topics) as own,
    ):
        await feed.await_ready()
        await own.await_current()
        known = feed.decisions.get(scope.key)
        whose = next(
            (each for each in (scope, Scope(scope.organization_id)) if own.get(each.key)), None
        )
        record = None if whose is None else own.get(whose.key)
    if known is None:
        raise OutlayError(f"there is no budget of {scope}")
    alert = build_test_alert(
        scope,
        request_id=str(uuid_utils.uuid7()),
        now=datetime.now(UTC),
        budget=known.decision.budget,
        version=known.decision.version,
    )
    sender = KafkaSender(servers, topics.alerts)
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await sender.start()
            message_key, value, partition = alert_message(alert, sender.partitions)
            await (await sender.send(partition, message_key, value))
    finally:
        await sender.stop()
    source = "the default" if whose is None else f"that of {whose}"
    config = DEFAULT_ALERTS if record is None else record.config
    query = urlencode({"alert_id": alert.alert_id})
    return [
        f"sent test alert {alert.alert_id} of {scope}",
        f"its alert configuration is {source}: {_targets(config)}",
        f"GET /api/v1/alerts/deliveries?{query} says what becomes of it",
    ]


def _targets(config: AlertConfig) -> str:
    url, recipients = config.masked.webhook_url, config.email_recipients
    targets = [f"webhook {url}"] if url else []
    targets += [f"e-mail to {', '.join(recipients)}"] if recipients else []
    return ", ".join(targets) or "nobody is told"


async def send_again(settings: Settings, ids: Sequence[str] | None) -> list[str]:
    """Send dead letters again, some or all; the lines that say which.

    Raises:
        OutlayError: none of them is dead.
        OSError, KafkaError: the broker is away.
    """
    done = await redeliver(settings, ids)
    if ids and not done.sent:
        raise OutlayError(f"no dead letter: {', '.join(done.unknown)}")
    lines = [f"sending {each} again" for each in done.sent]
    lines += [f"no dead letter: {each}" for each in done.unknown]
    return lines or ["there are no dead letters"]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 when it was done, 1 when it could not be, 2 for what cannot be."""
    parser = argparse.ArgumentParser(prog="alerts", description="Tests and dead letters of alerts.")
    commands = parser.add_subparsers(dest="command", required=True)
    test = commands.add_parser("test")
    test.add_argument("--budget", required=True)
    again = commands.add_parser("redeliver")
    which = again.add_mutually_exclusive_group(required=True)
    which.add_argument("--id", action="append", dest="ids")
    which.add_argument("--all", action="store_const", const=None, dest="ids")
    given = parser.parse_args(argv)
    try:
        settings = Settings()
        if given.command == "test":
            lines = asyncio.run(send_test(settings, given.budget))
        else:
            lines = asyncio.run(send_again(settings, given.ids))
    except (OutlayError, OSError, KafkaError) as error:
        return _say(error, 1)
    except ValueError as error:
        return _say(error, 2)
    print("\n".join(lines))
    return 0


def _say(error: Exception, code: int) -> int:
    print(f"outlay: {str(error) or repr(error)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
