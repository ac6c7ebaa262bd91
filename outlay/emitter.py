"""Emitter: agents report usage and never wait."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack

import msgspec
import uuid_utils

from outlay import background
from outlay.background import cancelled
from outlay.closing import Closing
from outlay.counting import Counter, QuietLog
from outlay.delivery import Delivered, Delivery, OnDelivered, logger
from outlay.frame import RECORDS_MAX as FRAME_RECORDS_MAX
from outlay.judging import MESSAGE_BYTES_MAX, RECORDS_PER_MESSAGE_MAX
from outlay.money import Money
from outlay.sending import Compression, KafkaSender, SenderFactory
from outlay.stamping import Item
from outlay.topics import TopicNames
from outlay.usage import UsageRecord
from outlay.watching import SpendWatcher

__all__ = ["Delivered", "EmitterStats", "OnDelivered", "UsageEmitter", "UsageFields"]

BUFFER_RECORDS_MAX = 100_000
LINGER_S = 0.01
PACK_RECORDS_MAX = 1_000
PACK_BYTES_MAX = 900_000  # with room below Kafka's 1 MiB for the message around it
IN_FLIGHT_PACKS_MAX = 16
FLUSH_TIMEOUT_S = 30.0

GIVE_UP_TIMEOUT_S = 10.0
"""How long closing may take over its own bound, to end the connection."""

EXIT_TIMEOUT_S = 5.0
"""How long the interpreter's exit waits for all open emitters together."""

_encode = msgspec.json.Encoder().encode
_now_s = time.time


class UsageFields(TypedDict, total=False):
    """The fields of `UsageEmitter.emit`: those of `UsageRecord.new`."""

    organization_id: str
    agent_id: str
    cost_usd: Money
    team_id: str | None
    user_id: str | None
    provider: str | None
    model: str | None
    input_tokens: int
    output_tokens: int
    success: bool
    executions: int
    kind: Literal["usage", "correction"]
    occurred_at: datetime
    id: str
    source: str
    sequence: int
    metadata: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class EmitterStats:
    """What became of the records, all counted since the emitter was made.

    Always `emitted == sent + failed + dropped + invalid + buffered`. `dropped` found the buffer
    full or the emitter closed, `failed` could not be delivered or was left when it closed, and
    `buffered` waits, what is under way included.
    """

    emitted: int
    sent: int
    failed: int
    dropped: int
    invalid: int
    buffered: int


