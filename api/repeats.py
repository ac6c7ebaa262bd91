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


class KeyReused(Exception):
    """A key came again with other records."""


@dataclass(slots=True)
class _Entry:
    fingerprint: bytes
    ticket: Ticket
    kept_s: float


class Repeats:
    """The requests that came with a key, by caller: one tenant's keys push out none of another's.

    Their number is bounded by that of the callers, which the operator makes.
    """

    def __init__(
        self,
        *,
        keys_max: int = KEYS_PER_CALLER_MAX,
        kept_s: float = KEY_KEPT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys_max = keys_max
        self._kept_s = kept_s
        self._monotonic = monotonic
        self._callers: dict[str, dict[bytes, _Entry]] = {}

    def find(self, caller: str, key: str, fingerprint: bytes) -> Ticket | None:
        """The ticket of the request that came with this key; None: it is new, or was not sent.

        Raises:
            KeyReused: that request held other records.
        """
        entry = self._callers.get(caller, {}).get(_digest(key))
        if entry is None or self._is_over(entry):
            return None
        if entry.fingerprint != fingerprint:
            raise KeyReused
        return entry.ticket

    def keep(self, caller: str, key: str, fingerprint: bytes, ticket: Ticket) -> None:
        """Remember a request that is being sent."""
        entries = self._callers.setdefault(caller, {})
        digest = _digest(key)
        entries.pop(digest, None)  # so that the oldest stand first
        entries[digest] = _Entry(fingerprint, ticket, self._monotonic())
        self._forget(entries)

    def _forget(self, entries: dict[bytes, _Entry]) -> None:
        """Let go of the oldest; what is still under way stays, and moves to the end."""
        for _ in range(len(entries)):
            digest, entry = next(iter(entries.items()))
            if len(entries) <= self._keys_max and not self._is_old(entry):
                return
            del entries[digest]
            if entry.ticket.state == "pending":
                entry.kept_s = self._monotonic()
                entries[digest] = entry

    def _is_over(self, entry: _Entry) -> bool:
        return entry.ticket.state != "pending" and self._is_old(entry)

    def _is_old(self, entry: _Entry) -> bool:
        return self._monotonic() - entry.kept_s > self._kept_s or entry.ticket.state == "withdrawn"


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()
