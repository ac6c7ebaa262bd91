"""Alerts, as the API serves them: which configuration holds for a budget, and tests of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from typing import NamedTuple

import structlog

from api.problems import ProblemError
from api.seams import OwnAlerts
from outlay.alert import Alert
from outlay.alert_config import DEFAULT_ALERTS, AlertConfig
from outlay.alert_configs import AlertConfigs
from outlay.scope import Scope
from outlay.sending import KafkaSender, Sender, SenderFactory
from schemas.http_alerts import AlertSource
from schemas.settings import Settings
from streams.alerting.trying import alert_message

CURRENT_TIMEOUT_S = 5.0
"""How long it may take to learn what the configurations are at this moment, in seconds."""

SEND_TIMEOUT_S = 5.0
"""How long the broker may take to take a test alert, the connection included, in seconds."""

log = structlog.get_logger("outlay.api")


class Holding(NamedTuple):
    """The configuration that holds for a budget, and whose it is."""

    source: AlertSource
    config: AlertConfig


class Alerts:
    """The budgets' own configurations, and the way to the alerts topic; neither where not given."""

    def __init__(
        self, own: OwnAlerts | None = None, sender_factory: SenderFactory | None = None
    ) -> None:
        self.own = own
        self._sender_factory = sender_factory
        self._sender: Sender | None = None
        self._sending = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether it is known which budgets have a configuration of their own."""
        return self.own is not None and self.own.ready

    def holding(self, scope: Scope) -> Holding:
        """What holds for a budget, as far as is known.

        Raises:
            ProblemError: nothing is known yet.
        """
        own = self._known()
        if (record := own.get(scope.key)) is not None:
            return Holding("budget", record.config)
        if (record := own.get(Scope(scope.organization_id).key)) is not None:
            return Holding("organization", record.config)
        return Holding("default", DEFAULT_ALERTS)

    def own_config(self, scope: Scope) -> AlertConfig | None:
        """A budget's own configuration, as far as is known; None: it has none.

        Raises:
            ProblemError: nothing is known yet.
        """
        record = self._known().get(scope.key)
        return None if record is None else record.config

    async def catch_up(self) -> None:
        """Have it know all that was published before this call.

        Raises:
            ProblemError: there is nothing that it could follow.
            FeedNotReady: it takes too long.
        """
        if self.own is None:
            raise _unknown()
        await self.own.await_current(CURRENT_TIMEOUT_S)

    def _known(self) -> OwnAlerts:
        if self.own is None or not self.own.ready:
            raise _unknown()
        return self.own

    async def publish(self, alert: Alert) -> None:
        """Have the broker take an alert.

        Raises:
            ProblemError: it has not within `SEND_TIMEOUT_S`; it may have arrived all the same.
        """
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S), self._sending:
                sender = await self._connected()
                key, value, partition = alert_message(alert, sender.partitions)
                await (await sender.send(partition, key, value))
        except Exception as error:
            log.warning("a test alert was not taken", error=repr(error))
            await self._disconnect()
            detail = "the broker has not taken the test alert; it may arrive all the same"
            raise ProblemError("broker-unavailable", detail) from None

    async def _connected(self) -> Sender:
        if self._sender is None:
            if self._sender_factory is None:
                raise ConnectionError("there is no way to the alerts topic")
            sender = self._sender_factory()
            try:
                await sender.start()
            except BaseException:
                await sender.stop()
                raise
            self._sender = sender
        return self._sender

    async def _disconnect(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            await sender.stop()

    async def aclose(self) -> None:
        """End the connection, if there is one."""
        await self._disconnect()


async def open_alerts(
    settings: Settings,
    stack: AsyncExitStack,
    own: OwnAlerts | None,
    sender_factory: SenderFactory | None,
    is_ours: bool,
) -> Alerts:
    """Alerts on what is given; with `is_ours` on the broker of the settings where nothing is."""
    servers, topics = settings.kafka_bootstrap_servers, settings.topics
    if is_ours and own is None:
        own = await stack.enter_async_context(AlertConfigs(servers, topics=topics))
    if is_ours and sender_factory is None:
        sender_factory = lambda: KafkaSender(servers, topics.alerts)  # noqa: E731
    return await stack.enter_async_context(aclosing(Alerts(own, sender_factory)))


def _unknown() -> ProblemError:
    return ProblemError("feed-unavailable", "the alert configurations are not known yet")
