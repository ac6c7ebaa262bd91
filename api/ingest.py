"""Ingest: records of requests go to the usage topic, and what is known of them comes back.

Each partition is a lane with one message under way at a time; what comes meanwhile waits and
travels together in the next one. So, while the broker is away, at most one message a partition is
with the producer. All else has not left, and is taken back when nobody waits for it any more:
nothing is sent behind the back of a client that was told "not sent".

What the producer has, it keeps: an idempotent one sends it again until the broker has it, and never
twice. Its outcome may be known later than a request may wait. A message whose delivery fails is not
sent again by us: it may have arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Sequence

from api.in_flight import InFlight
from api.shares import Owner
from api.tickets import Lane, Part, State, Ticket, packed
from api.usage_records import Judged
from outlay.background import cancelled
from outlay.connecting import START_TIMEOUT_S, Pauses
from outlay.counting import QuietLog
from outlay.delivery import PACKS_PER_CONNECTION_MAX
from outlay.sending import Sender, SenderFactory

RECORDS_IN_FLIGHT_MAX = 100_000
"""How many records one process holds that the broker has not acknowledged.

They are divided as `Shares` are: one organization alone has up to a half of them.
"""

BYTES_IN_FLIGHT_MAX = 67_108_864
"""How many bytes of JSON these may be; divided likewise."""

CLOSE_TIMEOUT_S = 5.0
"""How long closing waits for what the producer has, in seconds."""

logger = logging.getLogger("outlay.api.ingest")


class IngestBusy(Exception):
    """There is no room for more records of their owner now; nothing of these was taken."""


class UsageIngest:
    """Sends records of requests, on one event loop; connects when the first come."""

    def __init__(
        self,
        sender_factory: SenderFactory,
        *,
        records_max: int = RECORDS_IN_FLIGHT_MAX,
        bytes_max: int = BYTES_IN_FLIGHT_MAX,
    ) -> None:
        self._sender_factory = sender_factory
        self.held = InFlight(records_max, bytes_max)
        self._close_timeout_s = CLOSE_TIMEOUT_S
        self._sender: Sender | None = None
        self._connection: asyncio.Task[None] | None = None
        self._renew = asyncio.Event()  # the connection is to be made anew: nothing more leaves
        self._pauses = Pauses()
        self._arrived: dict[Ticket, None] = {}  # not in lanes yet: there is no connection
        self._lanes: dict[int, Lane] = {}
        self._open: dict[Ticket, None] = {}
        self._sends: set[asyncio.Task[None]] = set()
        self._packs_left = PACKS_PER_CONNECTION_MAX
        self._closing = False
        self._log_away = QuietLog(logger)
        self._log_failed = QuietLog(logger)

    @property
    def in_flight(self) -> int:
        """How many records are held that the broker has not acknowledged."""
        return self.held.records

    def submit(self, records: Sequence[Judged], owner: Owner = None) -> Ticket:
        """Take records over, to be sent as soon as may be; `settled` waits for them.

        Raises:
            IngestBusy: there is no room for more of their owner, or it is closing.
        """
        ticket = Ticket(records, owner)
        if not records:
            ticket.end("delivered")
            return ticket
        if self._closing or not self.held.fits(ticket):
            raise IngestBusy
        self.held.take(ticket)
        self._open[ticket] = self._arrived[ticket] = None
        if self._connection is None:
            self._connection = asyncio.create_task(self._stay_connected())
        elif self._sender is not None:
            self._sort(ticket)
        return ticket

    async def settled(self, ticket: Ticket, timeout_s: float) -> State:
        """Wait until the outcome is known, or the time is over; several may wait for one ticket.

        When the last one gives up and nothing has left yet, it is withdrawn: nothing will.
        """
        ticket.waiters += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await ticket.ended.wait()
        finally:
            ticket.waiters -= 1
            self._withdraw_unless_needed(ticket)
        return ticket.state

    async def aclose(self) -> None:
        """Take back what has not left, wait for what has within the bound, and disconnect."""
        self._closing = True
        for ticket in list(self._open):
            if not ticket.left:
                self._end(ticket, "withdrawn")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._close_timeout_s):
                while self._sends:  # a ticket of which a part has left sends its others, too
                    await asyncio.wait(self._sends)
        for task in tuple(self._sends):
            await cancelled(task)
        for ticket in list(self._open):
            self._end(ticket, "unknown")
        if self._connection is not None:
            await cancelled(self._connection)
        if self._sender is not None:
            await self._sender.stop()

    # -- the connection

    async def _stay_connected(self) -> None:
        while True:
            try:
                await self._connect()
                await self._renew.wait()
                await self._disconnect()
            except Exception as error:
                self._failed(error)
            await self._pauses.pause()

    def _failed(self, error: Exception) -> None:
        self.held.problem = str(error) or repr(error)
        self._log_away.warning("usage of requests cannot be sent now: %r", error)

    async def _connect(self) -> None:
        sender = self._sender_factory()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await sender.start()
        except BaseException:
            await sender.stop()
            raise
        self._sender, self.held.problem = sender, ""
        self._renew.clear()
        self._packs_left = PACKS_PER_CONNECTION_MAX
        for ticket in list(self._arrived):
            self._sort(ticket)
        for lane in self._lanes.values():
            self._leave(lane)

    async def _disconnect(self) -> None:
        """Once nothing is under way: what the producer has, it must bring to an end."""
        while self._sends:
            await asyncio.wait(self._sends)
        assert self._sender is not None
        sender, self._sender = self._sender, None
        await sender.stop()

    # -- lanes

    def _sort(self, ticket: Ticket) -> None:
        assert self._sender is not None
        partitions = self._sender.partitions
        if not partitions:  # the topic is gone
            self._renew.set()
            return
        del self._arrived[ticket]
        for part in ticket.divide(partitions):
            lane = self._lanes.setdefault(part.partition, Lane())
            lane.waiting[part] = None
            self._leave(lane)

    def _leave(self, lane: Lane) -> None:
        """Have the next message of a lane sent, if it is free."""
        if lane.leaving or not lane.waiting or self._sender is None or self._renew.is_set():
            return
        lane.leaving = True
        self._packs_left -= 1
        if self._packs_left <= 0:
            self._renew.set()
        task = asyncio.create_task(self._send(lane, self._sender))
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)

    async def _send(self, lane: Lane, sender: Sender) -> None:
        try:
            if parts := lane.take():
                await self._send_parts(lane, sender, parts)
        finally:
            lane.leaving = False
        self._leave(lane)

    async def _send_parts(self, lane: Lane, sender: Sender, parts: list[Part]) -> None:
        pack = packed(parts)
        for part in parts:
            part.ticket.left += 1
        try:
            delivery = await sender.send(pack.partition, pack.key, pack.message())
        except Exception as error:  # nothing has left
            self._renew.set()
            self._failed(error)
            lane.put_back(parts)
            for part in parts:
                part.ticket.left -= 1
                self._withdraw_unless_needed(part.ticket)
        else:
            await self._deliver(parts, delivery)

    async def _deliver(self, parts: list[Part], delivery: Awaitable[int]) -> None:
        arrived = False
        try:
            await delivery
            arrived = True
            self.held.moved()
            self._pauses.reset()
        except Exception as error:
            # An idempotent producer's sequence has a gap now, and the broker refuses what follows.
            self._renew.set()
            self._log_failed.warning("what became of usage of requests is not known: %r", error)
        for part in parts:
            state = part.ticket.settle(part, arrived)
            if state != "pending":
                self._end(part.ticket, state)

    # -- the ends

    def _withdraw_unless_needed(self, ticket: Ticket) -> None:
        if ticket.state == "pending" and not ticket.waiters and not ticket.left:
            self._end(ticket, "withdrawn")

    def _end(self, ticket: Ticket, state: State) -> None:
        del self._open[ticket]
        self._arrived.pop(ticket, None)
        self.held.give_back(ticket)
        for part in ticket.undelivered:
            self._lanes[part.partition].waiting.pop(part, None)
        ticket.end(state)
