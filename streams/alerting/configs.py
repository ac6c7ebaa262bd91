"""Configs: the alert configurations, read as a whole and then followed.

A configuration is published before any alert that is detected under it. So whoever has an alert
in hand, and then reads the topic to its end, has the one that holds for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog
from aiokafka.errors import KafkaError

from outlay.connecting import START_TIMEOUT_S, Pauses
from outlay.errors import OutlayError
from outlay.reading import EndedReader, Reader
from streams.alerting.directory import Directory

FETCH_WAIT_MS = 50
"""How long the broker may hold a question for news: where the topic ends is asked behind it."""

CATCH_UP_TIMEOUT_S = 10.0
"""How long one try at reading to the end may take, in seconds; then it is tried again."""

log = structlog.get_logger("outlay.alerts")


class Configs(Protocol):
    """The configurations that are in force; `KafkaConfigs` has them from the topic."""

    @property
    def directory(self) -> Directory:
        """All of them."""

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to follow; `changed` is told of every change."""

    async def catch_up(self) -> None:
        """Know all that was published before this call; waits while the broker is away."""

    async def close(self) -> None:
        """End it."""


class KafkaConfigs:
    """Follows the topic, and begins anew when reading fails: what is known stays known meanwhile.

    `problem` says why nothing is known yet, or not the newest.
    """

    def __init__(self, reader_factory: Callable[[], EndedReader]) -> None:
        self.problem = "not started"
        self._directory = Directory()
        self._reader_factory = reader_factory
        self._reader: EndedReader | None = None
        self._applied: dict[int, int] = {}
        self._progress = asyncio.Event()
        self._pauses = Pauses()
        self._following: asyncio.Task[None] | None = None
        self._changed: Callable[[], None] = lambda: None

    @property
    def directory(self) -> Directory:
        return self._directory

    def start(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._following = asyncio.create_task(self._follow())

    async def catch_up(self) -> None:
        while True:
            try:
                async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
                    await self._reach_the_end()
                return
            except (TimeoutError, KafkaError, OSError) as error:
                self.problem = str(error) or self.problem or "it takes long"
                log.warning("waiting for the alert configurations", problem=self.problem)
                await self._pauses.pause()

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def _reach_the_end(self) -> None:
        while (reader := self._reader) is None:
            await self._step()
        ends = await reader.ends()
        while self._reader is not reader or any(
            self._applied.get(partition, 0) < end for partition, end in ends.items()
        ):
            if self._reader is not reader:
                raise OSError("the configurations are read anew")
            await self._step()

    async def _step(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    async def _follow(self) -> None:
        while True:
            reader = self._reader_factory()
            try:
                await self._read(reader)
            except Exception as error:
                self.problem = str(error) if isinstance(error, OutlayError) else repr(error)
                log.warning("alert configurations cannot be read now", problem=self.problem)
            finally:
                self._reader = None
                await reader.stop()
            await self._pauses.pause()

    async def _read(self, reader: EndedReader) -> None:
        async with asyncio.timeout(START_TIMEOUT_S):
            ends = await reader.start()
        directory, applied = Directory(), dict.fromkeys(ends, 0)
        while reader.partitions in (0, len(ends)):  # 0: not known, while brokers are away
            for message in await reader.read():
                try:
                    directory.apply(message.key, message.value)
                except ValueError as error:
                    log.warning(
                        "an alert configuration is skipped",
                        partition=message.partition,
                        offset=message.offset,
                        error=str(error),
                    )
            await _note_positions(reader, applied)
            if all(applied[partition] >= end for partition, end in ends.items()):
                self._adopt(reader, directory, applied)
            self._progress.set()
        raise OutlayError("the topic has other partitions than before, it is read anew")

    def _adopt(self, reader: EndedReader, directory: Directory, applied: dict[int, int]) -> None:
        if self._reader is not reader:
            self._pauses.reset()
            self._reader, self._applied, self.problem = reader, applied, ""
        self._directory = directory
        self._changed()


async def _note_positions(reader: Reader, applied: dict[int, int]) -> None:
    for partition in applied:
        applied[partition] = await reader.position(partition)
