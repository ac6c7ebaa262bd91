"""A flush: what one owned partition of a stage has to write, cut into transactions.

The order is invariant 3 of the design: outputs are published and acknowledged, then the changelog
is, then the offsets are committed. Whoever executes a flush (see `writer`) keeps that order inside
each transaction, and the transactions in theirs.

What is `told` is output that needs no fence: who lost the partition cannot say anything false with
it, only something that is known. It goes out first, without a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

TRANSACTION_MESSAGES_MAX = 50_000
"""How many messages one transaction may hold: a few seconds' writing, far from its timeout."""

TRANSACTION_BYTES_MAX = 16 * 1_048_576
"""The same in bytes, as blocks of entries are few and large; one unit may be larger."""

UNIT_MESSAGES_MAX = 1_000
"""How many messages are kept together where nothing says which belong together."""

Offsets = dict[tuple[str, int], int]
"""What is committed: the next offset to read, by (topic, partition)."""

Message = tuple[bytes | None, bytes | None]
"""A key and a value; a value of None is a tombstone."""


class Outgoing(NamedTuple):
    """Messages to write to one partition, in their order."""

    topic: str
    partition: int
    messages: Sequence[Message]


class Unit(NamedTuple):
    """Outputs, and the changelog messages that say that these were published: never apart."""

    outputs: Sequence[Outgoing] = ()
    changelog: Sequence[Outgoing] = ()
    told: Sequence[Outgoing] = ()

    @property
    def size(self) -> int:
        """How many messages it writes."""
        return _size(self.told) + _size(self.outputs) + _size(self.changelog)

    @property
    def size_bytes(self) -> int:
        """How long the values of these messages are, in bytes."""
        outgoing = chain(self.told, self.outputs, self.changelog)
        return sum(len(value or b"") for each in outgoing for _, value in each.messages)


@dataclass(slots=True, kw_only=True)
class Transaction:
    """One step of a flush, atomic but for what is told."""

    told: list[Outgoing] = field(default_factory=list)
    outputs: list[Outgoing] = field(default_factory=list)
    changelog: list[Outgoing] = field(default_factory=list)
    offsets: Offsets = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many messages it writes, beside what is told."""
        return _size(self.outputs) + _size(self.changelog)


@dataclass(frozen=True, slots=True)
class Flush:
    """The transactions of a flush in their order; the offsets are in the last one."""

    transactions: list[Transaction]

    @property
    def size(self) -> int:
        """How many messages it writes."""
        return sum(each.size + _size(each.told) for each in self.transactions)


def cut(units: Iterable[Unit], offsets: Offsets) -> Flush:
    """The flush that writes these units in order, and commits the offsets with the last of them."""
    transactions = list(_pack(units)) or [Transaction()]
    transactions[-1].offsets = offsets
    return Flush(transactions)


def apart(outgoing: Outgoing) -> Iterator[Outgoing]:
    """The same in pieces of `UNIT_MESSAGES_MAX`, for messages that need not stay together."""
    messages = outgoing.messages
    if 0 < len(messages) <= UNIT_MESSAGES_MAX:
        yield outgoing
        return
    for start in range(0, len(messages), UNIT_MESSAGES_MAX):
        yield outgoing._replace(messages=messages[start : start + UNIT_MESSAGES_MAX])


def _size(outgoing: Sequence[Outgoing]) -> int:
    return sum(len(each.messages) for each in outgoing)


def _pack(units: Iterable[Unit]) -> Iterator[Transaction]:
    current = Transaction()
    size = size_bytes = 0
    for unit in units:
        size += unit.size
        size_bytes += unit.size_bytes
        full = size > TRANSACTION_MESSAGES_MAX or size_bytes > TRANSACTION_BYTES_MAX
        if full and size > unit.size:  # else it is the first one
            yield current
            current, size, size_bytes = Transaction(), unit.size, unit.size_bytes
        current.told += unit.told
        current.outputs += unit.outputs
        current.changelog += unit.changelog
    if size:
        yield current
