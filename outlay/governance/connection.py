"""Connection: one to each installation for the whole process, shared by all that use it.

A web application makes a service for each request and may never close it: so what connects, a
feed, a gateway and an emitter, is made once for the same settings, counted, and closed when the
last user that closes has done so. A user that is forgotten keeps the connection open until the
process exits, and costs nothing else.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from outlay.emitter import EXIT_TIMEOUT_S, UsageEmitter
from outlay.environment import Environment
from outlay.feed import DecisionFeed
from outlay.gateway import BudgetGateway
from outlay.reading import ReaderFactory
from outlay.sending import SenderFactory

OnNotReady = Literal["allow", "block"]


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """What a connection is known by: where to, and what it answers before it knows anything.

    Raises:
        ValueError: `on_not_ready` is neither `allow` nor `block`.
    """

    environment: Environment
    on_not_ready: OnNotReady = "allow"

    def __post_init__(self) -> None:
        if self.on_not_ready not in get_args(OnNotReady):
            raise ValueError(f"on_not_ready must be allow or block, not {self.on_not_ready!r}")


class Connection:
    """A feed, a gateway that answers from it, and an emitter whose records the gateway counts.

    They are started here; `close` ends them. In a forked child `orphaned` is set: the background
    thread is its parent's.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        *,
        reader_factory: ReaderFactory | None = None,
        sender_factory: SenderFactory | None = None,
    ) -> None:
        there = settings.environment
        self.settings = settings
        self.users = 0  # kept by `Connections`, under its lock
        self.orphaned = False
        self.emitter = UsageEmitter(
            there.bootstrap_servers, topics=there.topics, sender_factory=sender_factory
        )
        self.feed = DecisionFeed(
            there.bootstrap_servers,
            topics=there.topics,
            stale_after_s=there.stale_after_s,
            reader_factory=reader_factory,
        )
        self.gateway = BudgetGateway(
            feed=self.feed, emitter=self.emitter, on_not_ready=settings.on_not_ready
        )
        self.feed.start()

    def close(self, timeout_s: float) -> bool:
        """Deliver what is buffered, within `timeout_s` seconds, and end; whether all was."""
        try:
            return self.emitter.close(timeout_s)
        finally:
            self.gateway.close()
            self.feed.close()


class Connections:
    """The open connections, one for the same settings; safe in any thread.

    Args:
        connect: makes a connection; for tests.
    """

    def __init__(self, connect: Callable[[ConnectionSettings], Connection] = Connection) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._open: dict[ConnectionSettings, Connection] = {}

    def acquire(self, settings: ConnectionSettings) -> Connection:
        """The connection for these settings, made if need be; each user releases it once."""
        with self._lock:
            connection = self._open.get(settings)
            if connection is None:
                connection = self._open[settings] = self._connect(settings)
            connection.users += 1
            return connection

    def release(self, connection: Connection, timeout_s: float) -> bool:
        """Give it back and deliver what is buffered, within `timeout_s` seconds; whether all was.

        The last user's call closes the connection.
        """
        if connection.orphaned:
            return True  # what it held is the parent's, and so is the delivery
        with self._lock:
            connection.users -= 1
            is_last = connection.users <= 0
            if is_last and self._open.get(connection.settings) is connection:
                del self._open[connection.settings]
        return connection.close(timeout_s) if is_last else connection.emitter.flush(timeout_s)

    def close_all(self, timeout_s: float) -> None:
        """Close every connection, whoever uses it, within `timeout_s` seconds for the records."""
        with self._lock:
            left = list(self._open.values())
            self._open.clear()
        deadline_s = time.monotonic() + timeout_s
        for connection in left:
            connection.close(max(deadline_s - time.monotonic(), 0.0))

    def orphan(self) -> None:
        """In a forked child: its parent's connections are of no use, and the lock may be held."""
        self._lock = threading.Lock()
        for connection in self._open.values():
            connection.orphaned = True
        self._open = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        with self._lock:
            return iter(tuple(self._open.values()))


shared = Connections()
"""Those of this process."""


@atexit.register
def _close_at_exit() -> None:
    with contextlib.suppress(Exception):
        shared.close_all(EXIT_TIMEOUT_S)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared.orphan)
