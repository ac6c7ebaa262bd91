"""Fencing: what one partition writes, in transactions that only its newest owner can make.

Each partition has a transactional id. Whoever takes the partition over starts a writer of that id
before it reads the state: from then on what another process writes, which was paused and does not
know, is refused, and nothing of it counts. All that waits is written in one transaction.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from aiokafka.errors import (
    BrokerResponseError,
    InvalidProducerIdMapping,
    InvalidTxnState,
    OutOfOrderSequenceNumber,
)

from streams.alerting.log import Lost
from streams.alerting.records import Records
from streams.flush import Flush, Message, Outgoing, Transaction
from streams.writer import Writer

TRANSACTION_MESSAGES_MAX = 2_000
"""How many messages of several changes go into one transaction; one change may have more."""

_LOST = (OutOfOrderSequenceNumber, InvalidTxnState, InvalidProducerIdMapping)
"""What a broker says for good to a producer, and not to the next one of the same id."""


class Note(NamedTuple):
    """A message to another topic than the state's."""

    topic: str
    partition: int
    key: bytes
    value: bytes


class _Change(NamedTuple):
    notes: Iterable[Note]
    records: Records
    done: asyncio.Future[None]


class FencedWriter:
    """Writes the changes of one partition: each whole or not at all, in the order they came in.

    After a failure it writes no more: whether what failed stands is not known, and a new producer
    may only be started by who then reads the state anew.

    Raises:
        Lost: from `write`; the partition may be someone else's.
        KafkaError: from `write`, what waiting does not help against.
    """

    def __init__(self, writer: Writer, state_topic: str, partition: int) -> None:
        self._writer = writer
        self._state_topic = state_topic
        self._partition = partition
        self._waiting: list[_Change] = []
        self._failure: Exception | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take the partition over; not bounded."""
        await self._writer.start()

    async def write(self, notes: Iterable[Note], records: Records) -> None:
        """Write a change; returns when its transaction is committed."""
        if self._failure is not None:
            raise self._failure
        change = _Change(notes, records, asyncio.get_running_loop().create_future())
        self._waiting.append(change)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        await change.done

    async def stop(self) -> None:
        """Let go, within a bound; what still waits is lost."""
        self._failure = self._failure or Lost("it was let go of")
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self._writer.stop()

    async def _run(self) -> None:
        taken: list[_Change] = []
        try:
            while self._waiting:
                taken = self._take()
                await self._writer.write(self._flush_of(taken))
                for change in taken:
                    if not change.done.done():
                        change.done.set_result(None)
        except BaseException as error:
            self._fail(_failure_of(error), [*taken, *self._waiting])
            if not isinstance(error, Exception):
                raise
        finally:
            self._running = None

    def _take(self) -> list[_Change]:
        count = messages = 0
        for change in self._waiting:
            messages += len(change.records)
            if count and messages > TRANSACTION_MESSAGES_MAX:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    def _flush_of(self, changes: Iterable[_Change]) -> Flush:
        notes: dict[tuple[str, int], list[Message]] = defaultdict(list)
        records: Records = {}
        for change in changes:
            for note in change.notes:
                notes[note.topic, note.partition].append((note.key, note.value))
            records |= change.records
        outputs = [Outgoing(*target, messages) for target, messages in notes.items()]
        state = [Outgoing(self._state_topic, self._partition, list(records.items()))]
        return Flush([Transaction(outputs=outputs, changelog=state if records else [])])

    def _fail(self, failure: Exception, changes: Iterable[_Change]) -> None:
        self._failure = failure
        self._waiting = []
        for change in changes:
            if not change.done.done():
                change.done.set_exception(failure)
                change.done.exception()  # whoever waited may be gone


def _failure_of(error: BaseException) -> Exception:
    """What those who wait are told."""
    if isinstance(error, Exception) and _is_final(error):
        return error
    told = Lost(str(error) or repr(error))
    told.__cause__ = error
    return told


def _is_final(error: Exception) -> bool:
    is_answer = isinstance(error, BrokerResponseError) and not isinstance(error, _LOST)
    return is_answer and not getattr(error, "retriable", False)
