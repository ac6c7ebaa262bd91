"""When a stack is ready: the workers publish watermarks, and the API says so itself."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from outlay.connecting import knock
from outlay.errors import OutlayError
from outlay.feed import DecisionFeed
from outlay.topics import TopicNames

POLL_INTERVAL_S = 0.1
HTTP_TIMEOUT_S = 2.0
TOPICS_TIMEOUT_S = 10.0
"""How long one question after the topics may take."""


class WorkersReady:
    """Whether the decisions of every partition reach on since `since`: a `poll` for a wait loop.

    Only a worker that owns a partition of the totals, and has recovered it, publishes a watermark;
    it does so every second, also with nothing to do.
    """

    def __init__(self, bootstrap_servers: str, topics: TopicNames, since: datetime) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topics = topics
        self._since = since
        self._feed: DecisionFeed | None = None

    def poll(self) -> bool:
        """Whether they are ready now; the feed is opened once its topic exists."""
        if self._feed is None:
            if not topic_exists(self._bootstrap_servers, self._topics.decisions):
                return False
            self._feed = DecisionFeed(self._bootstrap_servers, topics=self._topics)
            self._feed.start()
        feed = self._feed
        return feed.ready and all(
            (mark := feed.watermark(partition)) is not None and mark.published_at >= self._since
            for partition in range(feed.partitions)
        )

    def close(self) -> None:
        """Close the feed."""
        if self._feed is not None:
            self._feed.close()


def topic_exists(bootstrap_servers: str, topic: str) -> bool:
    """Whether the broker knows a topic; asked in a way that cannot make it."""

    async def ask() -> bool:
        async with asyncio.timeout(TOPICS_TIMEOUT_S):
            await knock(bootstrap_servers)
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
            await admin.start()
            try:
                return topic in await admin.list_topics()
            finally:
                await admin.close()

    try:
        return asyncio.run(ask())
    except (OSError, KafkaError, TimeoutError, OutlayError):
        return False


def answers_ok(url: str) -> bool:
    """Whether a GET of the URL answers 200 now."""
    try:
        with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def wait_for(ready: Callable[[], bool], check: Callable[[], None], deadline_s: float) -> bool:
    """Poll until `ready`; False at the monotonic clock's deadline. `check` raises to end it."""
    while not ready():
        check()
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True
