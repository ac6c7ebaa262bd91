"""Alert configurations: their topic, kept in memory. Whoever holds it holds secrets."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from outlay import background
from outlay.alert_config import AlertConfigRecord
from outlay.alert_following import RECORD_BYTES_MAX, Follower
from outlay.background import Background
from outlay.closing import Closing
from outlay.errors import FeedNotReady
from outlay.reading import EndedReader, KafkaReader
from outlay.topics import TopicNames

__all__ = ["RECORD_BYTES_MAX", "AlertConfigs"]

READY_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 15.0

FETCH_WAIT_MS = 100
"""How long the broker may hold a question for news: what else is asked of it waits behind that."""


class AlertConfigs(Closing):
    """The own alert configurations of all scopes, followed in the background.

    It may be used from any thread and any event loop; reads take no lock. Once started it goes on
    until it is closed: while the broker is away it keeps what it knows. There are as many as
    budgets with a configuration of their own, each of `RECORD_BYTES_MAX` at most.

    Args:
        bootstrap_servers: `host:port`, several separated by commas.
        topics: the names of the topics.
        client_options: more arguments for aiokafka's client.
        reader_factory: makes the connection; for tests.
    """

    def __init__(
        self,
        bootstrap_servers: str = "127.0.0.1:9092",
        *,
        topics: TopicNames | None = None,
        client_options: Mapping[str, Any] | None = None,
        reader_factory: Callable[[], EndedReader] | None = None,
    ) -> None:
        topic = (topics or TopicNames()).alert_configs
        options = {"fetch_max_wait_ms": FETCH_WAIT_MS, **(client_options or {})}
        self._follower = Follower(
            reader_factory or (lambda: KafkaReader(bootstrap_servers, topic, options))
        )
        self._lock = threading.Lock()
        self._background: Background | None = None

    # -- what is known: from any thread, without waiting

    @property
    def ready(self) -> bool:
        """Whether it has caught up with what the topic held when it was started."""
        return self._follower.records is not None

    @property
    def problem(self) -> str:
        """Why it does not follow now; empty while it does."""
        return self._follower.problem

    @property
    def skipped(self) -> int:
        """How many messages could not be read."""
        return self._follower.skipped

    @property
    def records(self) -> Mapping[str, AlertConfigRecord]:
        """What is known of each scope with an own configuration, by its key; only to be read."""
        return self._follower.records or {}

    def get(self, scope_key: str) -> AlertConfigRecord | None:
        """A scope's own configuration; None: it has none, as far as is known."""
        return self.records.get(scope_key)

    # -- starting, waiting, closing

    def start(self) -> None:
        """Begin to follow, in the background; returns at once. A second call does nothing."""
        with self._lock:
            if self._background is None:
                self._background = background.acquire()
                self._background.call(self._follower.start)

    def wait_current(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until it knows all that the topic holds at this moment.

        A configuration stands in the topic before the decision with its version is published:
        whoever has seen the decision sees the configuration after this.

        Raises:
            FeedNotReady: it does not within `timeout_s` seconds; the text says what it is at.
        """
        following = self._started()
        try:
            following.run(self._follower.until_current(), timeout_s)
        except TimeoutError:
            raise self._not_ready(timeout_s) from None

    async def await_current(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """`wait_current` for code in an event loop."""
        following = self._started()
        try:
            await following.arun(self._follower.until_current(), timeout_s)
        except TimeoutError:
            raise self._not_ready(timeout_s) from None

    def _not_ready(self, timeout_s: float) -> FeedNotReady:
        said = self.problem or "the broker does not say where they end"
        return FeedNotReady(f"the alert configurations are not known after {timeout_s:g} s: {said}")

    def _started(self) -> Background:
        if self._background is None:
            raise FeedNotReady("the alert configurations are not followed")
        return self._background

    def close(self) -> None:
        """Stop following; what is known stays to be read. A second call does nothing."""
        with self._lock:
            holder, self._background = self._background, None
        if holder is not None:
            with contextlib.suppress(TimeoutError):  # it goes on ending in the background
                holder.run(self._follower.stop(), CLOSE_TIMEOUT_S)
            holder.release()

    async def aclose(self) -> None:
        """`close` for code in an event loop."""
        await asyncio.to_thread(self.close)
