"""Delivery: the emitter's background half. It takes what was emitted, packs it and sends it.

Everything here runs on the background loop, except where a method says otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from outlay.background import cancelled
from outlay.connecting import START_TIMEOUT_S, Pauses
from outlay.counting import QuietLog
from outlay.packing import Bundle, Lane, Pack, Packer
from outlay.sending import Sender, SenderFactory
from outlay.stamping import Item, Stamper
from outlay.usage import UsageRecord
from outlay.watching import Watchers

CHUNK_RECORDS_MAX = 500
"""How many records are encoded in one go before others on the loop have their turn."""

PACKS_PER_CONNECTION_MAX = 1_000_000_000
"""aiokafka's idempotent producer counts to 2**31 messages a partition; begin anew long before."""

logger = logging.getLogger("outlay.emitter")


@dataclass(frozen=True, slots=True)
class Delivered:
    """Records that arrived as one message at `offset` of a partition of the usage topic.

    The offset is -1 where the broker no longer knows it (it had the message already).
    """

    partition: int
    offset: int
    records: tuple[UsageRecord, ...]


class OnDelivered(Protocol):
    """Told of each delivered message, on the background thread: be quick and do not wait."""

    def __call__(self, details: Delivered, /) -> None: ...


class Settled(NamedTuple):
    """How many records were delivered, have failed for good, and were no valid records."""

    sent: int = 0
    failed: int = 0
    invalid: int = 0


