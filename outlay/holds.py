"""Holds: what a gateway adds to the decisions, scope by scope, from what its own process knows."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import uuid_utils

from outlay.budget import Amounts
from outlay.errors import TooManyReservations
from outlay.feed import DecisionFeed
from outlay.held import UNSEEN, Held
from outlay.spend import GONE_S, Spend, spend_of
from outlay.topics import partition_of
from outlay.usage import UsageRecord

HELD_SCOPES_MAX = 100_000
"""How many scopes something is held for; beyond, only for scopes that have a budget."""

HELD_SPENDS_MAX = 400_000
"""From how many records on, counted in each of their scopes, those that have arrived are held
together: where nothing is contained for long, as while the workers are down."""

MERGED_FROM = 8
"""From how many records of a scope on that is done; it takes more than it gives for fewer."""

RESERVATIONS_MAX = 100_000
"""How many reservations may be open at once."""

SWEPT_PER_RECORD = 4
"""How many scopes are looked through for what is contained by now, for each delivered record."""

SWEPT_AT_ONCE = 64
"""How many scopes are looked through before others may have their turn."""

UNKNOWN_OFFSET_S = 10.0
"""How long a record is held at least that has arrived at an offset which the broker no longer knew;
then the next watermark ends it."""


class Hold:
    """What one reservation holds, and in which scopes."""

    __slots__ = ("amounts", "is_open", "scopes")

    def __init__(self, amounts: Amounts, scopes: list[Held]) -> None:
        self.amounts = amounts
        self.scopes = scopes
        self.is_open = True


class Holds:
    """All that a gateway holds. It is an `outlay.watching.SpendWatcher`; safe in any thread.

    What changes it takes `lock`. How a check reads without it is said at `Held`.
    """

    def __init__(self, feed: DecisionFeed) -> None:
        self.lock = threading.RLock()
        self.scopes: dict[str, Held] = {}
        self.next_expiry_s = float("inf")
        self.open_reservations = 0
        self.held_spends = 0
        self._feed = feed
        self._monotonic = feed.monotonic
        self._undelivered: dict[str, list[Spend]] = {}
        self._round: deque[str] = deque()  # every scope once, in the order to be looked through
        self._expiries: list[tuple[float, int, Hold]] = []
        self._numbers = itertools.count()
        _all.add(self)

    def compare(self, key: str, held: Held) -> None:
        """Let go of what decisions contain by now of one scope."""
        with self.lock:
            state = self._feed.state
            known = state.decisions.get(key)
            home = self._home(key, held, state.partitions) if known is None else known.partition
            watermark = state.watermarks.get(home)
            if held.known is not known or held.watermark is not watermark:
                self.held_spends -= held.size
                held.compare(known, watermark, self._monotonic())
                self.held_spends += held.size

    @staticmethod
    def _home(key: str, held: Held, partitions: int) -> int:
        """The partition of a scope's decisions; to find it takes a while."""
        partition, of = held.home
        if of != partitions:
            partition = partition_of(key.encode(), max(partitions, 1))
            held.home = partition, partitions
        return partition

    # -- reservations

    def reserve(self, keys: tuple[str, ...], amounts: Amounts, expires_s: float) -> Hold:
        """Hold what a call asks for, until it is let go or `expires_s` seconds have passed.

        Raises:
            TooManyReservations: there are `RESERVATIONS_MAX` open.
        """
        with self.lock:
            self.expire()
            until_s = self._monotonic() + expires_s
            if self.open_reservations >= RESERVATIONS_MAX:
                raise TooManyReservations(
                    f"{RESERVATIONS_MAX} reservations are open: settle or release them"
                )
            hold = Hold(amounts, [held for key in keys if (held := self._at(key)) is not None])
            for held in hold.scopes:
                held.reserved.add(amounts, 1)
            self.open_reservations += 1
            heapq.heappush(self._expiries, (until_s, next(self._numbers), hold))
            self.next_expiry_s = self._expiries[0][0]
            return hold

    def let_go(self, hold: Hold) -> bool:
        """Hold a reservation no more; False when that was so already."""
        with self.lock:
            if not hold.is_open:
                return False
            hold.is_open = False
            self.open_reservations -= 1
            for held in hold.scopes:
                held.reserved.add(hold.amounts, -1)
            if len(self._expiries) > 2 * self.open_reservations + SWEPT_AT_ONCE:
                self._expiries = [each for each in self._expiries if each[2].is_open]
                heapq.heapify(self._expiries)
            return True

    def expire(self) -> None:
        """Let go of the reservations whose time is over."""
        with self.lock:
            now_s = self._monotonic()
            while self._expiries and self._expiries[0][0] <= now_s:
                self.let_go(heapq.heappop(self._expiries)[2])
            self.next_expiry_s = self._expiries[0][0] if self._expiries else float("inf")

    # -- watching an emitter

    def emitted(self, record: UsageRecord | None, fields: dict[str, Any], at_s: float, /) -> None:
        """Hold a record from now on. What cannot be read is not held: it is found invalid later."""
        with contextlib.suppress(Exception):
            if record is None:
                record_id = fields.get("id")
                if record_id is None:
                    record_id = fields["id"] = str(uuid_utils.uuid7())
            else:
                record_id, fields = record.id, msgspec.structs.asdict(record)
            spend = spend_of(fields, at_s)
            scopes = self.scopes
            with self.lock:
                self._undelivered.setdefault(record_id, []).append(spend)
                for key in spend.keys:
                    held = scopes.get(key) or self._at(key)
                    if held is None:
                        spend.keys = tuple(each for each in spend.keys if each != key)
                        continue
                    before = len(held.spends)
                    held.add(spend)
                    self.held_spends += len(held.spends) - before

    def delivered(self, partition: int, offset: int, records: Sequence[UsageRecord], /) -> None:
        """Records have arrived: a decision that passes their offset contains them."""
        with self.lock:
            until_s = self._monotonic() + UNKNOWN_OFFSET_S if offset < 0 else float("inf")
            callers: dict[tuple[tuple[str, ...], int], Spend] = {}
            for spend in self._taken(record.id for record in records):
                spend.partition, spend.offset, spend.until_s = partition, offset, until_s
                callers[spend.keys, spend.day] = spend
            for spend in callers.values():
                self._look_again(spend)
        self._sweep(SWEPT_PER_RECORD * len(records))

    def _look_again(self, spend: Spend) -> None:
        """See to it that a decision which came before we knew where a record is lets go of it."""
        now_s = self._monotonic()
        for key in spend.keys:
            held = self.scopes.get(key)
            if held is not None and any(spend.contained(held.known, held.watermark, now_s)):
                held.watermark = UNSEEN

    def failed(self, records: Sequence[UsageRecord], /) -> None:
        """Records will not arrive: the totals go without them."""
        with self.lock:
            self._drop(self._taken(record.id for record in records))
        self._sweep(SWEPT_PER_RECORD * len(records))

    def invalid(self, record_id: object, /) -> None:
        """What was emitted under an id is no valid record."""
        with self.lock, contextlib.suppress(TypeError):
            self._drop(self._taken([record_id]))
        self._sweep(SWEPT_PER_RECORD)

    def ended(self) -> None:
        """What is not delivered by now will not be, or is not told of any more."""
        with self.lock:
            self._drop(self._taken(list(self._undelivered)))

    def _taken(self, record_ids: Iterable[Any]) -> list[Spend]:
        """The spends of records, which are undelivered no longer."""
        taken = []
        for record_id in record_ids:
            spends = self._undelivered.get(record_id)
            if spends is None:
                continue  # it was emitted before the gateway was there
            taken.append(spends.pop(0))
            if not spends:
                del self._undelivered[record_id]
        return taken

    def _drop(self, spends: list[Spend]) -> None:
        for spend in spends:
            spend.until_s = GONE_S
            for key in spend.keys:
                if (held := self.scopes.get(key)) is not None:
                    held.drop(spend)

    # -- the scopes

    def _at(self, key: str) -> Held | None:
        """What is held for a scope, made where there is nothing yet; None where nothing can be."""
        held = self.scopes.get(key)
        if held is None:
            if len(self.scopes) >= HELD_SCOPES_MAX and key not in self._feed.decisions:
                return None
            held = self.scopes[key] = Held()
            self._round.append(key)
        return held

    def _sweep(self, count: int) -> None:
        """Look through some scopes, in turn, for what is contained by now, asked about or not."""
        while count > 0:
            with self.lock:
                for _ in range(min(count, SWEPT_AT_ONCE, len(self._round))):
                    key = self._round.popleft()
                    held = self.scopes[key]
                    self.compare(key, held)
                    if self.held_spends > HELD_SPENDS_MAX and held.size >= MERGED_FROM:
                        self.held_spends -= held.size
                        held.merge(held.size // 4)
                        self.held_spends += held.size
                    if held.is_empty:
                        del self.scopes[key]
                    else:
                        self._round.append(key)
            count -= SWEPT_AT_ONCE

    def _renew_lock(self) -> None:
        self.lock = threading.RLock()


_all: weakref.WeakSet[Holds] = weakref.WeakSet()


def _renew_locks() -> None:
    """In a forked child: a thread that is not here may have held one."""
    for holds in _all:
        holds._renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
