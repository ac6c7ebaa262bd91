"""In flight: the records that were taken over and are not acknowledged, and how they get on."""

from __future__ import annotations

import time

from api.shares import Shares
from api.tickets import Ticket


class InFlight:
    """Room for records and for their bytes, which organizations share, and what is in it.

    `problem` is what the attempt to send that failed last was told, until one works.
    """

    def __init__(self, records_max: int, bytes_max: int) -> None:
        self._records = Shares(records_max)
        self._bytes = Shares(bytes_max)
        self._moved_s = 0.0  # when the broker took something last, or had nothing to take
        self.requests = 0
        self.problem = ""

    @property
    def records(self) -> int:
        """How many records there are."""
        return self._records.total

    @property
    def size_bytes(self) -> int:
        """How many bytes of JSON they are."""
        return self._bytes.total

    @property
    def waits_s(self) -> float:
        """For how long the broker has taken nothing though there is something, in seconds."""
        return time.monotonic() - self._moved_s if self.requests else 0.0

    def fits(self, ticket: Ticket) -> bool:
        """Whether there is room for it, and its owner has not more of that than others left."""
        owner = ticket.owner
        return self._records.fits(ticket.count, owner) and self._bytes.fits(
            ticket.size_bytes, owner
        )

    def take(self, ticket: Ticket) -> None:
        """It comes in."""
        if not self.requests:
            self.moved()
        self.requests += 1
        self._records.take(ticket.count, ticket.owner)
        self._bytes.take(ticket.size_bytes, ticket.owner)

    def give_back(self, ticket: Ticket) -> None:
        """It has come to an end."""
        self.requests -= 1
        self._records.give_back(ticket.count, ticket.owner)
        self._bytes.give_back(ticket.size_bytes, ticket.owner)

    def moved(self) -> None:
        """The broker has taken something."""
        self._moved_s = time.monotonic()