class _Flush:
    """Somebody waits for all that had been emitted: first taken, then settled."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.last_number: int | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Delivery:
    """Takes items from `queue` and brings them to the usage topic, in order for each agent.

    One message leaves per partition at a time, so nothing that is sent again can overtake. What
    fails to be delivered is not sent again by us: the broker may have it already, and a record
    that arrives twice is counted twice.
    """

    def __init__(
        self,
        sender_factory: SenderFactory,
        *,
        source: str,
        buffer_records_max: int,
        linger_s: float,
        pack_records_max: int,
        pack_bytes_max: int,
        in_flight_max: int,
        frames: bool,
        on_delivered: OnDelivered | None,
    ) -> None:
        self.queue: deque[Item] = deque()
        self.room = buffer_records_max  # how many items the queue may hold; others read it
        self.asleep = False  # whether an emit has to wake us; emit sets it back
        self.settled = Settled()
        self.watchers = Watchers(logger)
        self._wake = asyncio.Event()
        self._sender_factory = sender_factory
        self._sender: Sender | None = None
        self._broken = False
        self._stamper = Stamper(source, frames=frames)
        self._buffer_records_max = buffer_records_max
        self._linger_s = linger_s
        self._in_flight_max = in_flight_max
        self._on_delivered = on_delivered
        self._packer = Packer(pack_records_max, pack_bytes_max)
        self._stamped: deque[Bundle] = deque()  # what the packs had no room for yet
        self._taken = 0
        self._packs_left = PACKS_PER_CONNECTION_MAX
        self._flushes: list[_Flush] = []
        self._sends: set[asyncio.Task[None]] = set()
        self._pauses = Pauses()
        self._log_away = QuietLog(logger)
        self._log_failed = QuietLog(logger)
        self._log_invalid = QuietLog(logger)

    def wake(self) -> None:
        """Have a look at the queue again."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            try:
                await self._step()
            except Exception:  # a mistake of ours must not end the emitter
                logger.exception("sending usage failed, it is tried on")
                self._broken = True
                await self._pauses.pause()

    async def _step(self) -> None:
        if self._sender is None:
            await self._connect()
        elif self._broken or self._packs_left <= 0:
            await self._disconnect()
        elif self._take():
            self._send_due()
            await asyncio.sleep(0)
        else:
            self._send_due()
            await self._rest()

    # -- the connection

    async def _connect(self) -> None:
        sender = self._sender_factory()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await sender.start()
        except BaseException as error:
            await sender.stop()
            if not isinstance(error, Exception):
                raise
            self._log_away.warning("usage cannot be sent now, it is kept and tried on: %r", error)
            await self._pauses.pause()
        else:
            self._sender, self._broken = sender, False
            self._packs_left = PACKS_PER_CONNECTION_MAX

    async def _disconnect(self) -> None:
        """Begin anew with another connection, once nothing is under way on this one."""
        if self._sends:
            await asyncio.wait(self._sends)
            return
        sender, self._sender = self._sender, None
        if sender is not None:
            await sender.stop()
        if self._broken:
            await self._pauses.pause()

    # -- taking and packing

    def _take(self) -> bool:
        """Move some of the queue into packs; whether there was any, and room for it."""
        assert self._sender is not None
        partitions = self._sender.partitions
        if partitions == 0:
            self._broken = True
            return False
        if self._packer.closed >= self._in_flight_max:
            return False
        taken = 0
        if not self._stamped:
            items = self._pop_chunk()
            taken = len(items)
            self._taken += taken
            self._stamped.extend(self._stamper.stamp(items, partitions, self._refuse))
        packed = self._pack()
        self._update_room()
        self._advance_flushes()
        return taken > 0 or packed

    def _pop_chunk(self) -> list[Item]:
        take = self.queue.popleft  # nobody else takes from it
        return [take() for _ in range(min(len(self.queue), CHUNK_RECORDS_MAX))]

    def _refuse(self, item: Item, error: Exception) -> None:
        self._count(invalid=1)
        record_id = getattr(item.record, "id", None) or item.fields.get("id")
        self.watchers.tell(lambda watcher: watcher.invalid(record_id))
        self._log_invalid.warning("a usage record is invalid and is not sent: %s", error)

    def _pack(self) -> bool:
        """Put what is stamped into packs, as far as they have room; whether there was any."""
        stamped, packer = self._stamped, self._packer
        now_s = asyncio.get_running_loop().time()
        packed = False
        while stamped and packer.closed < self._in_flight_max:
            bundle = stamped.popleft()
            if packer.takes(bundle):
                packer.add(bundle, now_s)
                packed = True
            else:
                stamped.extendleft(reversed(bundle.halves()))
        return packed

    # -- sending

    def _send_due(self) -> None:
        if self._broken:
            return
        now_s = asyncio.get_running_loop().time()
        born_before_s = now_s if self._flushes else now_s - self._linger_s
        self._packer.close_due(born_before_s, self._in_flight_max)
        for lane, pack in self._packer.leave():
            self._packs_left -= 1
            task = asyncio.create_task(self._send(lane, pack))
            self._sends.add(task)
            task.add_done_callback(self._sends.discard)

    async def _send(self, lane: Lane, pack: Pack) -> None:
        assert self._sender is not None
        try:
            message = pack.message()
        except Exception as error:  # it would be so each time
            self._count(failed=len(pack))
            self._log_failed.warning("%d usage records cannot be encoded: %r", len(pack), error)
            self._end(lane)
            self._wake.set()
            return
        try:
            delivery = await self._sender.send(pack.partition, pack.key, message)
        except Exception as error:
            self._packer.put_back(lane)  # nothing has left
            self._broken = True
            self._log_away.warning("usage cannot be sent now, it is kept and tried on: %r", error)
        else:
            await self._settle(lane, pack, delivery)
        self._wake.set()

    async def _settle(self, lane: Lane, pack: Pack, delivery: Awaitable[int]) -> None:
        try:
            offset = await delivery
        except Exception as error:
            # Not sent again: it may have arrived. After a failure an idempotent producer's
            # sequence has a gap, and the broker refuses all that follows: begin anew.
            self._broken = True
            self._count(failed=len(pack))
            self._log_failed.warning("%d usage records failed to be sent: %r", len(pack), error)
            if self.watchers.all:
                records = self._records(pack)
                self.watchers.tell(lambda watcher: watcher.failed(records))
        else:
            self._pauses.reset()
            self._count(sent=len(pack))
            self._tell(pack, offset)
        self._end(lane)

    def _end(self, lane: Lane) -> None:
        """A lane's pack is settled; the next may leave."""
        self._packer.settle(lane)
        self._update_room()
        self._advance_flushes()

    def _tell(self, pack: Pack, offset: int) -> None:
        if self._on_delivered is None and not self.watchers.all:
            return
        records = self._records(pack)
        self.watchers.tell(lambda watcher: watcher.delivered(pack.partition, offset, records))
        if self._on_delivered is not None:
            try:
                self._on_delivered(Delivered(pack.partition, offset, records))
            except Exception:
                logger.exception("on_delivered failed")

    @staticmethod
    def _records(pack: Pack) -> tuple[UsageRecord, ...]:
        try:
            return tuple(pack.records())
        except Exception:  # its lane goes on all the same
            logger.exception("the records of a message cannot be told")
            return ()

    def _count(self, *, sent: int = 0, failed: int = 0, invalid: int = 0) -> None:
        old = self.settled
        self.settled = Settled(old.sent + sent, old.failed + failed, old.invalid + invalid)

    def _update_room(self) -> None:
        self.room = self._buffer_records_max - (self._taken - sum(self.settled))

    async def _rest(self) -> None:
        """Wait until there may be something to do."""
        self._wake.clear()
        timeout_s = None
        if self._packer.closed < self._in_flight_max:
            oldest_s = self._packer.oldest_filling_s
            if oldest_s is None:
                self.asleep = True
                if self.queue:  # it came just before we said so
                    self.asleep = False
                    return
            else:
                timeout_s = max(oldest_s + self._linger_s - asyncio.get_running_loop().time(), 0.0)
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            pass
        self.asleep = False

    # -- flushing and closing

    async def flush(self) -> None:
        """Return when all that was emitted before is delivered or failed for good."""
        flush = _Flush(self._taken + len(self.queue))
        self._flushes.append(flush)
        self._advance_flushes()
        self._wake.set()
        try:
            await flush.done
        finally:
            self._flushes.remove(flush)

    def _advance_flushes(self) -> None:
        for flush in self._flushes:
            if flush.last_number is None and self._taken >= flush.target and not self._stamped:
                flush.last_number = self._packer.last_number
            if (
                flush.last_number is not None
                and self._packer.first_number > flush.last_number
                and not flush.done.done()
            ):
                flush.done.set_result(None)

    async def give_up(self) -> None:
        """Stop the connection; what is still here has failed."""
        for task in tuple(self._sends):
            await cancelled(task)
        if self._sender is not None:
            await self._sender.stop()
            self._sender = None
        left = self._taken - sum(self.settled)
        while self.queue:
            self.queue.popleft()
            self._taken += 1
            left += 1
        if left:
            self._count(failed=left)
            logger.warning("%d usage records were not sent before the emitter was closed", left)
        self.watchers.tell(lambda watcher: watcher.ended())
