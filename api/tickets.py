"""Tickets: the records of one request on their way, in parts by partition, and their outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from api.shares import Owner
from api.usage_records import Judged
from outlay.emitter import PACK_BYTES_MAX, PACK_RECORDS_MAX
from outlay.packing import Bundle, Pack
from outlay.topics import usage_partition

State = Literal["pending", "delivered", "unknown", "withdrawn"]
"""What is known of a ticket's records: nothing yet; the broker has them all; some may have arrived
or not, which nobody will find out; none was sent."""

_COMMA_BYTES = 1


class Part:
    """Records of a ticket that go to one partition in one message, and their indexes in it."""

    __slots__ = ("indexes", "partition", "records", "size_bytes", "ticket")

    def __init__(self, ticket: Ticket, partition: int) -> None:
        self.ticket = ticket
        self.partition = partition
        self.records: list[Judged] = []
        self.indexes: list[int] = []
        self.size_bytes = 0

    def bundle(self) -> Bundle:
        """The same for packing."""
        texts = [each.json for each in self.records]
        message = texts[0] if len(texts) == 1 else b"[%b]" % b",".join(texts)
        records = [each.record for each in self.records]
        return Bundle(self.partition, records, frames=False, message=message)


class Ticket:
    """The records of one request, until their outcome is known.

    `left` counts the parts that were handed to the producer, `pending` those without an outcome;
    `owner` is whose share of the room it takes.
    """

    __slots__ = (
        "_lost", "_records", "count", "ended", "left", "owner", "pending", "size_bytes", "state",
        "undelivered", "waiters",
    )  # fmt: skip

    def __init__(self, records: Sequence[Judged], owner: Owner = None) -> None:
        self._records: Sequence[Judged] = records
        self._lost = b""  # a bit for each record: what is remembered long is small
        self.owner = owner
        self.count = len(records)
        self.size_bytes = sum(len(each.json) + _COMMA_BYTES for each in records)
        self.state: State = "pending"
        self.ended = asyncio.Event()
        self.waiters = 0
        self.left = 0
        self.pending = 0
        self.undelivered: set[Part] = set()

    def divide(self, partitions: int) -> list[Part]:
        """Its parts, by the partitions of its agents, each small enough for one message."""
        parts: list[Part] = []
        filling: dict[int, Part] = {}
        for index, each in enumerate(self._records):
            record = each.record
            partition = usage_partition(record.organization_id, record.agent_id, partitions)
            part = filling.get(partition)
            size_bytes = len(each.json) + _COMMA_BYTES
            if (
                part is None
                or len(part.records) >= PACK_RECORDS_MAX
                or part.size_bytes + size_bytes > PACK_BYTES_MAX
            ):
                part = filling[partition] = Part(self, partition)
                parts.append(part)
            part.records.append(each)
            part.indexes.append(index)
            part.size_bytes += size_bytes
        self.undelivered = set(parts)
        self.pending = len(parts)
        return parts

    @property
    def unconfirmed(self) -> list[int]:
        """The indexes of the records that the broker has not acknowledged."""
        if self.state == "pending" and self.undelivered:
            return sorted(_indexes(self.undelivered))
        return _indexes_in(self._lost) if self.state != "pending" else list(range(self.count))

    def settle(self, part: Part, arrived: bool) -> State:
        """What is known now that the delivery of a part has ended."""
        if arrived:
            self.undelivered.discard(part)
        self.pending -= 1
        if self.pending:
            return "pending"
        return "unknown" if self.undelivered else "delivered"

    def end(self, state: State) -> None:
        """The outcome; what it held is let go of."""
        self._lost = _bits(_indexes(self.undelivered), self.count) if state == "unknown" else b""
        self.state = state
        self._records = ()
        self.undelivered = set()
        self.ended.set()


class Lane:
    """The parts for one partition that wait, oldest first, and whether a message is under way."""

    def __init__(self) -> None:
        self.waiting: dict[Part, None] = {}
        self.leaving = False

    def take(self) -> list[Part]:
        """The parts of the next message."""
        taken: list[Part] = []
        records = size_bytes = 0
        for part in self.waiting:
            records += len(part.records)
            size_bytes += part.size_bytes
            if taken and (records > PACK_RECORDS_MAX or size_bytes > PACK_BYTES_MAX):
                break
            taken.append(part)
        for part in taken:
            del self.waiting[part]
        return taken

    def put_back(self, parts: Sequence[Part]) -> None:
        """These have not left after all: they are the next again."""
        self.waiting = {**dict.fromkeys(parts), **self.waiting}


def packed(parts: Sequence[Part]) -> Pack:
    """One message of these parts, which are of one partition."""
    bundles = [part.bundle() for part in parts]
    pack = Pack(0, bundles[0], 0.0)
    for bundle in bundles:
        pack.add(bundle)
    return pack


def _bits(indexes: Iterable[int], count: int) -> bytes:
    bits = bytearray(-(-count // 8))
    for index in indexes:
        bits[index >> 3] |= 1 << (index & 7)
    return bytes(bits)


def _indexes_in(bits: bytes) -> list[int]:
    return [index for index in range(8 * len(bits)) if bits[index >> 3] >> (index & 7) & 1]


def _indexes(parts: set[Part]) -> Iterator[int]:
    for part in parts:
        yield from part.indexes