class UsageEmitter(Closing):
    """Sends usage records in the background; `emit` neither waits nor raises.

    It may be used from any thread and any event loop. Nothing is connected when it is made: that
    happens in the background, and is tried again for as long as it takes. Close it at the end;
    what is open when the interpreter exits gets `EXIT_TIMEOUT_S` to deliver the rest.

    Args:
        bootstrap_servers: `host:port`, several separated by commas.
        topics: the names of the topics.
        source: which emitter instance this is, a UUID; a new one by default.
        buffer_records_max: how many records may wait, those under way included. Beyond, the
            newest, the one that is emitted, is dropped. (Threads that emit at the very same
            moment may pass it by one record each.)
        linger_s: how long a record may wait for others to travel with, in seconds.
        pack_records_max: how many records one message holds at most.
        pack_bytes_max: how large a message may get, in bytes, before any compression.
        frames: whether many records travel by columns (`outlay.frame`): a fifth of the bytes, and
            of what a worker takes for them, for half as much again here. Otherwise they are an
            array of JSON, which any reader of the topic knows.
        in_flight_max: how many messages may be ready or under way at once.
        compression: of the messages, where its library is installed; by default none.
        on_delivered: told of each delivered message, on the background thread.
        client_options: more arguments for aiokafka's client: `security_protocol`, `ssl_context`,
            `sasl_…`.
        sender_factory: makes the connection; for tests.

    Raises:
        ValueError: a bound below one or above what readers accept.
    """

    def __init__(
        self,
        bootstrap_servers: str = "127.0.0.1:9092",
        *,
        topics: TopicNames | None = None,
        source: str | None = None,
        buffer_records_max: int = BUFFER_RECORDS_MAX,
        linger_s: float = LINGER_S,
        pack_records_max: int = PACK_RECORDS_MAX,
        pack_bytes_max: int = PACK_BYTES_MAX,
        in_flight_max: int = IN_FLIGHT_PACKS_MAX,
        frames: bool = False,
        compression: Compression | None = None,
        on_delivered: OnDelivered | None = None,
        client_options: Mapping[str, Any] | None = None,
        sender_factory: SenderFactory | None = None,
    ) -> None:
        _check_bound("buffer_records_max", buffer_records_max)
        records_max = FRAME_RECORDS_MAX if frames else RECORDS_PER_MESSAGE_MAX
        _check_bound("pack_records_max", pack_records_max, records_max)
        _check_bound("pack_bytes_max", pack_bytes_max, MESSAGE_BYTES_MAX)
        _check_bound("in_flight_max", in_flight_max)
        if not linger_s >= 0:
            raise ValueError("linger_s must not be negative")
        topic = (topics or TopicNames()).usage
        self.source = str(uuid_utils.uuid7()) if source is None else source
        self._accepted = Counter()
        self._dropped = Counter()
        self._log_dropped = QuietLog(logger)
        self._drop_logged_s = float("-inf")
        self._closing = False
        self._delivery = Delivery(
            sender_factory
            or (lambda: KafkaSender(bootstrap_servers, topic, client_options, compression)),
            source=self.source,
            buffer_records_max=buffer_records_max,
            linger_s=linger_s,
            pack_records_max=pack_records_max,
            pack_bytes_max=pack_bytes_max,
            in_flight_max=in_flight_max,
            frames=frames,
            on_delivered=on_delivered,
        )
        self._queue = self._delivery.queue
        self._background = background.acquire()
        self._run: asyncio.Task[None] | None = None
        self._close_lock = threading.Lock()
        self._close_result: bool | None = None
        self._background.call(self._start_delivery)
        _open.add(self)

    def _start_delivery(self) -> None:
        self._run = self._background.loop.create_task(self._delivery.run())

    def emit(
        self,
        record: UsageRecord | None = None,
        /,
        *extra: object,
        **fields: Unpack[UsageFields],
    ) -> bool:
        """Report usage: a record, or the fields of one (see `UsageRecord.new`). Never raises.

        The time is that of the call where none is given, `source` and `sequence` are filled in
        where there is no source. Everything else happens later: a record that is not valid is
        counted and logged, not refused here.

        Returns:
            Whether it was taken: not when the buffer is full or the emitter is closed.
        """
        try:
            delivery = self._delivery
            if self._closing or len(self._queue) >= delivery.room:
                return self._drop()
            if "metadata" in fields:
                self._freeze(fields)
            at_s = _now_s()
            for watcher in delivery.watchers.all:
                try:
                    watcher.emitted(record, fields, at_s)  # type: ignore[arg-type]
                except Exception:  # a mistake of the watcher's must not lose the record
                    self._background.call(_log_watcher)
            next(self._accepted.up)
            self._queue.append(Item(record, extra, fields, at_s))
            if delivery.asleep:
                delivery.asleep = False
                self._background.call(delivery.wake)
            return True
        except Exception:
            return False

    @staticmethod
    def _freeze(fields: UsageFields) -> None:
        """Take the metadata as it is now: the caller may change it after the call."""
        with contextlib.suppress(Exception):  # what cannot be encoded is found invalid later
            given = fields["metadata"]
            fields["metadata"] = msgspec.Raw(_encode(given)) if given else None  # type: ignore[typeddict-item]

    def _drop(self) -> bool:
        next(self._dropped.up)
        now_s = time.monotonic()
        if now_s - self._drop_logged_s >= 1.0 and not self._closing:
            self._drop_logged_s = now_s
            self._background.call(self._log_drop)  # logging may block, so not here
        return False

    def _log_drop(self) -> None:
        self._log_dropped.warning(
            "the buffer is full, new usage records are dropped: %d so far", self._dropped.value
        )

    def watch(self, watcher: SpendWatcher, /) -> None:
        """Have a watcher told of each record, from its `emit` to its end; a gateway is one.

        Raises:
            ValueError: there are `WATCHERS_MAX` already.
        """
        self._delivery.watchers.add(watcher)

    def unwatch(self, watcher: SpendWatcher, /) -> None:
        """Tell a watcher no more; nothing happens when it is not there."""
        self._delivery.watchers.remove(watcher)

    @property
    def stats(self) -> EmitterStats:
        """What became of the records so far."""
        settled = self._delivery.settled  # first: what is settled was accepted before
        accepted, dropped = self._accepted.value, self._dropped.value
        return EmitterStats(
            emitted=accepted + dropped,
            sent=settled.sent,
            failed=settled.failed,
            dropped=dropped,
            invalid=settled.invalid,
            buffered=accepted - sum(settled),
        )

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait until all that was emitted before is delivered or failed for good.

        Returns:
            Whether it was, within `timeout_s` seconds.
        """
        if self._closing:
            return self.close(timeout_s)
        try:
            self._background.run(self._delivery.flush(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def aflush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """`flush` for code in an event loop."""
        if self._closing:
            return await self.aclose(timeout_s)
        try:
            await self._background.arun(self._delivery.flush(), timeout_s)
        except TimeoutError:
            return False
        return True

    def close(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Deliver what is buffered, within `timeout_s` seconds, and stop; what is left has failed.

        A second call does nothing and returns what the first did.

        Returns:
            Whether everything was delivered or had failed before the bound.
        """
        with self._close_lock:
            if self._close_result is None:
                self._closing = True
                try:
                    self._close_result = self._background.run(
                        self._shut(timeout_s), timeout_s + GIVE_UP_TIMEOUT_S
                    )
                except TimeoutError:
                    self._close_result = False
                _open.discard(self)
                self._background.release()
            return self._close_result

    async def aclose(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """`close` for code in an event loop."""
        return await asyncio.to_thread(self.close, timeout_s)

    async def _shut(self, timeout_s: float) -> bool:
        flushed = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._delivery.flush()
        except TimeoutError:
            flushed = False
        if self._run is not None:
            await cancelled(self._run)
        await self._delivery.give_up()
        return flushed


def _log_watcher() -> None:
    logger.error("a watcher failed to take note of a record that was emitted")


def _check_bound(name: str, value: int, maximum: int | None = None) -> None:
    if type(value) is not int:
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    if value < 1 or (maximum is not None and value > maximum):
        raise ValueError(
            f"{name} must be at least 1" + (f" and at most {maximum}" if maximum else "")
        )


_open: set[UsageEmitter] = set()


@atexit.register
def _close_at_exit() -> None:
    """What is still open gets one bound together to deliver the rest."""
    deadline_s = time.monotonic() + EXIT_TIMEOUT_S
    for emitter in tuple(_open):
        with contextlib.suppress(Exception):
            emitter.close(max(deadline_s - time.monotonic(), 0.0))


def _orphan() -> None:
    """In a forked child: what its parent's emitters are given there is dropped, and counted."""
    for emitter in _open:
        emitter._closing = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_orphan)
