"""The broker in memory, with a worker behind it: whatever is due happens in the caller's thread."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

from outlay.decision import decode_request
from outlay.reading import Message
from outlay.testing.clock import SettableClock
from outlay.testing.memory_topic import MemoryTopic
from outlay.testing.memory_usage import MemoryUsage
from outlay.testing.memory_worker import MemoryWorker

REQUESTS_MAX = 10_000
"""How many budget requests may wait for a worker that stands still."""

ROUNDS_MAX = 1_000
"""How often in a row callbacks may make more to do, before it waits for the next call."""


class DeliveryFailed(Exception):
    """A message was handed over, and has not arrived."""


class Delivers(Protocol):
    """An emitter that may have something to deliver."""

    def deliver(self) -> None:
        """Deliver what is buffered; never raises."""


class Follows(Protocol):
    """A feed that reads the decisions topic."""

    def catch_up(self) -> None:
        """Read what the topic holds, unless that was done."""

    def take(self, message: Message) -> None:
        """Read one more message, if it has caught up before."""


class MemoryBroker:
    """What emitters, feeds and budget clients of one in-memory stream share.

    After each event somebody calls `work`, and that does all there is to do, in order: usage is
    delivered, counted, decided on and published. One thread at a time has the turn to do so. The
    flags say what is out of order; each takes effect with the next `work`.

    Attributes:
        away: nothing gets through.
        failing: what is delivered does not arrive.
        stalled: the worker stands still.
        lock: guards the parts' own data. It is held for a moment only, never while others are
            called.
    """

    def __init__(
        self,
        clock: SettableClock,
        *,
        usage_partitions: int,
        decisions_partitions: int,
        auto_publish: bool,
    ) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.away = self.failing = self.stalled = False
        self.usage = MemoryUsage(usage_partitions, holds=not auto_publish)
        self.decisions = MemoryTopic(decisions_partitions)
        self.emitters: tuple[Delivers, ...] = ()
        self.feeds: tuple[Follows, ...] = ()
        self._requests: deque[bytes] = deque()
        self._worker = MemoryWorker(usage_partitions, decisions_partitions)
        self._turn = threading.Lock()
        self._turn_of: int | None = None
        self._is_due = False
        clock.add_listener(self.work)

    def append_usage(self, partition: int, value: bytes) -> int:
        """Take a usage message in; its offset.

        Raises:
            DeliveryFailed: it has not arrived.
        """
        with self.lock:
            if self.failing or self.usage.is_full:
                raise DeliveryFailed("deliveries fail" if self.failing else "the topic is full")
            return self.usage.append(partition, value, int(self.clock.time() * 1000))

    def ask(self, request: bytes) -> None:
        """Take a budget request in, and carry it out as soon as the worker goes on.

        Raises:
            DeliveryFailed: it cannot be sent.
        """
        if self.away or len(self._requests) >= REQUESTS_MAX:
            raise DeliveryFailed("the broker is away" if self.away else "the topic is full")
        self._requests.append(request)
        self.work()

    def work(self) -> None:
        """Do what there is to do; it is done when this returns.

        Called by a callback it returns at once, and it is done when that has returned.
        """
        self._is_due = True
        if self._turn_of == threading.get_ident():
            return
        with self._turn:
            self._take_turn()
        self._work_on_rest()

    def work_unless_busy(self) -> None:
        """The same, but what is due is left to the thread that has the turn, if one has.

        An emitter must not wait for that one: it may be telling a gateway what was delivered,
        while the gateway is emitting.
        """
        self._is_due = True
        self._work_on_rest()

    def _work_on_rest(self) -> None:
        # Asked again after each turn: others may have left something to the thread that had it.
        while self._is_due and self._turn.acquire(blocking=False):
            try:
                self._take_turn()
            finally:
                self._turn.release()

    def _take_turn(self) -> None:
        self._turn_of = threading.get_ident()
        try:
            for _ in range(ROUNDS_MAX):
                if not self._is_due:
                    return
                self._is_due = False
                self._round()
            self._is_due = False
        finally:
            self._turn_of = None

    def _round(self) -> None:
        if self.away:
            return
        for emitter in self.emitters:
            emitter.deliver()
        if not self.stalled:
            self._decide_and_publish()
        for feed in self.feeds:
            feed.catch_up()

    def _decide_and_publish(self) -> None:
        """The worker's part."""
        with self.lock:
            arrived = self.usage.take_due()
        for message in arrived:
            self._worker.count(message)
        while self._requests:
            self._worker.decide(decode_request(self._requests.popleft()), self.clock.now)
        for publication in self._worker.publish(self.clock.now):
            published = self.decisions.append(*publication)
            for feed in self.feeds:
                feed.take(published)
