"""A flush: what one owned partition of a stage has to write, cut into transactions.

The order is invariant 3 of the design: outputs are published and acknowledged, then the changelog
is, then the offsets are committed. Whoever executes a flush (see `writer`) keeps that order inside
each transaction, and the transactions in theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

TRANSACTION_ENTRIES_MAX = 50_000
"""How many messages one transaction may hold: a few seconds' writing, far from its timeout."""

Offsets = dict[tuple[str, int], int]
"""What is committed: the next offset to read, by (topic, partition)."""


class Outgoing(NamedTuple):
    """One message to write; a value of None is a tombstone."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


class Unit(NamedTuple):
    """Outputs, and the changelog records that say that these were published: never apart."""

    outputs: list[Outgoing]
    changelog: list[Outgoing]


@dataclass(slots=True)
class Transaction:
    """One atomic step of a flush."""

    outputs: list[Outgoing] = field(default_factory=list)
    changelog: list[Outgoing] = field(default_factory=list)
    offsets: Offsets = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flush:
    """The transactions of a flush in their order; the offsets are in the last one."""

    transactions: list[Transaction]

    @property
    def size(self) -> int:
        """How many messages it writes."""
        return sum(len(t.outputs) + len(t.changelog) for t in self.transactions)


def cut(units: Iterable[Unit], offsets: Offsets) -> Flush:
    """The flush that writes these units in order, and commits the offsets with the last of them."""
    transactions = list(_pack(units)) or [Transaction()]
    transactions[-1].offsets = offsets
    return Flush(transactions)


def _pack(units: Iterable[Unit]) -> Iterator[Transaction]:
    current = Transaction()
    size = 0
    for unit in units:
        more = len(unit.outputs) + len(unit.changelog)
        if size and size + more > TRANSACTION_ENTRIES_MAX:
            yield current
            current, size = Transaction(), 0
        current.outputs += unit.outputs
        current.changelog += unit.changelog
        size += more
    if size:
        yield current
