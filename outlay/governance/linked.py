"""Linked: what takes a link when it is initialized, and gives it back when it is closed."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

from outlay.emitter import FLUSH_TIMEOUT_S
from outlay.environment import check_seconds
from outlay.errors import FeedNotReady
from outlay.governance.access import Access, Link

READY_TIMEOUT_S = 10.0
"""How long `initialize` waits for the decisions, in seconds; they are tried on for after it."""


class Linked:
    """Base of a service that connects when it is initialized.

    Args:
        access: where its link comes from.
        ready_timeout_s: how long `initialize` may take, in seconds.

    Raises:
        ValueError: a bound that cannot be.
    """

    def __init__(self, access: Access, ready_timeout_s: float) -> None:
        check_seconds("ready_timeout_s", ready_timeout_s)
        self._ready_timeout_s = ready_timeout_s
        self._access = access
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._waited_for: Link | None = None

    @property
    def initialized(self) -> bool:
        """Whether it has a connection, be it ready or not: `initialize` was called, not `close`."""
        link = self._link
        return link is not None and not link.orphaned

    @property
    def waited(self) -> bool:
        """Whether somebody has waited until it was ready, or until the bound for that."""
        return self.initialized and self._waited_for is self._link

    async def initialize(self) -> None:
        """Connect, and wait until what the budgets say is known. A second call only waits.

        Raises:
            FeedNotReady: it is not within `ready_timeout_s`; the text says what is missing. It is
                tried on for in the background: checks are answered by `on_not_ready` until it is.
        """
        link = self._acquired()
        try:
            if not link.gateway.feed.ready:
                await link.gateway.await_ready(self._ready_timeout_s)
        except FeedNotReady:
            self._waited_for = link
            raise
        self._waited_for = link

    async def close(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Deliver what is buffered, within `timeout_s` seconds, and give the connection back.

        The last service that does closes it. A second call does nothing; `initialize` connects
        again.

        Returns:
            Whether everything was delivered or had failed before the bound.
        """
        with self._lock:
            link, self._link = self._link, None
            self._waited_for = None
        if link is None or link.orphaned:
            return True
        return await asyncio.to_thread(self._access.release, link, timeout_s)

    async def __aenter__(self) -> Self:
        try:
            await self.initialize()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _acquired(self) -> Link:
        with self._lock:
            if self._link is None or self._link.orphaned:
                self._link = self._access.acquire()
            return self._link

    def _linked(self) -> Link:
        link = self._link
        if link is None or link.orphaned:
            raise FeedNotReady("the governance service is not initialized: await initialize()")
        return link
