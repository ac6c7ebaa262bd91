"""Following alert configurations: the background half of `outlay.alert_configs`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from outlay.alert_config import AlertConfigRecord, decode_config_record
from outlay.background import cancelled
from outlay.connecting import START_TIMEOUT_S, Pauses
from outlay.counting import QuietLog
from outlay.errors import OutlayError
from outlay.reading import Message, Reader

RECORD_BYTES_MAX = 131_072
"""The largest configuration that is kept, in bytes: twice what the API takes in."""

logger = logging.getLogger("outlay.alert_configs")


class EndedReader(Reader, Protocol):
    """A `Reader` that also says where the topic ends now."""

    async def ends(self) -> dict[int, int]:
        """The end offset of each partition at this moment; raises when that cannot be told."""


class Follower:
    """Reads the topic from its beginning and then on; all of it runs on the background loop.

    When reading cannot go on it begins anew, and what it knows is replaced when it has caught up.
    """

    def __init__(self, reader_factory: Callable[[], EndedReader]) -> None:
        self.records: dict[str, AlertConfigRecord] | None = None
        self.skipped = 0
        self.problem = "it was not started"
        self._reader_factory = reader_factory
        self._reader: EndedReader | None = None
        self._pauses = Pauses()
        self._progress: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._log_away = QuietLog(logger)
        self._log_skipped = QuietLog(logger)

    def start(self) -> None:
        """Begin to follow."""
        self.problem = "it has not caught up yet"
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            await cancelled(self._task)
        self.problem = "it was closed"

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
                        if await _reached(reader, ends):
                            return
                        await self._moved()
                    continue
            await self._moved()

    async def _moved(self) -> None:
        if self._progress is None:
            self._progress = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._progress)

    def _tell_waiting(self) -> None:
        if self._progress is not None:
            self._progress.set_result(None)
            self._progress = None

    async def _run(self) -> None:
        while True:
            reader = self._reader_factory()
            try:
                await self._follow(reader)
            except Exception as error:
                self.problem = str(error) if isinstance(error, OutlayError) else repr(error)
                self._log_away.warning("they cannot be read now, it is tried on: %s", self.problem)
            finally:
                self._reader = None
                await reader.stop()
            self._tell_waiting()
            await self._pauses.pause()

    async def _follow(self, reader: EndedReader) -> None:
        async with asyncio.timeout(START_TIMEOUT_S):
            ends = await reader.start()
        records: dict[str, AlertConfigRecord] = {}
        while reader.partitions in (0, len(ends)):  # 0: not known, while brokers are away
            for message in await reader.read():
                self._apply(records, message)
            if self._reader is None and await _reached(reader, ends):
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


async def _reached(reader: Reader, ends: Mapping[int, int]) -> bool:
    for partition, end in ends.items():
        if await reader.position(partition) < end:
            return False
    return True
