"""Repeats: a request that comes again with its key is answered as before, and not counted again.

What is remembered is here alone, and for a while. Within that, a repeated request is never sent a
second time: while its outcome is not known yet the repetition waits for it, and when nobody will
ever know it is told so again. What is *not* covered: a repetition that comes to another API
process, after a restart, after `KEY_KEPT_S`, or after so many other keys of the same caller that
this one was forgotten. It is then sent again, and counts again in the totals. Its records have the
same ids as before, so that the history has them once, unless a record without `occurred_at` comes
again on another day.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from api.tickets import Ticket

KEY_KEPT_S = 3_600.0
"""How long a key is remembered, in seconds."""

KEYS_PER_CALLER_MAX = 100_000
"""How many keys of one caller are remembered; beyond, its oldest is forgotten."""

REPEATS_BYTES_MAX = 268_435_456
"""How many bytes all of them may take, about; beyond, whoever has the most loses its oldest."""

ENTRY_BYTES = 1_536
"""How many bytes one takes, beside a bit for each of its records."""


class KeyReused(Exception):
    """A key came again with other records."""


@dataclass(slots=True)
class _Entry:
    fingerprint: bytes
    ticket: Ticket
    kept_s: float

    @property
    def size_bytes(self) -> int:
        return ENTRY_BYTES + self.ticket.count // 8


class _Kept:
    """What is kept of one caller, the oldest first."""

    def __init__(self) -> None:
        self.entries: dict[bytes, _Entry] = {}
        self.size_bytes = 0

    def add(self, digest: bytes, entry: _Entry) -> None:
        self.remove(digest)  # so that the oldest stand first
        self.entries[digest] = entry
        self.size_bytes += entry.size_bytes

    def remove(self, digest: bytes) -> None:
        entry = self.entries.pop(digest, None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes


class Repeats:
    """The requests that came with a key, by caller.

    One caller's keys push out another's only where all of them take too much memory together, and
    that other has more.
    """

    def __init__(
        self,
        *,
        keys_max: int = KEYS_PER_CALLER_MAX,
        bytes_max: int = REPEATS_BYTES_MAX,
        kept_s: float = KEY_KEPT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys_max = keys_max
        self._bytes_max = bytes_max
        self._kept_s = kept_s
        self._monotonic = monotonic
        self._callers: dict[str, _Kept] = {}

    @property
    def held_bytes(self) -> int:
        """How many bytes all that is remembered takes, about."""
        return sum(kept.size_bytes for kept in self._callers.values())

    def find(self, caller: str, key: str, fingerprint: bytes) -> Ticket | None:
        """The ticket of the request that came with this key; None: it is new, or was not sent.

        Raises:
            KeyReused: that request held other records.
        """
        kept = self._callers.get(caller)
        entry = None if kept is None else kept.entries.get(_digest(key))
        if entry is None or self._is_over(entry):
            return None
        if entry.fingerprint != fingerprint:
            raise KeyReused
        return entry.ticket

    def keep(self, caller: str, key: str, fingerprint: bytes, ticket: Ticket) -> None:
        """Remember a request that is being sent."""
        kept = self._callers.setdefault(caller, _Kept())
        kept.add(_digest(key), _Entry(fingerprint, ticket, self._monotonic()))
        self._forget(kept, self._keys_max)
        if self.held_bytes > self._bytes_max:
            self._make_room()

    def _make_room(self) -> None:
        """Let go of what is old, and then of the oldest of whoever has the most."""
        for caller, kept in list(self._callers.items()):
            self._forget(kept, self._keys_max)
            if not kept.entries:
                del self._callers[caller]
        most_first = sorted(self._callers.values(), key=lambda kept: -kept.size_bytes)
        for kept in most_first:  # the next one where all of the first is under way
            while self.held_bytes > self._bytes_max:
                before = kept.size_bytes
                self._forget(kept, len(kept.entries) - 1)
                if kept.size_bytes >= before:
                    break

    def _forget(self, kept: _Kept, keys_max: int) -> None:
        """Let go of the oldest; what is still under way stays, and moves to the end."""
        for _ in range(len(kept.entries)):
            digest, entry = next(iter(kept.entries.items()))
            if len(kept.entries) <= keys_max and not self._is_old(entry):
                return
            kept.remove(digest)
            if entry.ticket.state == "pending":
                entry.kept_s = self._monotonic()
                kept.add(digest, entry)

    def _is_over(self, entry: _Entry) -> bool:
        return entry.ticket.state != "pending" and self._is_old(entry)

    def _is_old(self, entry: _Entry) -> bool:
        return self._monotonic() - entry.kept_s > self._kept_s or entry.ticket.state == "withdrawn"


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()
