"""Access: where a service gets from who answers its checks, and who reports its usage."""

from __future__ import annotations

from typing import Protocol

from outlay.emitter import UsageEmitter
from outlay.environment import Environment
from outlay.gateway import BudgetGateway
from outlay.governance.connection import (
    Connection,
    Connections,
    ConnectionSettings,
    OnNotReady,
)
from outlay.topics import TopicNames


class Link(Protocol):
    """What a service works with: who answers, and who reports.

    `orphaned`: this is a forked child, where they do nothing.
    """

    gateway: BudgetGateway
    emitter: UsageEmitter
    orphaned: bool


class Access(Protocol):
    """Where a service gets its link from: what is shared in the process, or what was given."""

    def acquire(self) -> Link:
        """The link; each that acquires it releases it once."""

    def release(self, link: Link, timeout_s: float) -> bool:
        """Give it back and deliver what is buffered, within `timeout_s`; whether all was."""


class SharedAccess:
    """An `Access` to the one connection that there is for some settings."""

    def __init__(self, connections: Connections, settings: ConnectionSettings) -> None:
        self._connections = connections
        self._settings = settings

    def acquire(self) -> Link:
        return self._connections.acquire(self._settings)

    def release(self, link: Link, timeout_s: float) -> bool:
        assert isinstance(link, Connection)  # it was acquired here
        return self._connections.release(link, timeout_s)


class Lent:
    """A `Link` that somebody else starts and closes, and the `Access` to it."""

    def __init__(self, gateway: BudgetGateway, emitter: UsageEmitter) -> None:
        self.gateway = gateway
        self.emitter = emitter
        self.orphaned = False

    def acquire(self) -> Link:
        return self

    def release(self, link: Link, timeout_s: float) -> bool:
        return link.emitter.flush(timeout_s)


def access_to(
    connections: Connections,
    bootstrap_servers: str | None,
    topics: TopicNames | None,
    stale_after_s: float | None,
    on_not_ready: OnNotReady | None,
    gateway: BudgetGateway | None,
    emitter: UsageEmitter | None,
) -> Access:
    """The access to what was given, or else to the connection for these settings.

    Raises:
        ValueError: a setting that cannot be, or one beside a gateway, or a gateway by itself.
    """
    if gateway is None and emitter is None:
        there = Environment.read(
            bootstrap_servers=bootstrap_servers, topics=topics, stale_after_s=stale_after_s
        )
        policy = "allow" if on_not_ready is None else on_not_ready
        return SharedAccess(connections, ConnectionSettings(there, policy))
    if gateway is None or emitter is None:
        raise ValueError("give gateway and emitter together, or neither")
    if (bootstrap_servers, topics, stale_after_s, on_not_ready) != (None,) * 4:
        raise ValueError("a gateway that is given has its own settings: leave them out here")
    return Lent(gateway, emitter)
