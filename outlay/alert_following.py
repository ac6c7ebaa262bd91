"""Following alert configurations: the background half of `outlay.alert_configs`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from outlay.alert_config import AlertConfigRecord, decode_config_record
from outlay.connecting import START_TIMEOUT_S
from outlay.errors import OutlayError
from outlay.reading import EndedReader, Message, reached
from outlay.topic_following import TopicFollower

RECORD_BYTES_MAX = 131_072
"""The largest configuration that is kept, in bytes: twice what the API takes in."""

logger = logging.getLogger("outlay.alert_configs")


class Follower(TopicFollower[EndedReader]):
    """Reads the topic from its beginning and then on; all of it runs on the background loop.

    When reading cannot go on it begins anew, and what it knows is replaced when it has caught up.
    """

    def __init__(self, reader_factory: Callable[[], EndedReader]) -> None:
        super().__init__(reader_factory, "they", logger)
        self.records: dict[str, AlertConfigRecord] | None = None
        self._reader: EndedReader | None = None

    async def until_current(self) -> None:
        """Return when what the topic holds now is known."""
        while True:
            reader = self._reader
            if reader is not None:
                try:
                    ends = await reader.ends()
                except Exception as error:
                    self._log_away.warning("where they end is not known now: %r", error)
                else:
                    while reader is self._reader:
                        if await reached(reader, ends):
                            return
                        await self._moved()
                    continue
            await self._moved()

    def _left(self) -> None:
        self._reader = None
        self._tell_waiting()

    async def _follow(self, reader: EndedReader) -> None:
        async with asyncio.timeout(START_TIMEOUT_S):
            ends = await reader.start()
        records: dict[str, AlertConfigRecord] = {}
        while reader.partitions in (0, len(ends)):  # 0: not known, while brokers are away
            for message in await reader.read():
                self._apply(records, message)
            if self._reader is None and await reached(reader, ends):
                self.records, self._reader, self.problem = records, reader, ""
                self._pauses.reset()
            self._tell_waiting()
        raise OutlayError("the topic has other partitions than before, it is read anew")

    def _apply(self, records: dict[str, AlertConfigRecord], message: Message) -> None:
        try:
            scope = (message.key or b"").decode()
            if message.value is None:
                records.pop(scope, None)
                return
            if len(message.value) > RECORD_BYTES_MAX:
                raise ValueError(f"over {RECORD_BYTES_MAX} bytes")
            records[scope] = decode_config_record(message.value)
        except Exception as error:  # of its text nothing is told: it may be a secret
            self.skipped += 1
            self._log_skipped.warning(
                "an alert configuration is skipped, partition %d, offset %d: %s",
                message.partition,
                message.offset,
                type(error).__name__,
            )
