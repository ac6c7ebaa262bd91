"""The emitter of an in-memory stream: what it is given has arrived when `emit` returns."""

from __future__ import annotations

import threading
from collections import deque
from typing import Unpack

import uuid_utils

from outlay.delivery import Delivered, OnDelivered, Settled, logger
from outlay.emitter import (
    BUFFER_RECORDS_MAX,
    FLUSH_TIMEOUT_S,
    EmitterStats,
    UsageEmitter,
    UsageFields,
)
from outlay.packing import Pack
from outlay.stamping import Item, Stamper
from outlay.testing.memory_broker import DeliveryFailed, MemoryBroker
from outlay.testing.memory_packs import packed
from outlay.testing.rejected import Rejected
from outlay.usage import UsageRecord
from outlay.watching import SpendWatcher, Watchers

__all__ = ["InMemoryEmitter"]


class InMemoryEmitter(UsageEmitter):
    """A `UsageEmitter` without a connection and without a thread.

    Records are stamped, judged and packed by the real one's rules, and dated by the stream's
    clock. They are delivered before `emit` returns; while the broker is away they are buffered,
    and delivered together when it is back. Get one from `InMemoryStream`.

    Raises:
        ValueError: `buffer_records_max` is below one.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        *,
        source: str | None = None,
        buffer_records_max: int = BUFFER_RECORDS_MAX,
        on_delivered: OnDelivered | None = None,
    ) -> None:
        if type(buffer_records_max) is not int or buffer_records_max < 1:
            raise ValueError("buffer_records_max must be a whole number, at least 1")
        self.source = str(uuid_utils.uuid7()) if source is None else source
        self._broker = broker
        self._buffer_records_max = buffer_records_max
        self._on_delivered = on_delivered
        self._stamper = Stamper(self.source, frames=False)
        self._waiting: deque[Item] = deque()
        self._watchers = Watchers(logger)
        self._emitted = self._dropped_before = 0
        self._settled = Settled()
        self._is_closed = False
        self._close_result: bool | None = None
        self._end_lock = threading.RLock()
        with broker.lock:
            broker.emitters = (*broker.emitters, self)

    def emit(
        self,
        record: UsageRecord | None = None,
        /,
        *extra: object,
        **fields: Unpack[UsageFields],
    ) -> bool:
        """Report usage: a record, or the fields of one (see `UsageRecord.new`). Never raises.

        Returns:
            Whether it was taken: not when the buffer is full or the emitter is closed.
        """
        try:
            if self._is_closed or len(self._waiting) >= self._buffer_records_max:
                return self._drop_it()
            if "metadata" in fields:
                self._freeze(fields)
            at_s = self._broker.clock.time()
            self._watchers.tell(lambda watcher: watcher.emitted(record, fields, at_s))  # type: ignore[arg-type]
            taken = self._queue_up(Item(record, extra, fields, at_s))
            self._broker.work_unless_busy()
            return taken
        except Exception:
            return False

    def _queue_up(self, item: Item) -> bool:
        with self._broker.lock:
            self._emitted += 1
            if self in self._broker.emitters:
                self._waiting.append(item)
                return True
            self._dropped_before += 1
        # Closed at this very moment: they were just told of it.
        self._watchers.tell(lambda watcher: watcher.ended())
        return False

    def _drop_it(self) -> bool:
        with self._broker.lock:
            self._emitted += 1
            self._dropped_before += 1
        return False

    def watch(self, watcher: SpendWatcher, /) -> None:
        """Have a watcher told of each record, from its `emit` to its end; a gateway is one.

        Raises:
            ValueError: there are `WATCHERS_MAX` already.
        """
        self._watchers.add(watcher)

    def unwatch(self, watcher: SpendWatcher, /) -> None:
        """Tell a watcher no more; nothing happens when it is not there."""
        self._watchers.remove(watcher)

    @property
    def stats(self) -> EmitterStats:
        """What became of the records so far."""
        with self._broker.lock:
            settled, dropped = self._settled, self._dropped_before
            return EmitterStats(
                emitted=self._emitted,
                sent=settled.sent,
                failed=settled.failed,
                dropped=dropped,
                invalid=settled.invalid,
                buffered=self._emitted - dropped - sum(settled),
            )

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Whether all that was emitted before is delivered or has failed for good.

        It waits for nothing: what a broker that is away holds back is not there a moment later.
        """
        if self._is_closed:
            return self.close(timeout_s)
        return self._flushed()

    def _flushed(self) -> bool:
        emitted = self._emitted
        self._broker.work()
        stats = self.stats
        return stats.emitted - stats.buffered >= emitted

    async def aflush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """`flush` for code in an event loop."""
        return self.flush(timeout_s)

    def close(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Deliver what is buffered, and stop; what is left then, the broker being away, has failed.

        A second call does nothing and returns what the first did.

        Returns:
            Whether everything was delivered or had failed before.
        """
        with self._end_lock:
            if self._close_result is None:
                self._is_closed = True
                self._close_result = self._flushed()
                self._give_up()
            return self._close_result

    async def aclose(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """`close` for code in an event loop."""
        return self.close(timeout_s)

    def _give_up(self) -> None:
        with self._broker.lock:
            left = tuple(each for each in self._broker.emitters if each is not self)
            self._broker.emitters = left
            count = len(self._waiting)
            self._waiting.clear()
        self._count(failed=count)
        self._watchers.tell(lambda watcher: watcher.ended())

    # -- what the broker calls, in its turn

    def deliver(self) -> None:
        """Deliver what is buffered, packed as the real one packs what has piled up."""
        with self._broker.lock:
            items = list(self._waiting)
            self._waiting.clear()
        bundles = self._stamper.stamp(items, self._broker.usage.partitions, self._refuse)
        for pack in packed(bundles):
            self._send(pack)

    def _refuse(self, item: Item, error: Exception) -> None:
        record, extra, fields = item.record, item.extra, item.fields
        given = (record, *extra) if extra else fields if record is None else record
        self._count(invalid=1)
        with self._broker.lock:
            self._broker.usage.rejected.append(Rejected(str(error), given, "emitter"))
        record_id = getattr(record, "id", None) or fields.get("id")
        self._watchers.tell(lambda watcher: watcher.invalid(record_id))

    def _send(self, pack: Pack) -> None:
        records = tuple(pack.records())
        try:
            offset = self._broker.append_usage(pack.partition, pack.message())
        except DeliveryFailed as error:
            self._count(failed=len(records))
            logger.warning("%d usage records failed to be sent: %r", len(records), error)
            self._watchers.tell(lambda watcher: watcher.failed(records))
            return
        self._count(sent=len(records))
        self._watchers.tell(lambda watcher: watcher.delivered(pack.partition, offset, records))
        if self._on_delivered is not None:
            try:
                self._on_delivered(Delivered(pack.partition, offset, records))
            except Exception:
                logger.exception("on_delivered failed")

    def _count(self, *, sent: int = 0, failed: int = 0, invalid: int = 0) -> None:
        with self._broker.lock:
            old = self._settled
            self._settled = Settled(old.sent + sent, old.failed + failed, old.invalid + invalid)
