"""Packing: which records travel in one message. Pure: no clock, no broker.

Records of one usage partition are put into packs in the order in which they come. Each partition
is a lane of its own: its packs leave one after the other, so that an agent's records keep their
order whatever is sent again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from outlay.topics import usage_key, usage_partition
from outlay.usage import UsageRecord

_BRACKETS_BYTES = 2
_COMMA_BYTES = 1


class Pack:
    """Records that travel together to one partition, as JSON each, in order."""

    __slots__ = ("born_s", "key", "number", "partition", "parts", "records", "size_bytes")

    def __init__(self, number: int, partition: int, born_s: float) -> None:
        self.number = number
        self.partition = partition
        self.born_s = born_s
        self.key: bytes | None = None
        self.parts: list[bytes] = []
        self.records: list[UsageRecord] = []
        self.size_bytes = _BRACKETS_BYTES

    def __len__(self) -> int:
        return len(self.parts)

    def value(self) -> bytes:
        """The message: an object for one record, an array for several."""
        return self.parts[0] if len(self.parts) == 1 else b"[" + b",".join(self.parts) + b"]"


class Lane:
    """The packs of one partition: one that leaves, those that wait, and the one being filled."""

    __slots__ = ("filling", "leaving", "waiting")

    def __init__(self) -> None:
        self.leaving: Pack | None = None
        self.waiting: deque[Pack] = deque()
        self.filling: Pack | None = None

    def __iter__(self) -> Iterator[Pack]:
        """Every pack of the lane, oldest first."""
        if self.leaving is not None:
            yield self.leaving
        yield from self.waiting
        if self.filling is not None:
            yield self.filling


class Packer:
    """Sorts records into the packs of their partitions.

    `closed` counts the packs that take no more records and are not settled; whoever fills asks it,
    so that their number stays in its bound.
    """

    def __init__(self, records_max: int, bytes_max: int, *, keep_records: bool = False) -> None:
        self.lanes: dict[int, Lane] = {}
        self.closed = 0
        self.last_number = 0
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._keep_records = keep_records

    def add(self, record: UsageRecord, part: bytes, partitions: int, now_s: float) -> None:
        """Put a record, given also as JSON, into its partition's pack.

        `partitions` is how many the topic has; `now_s` is when a new pack is born.
        """
        partition = usage_partition(record.organization_id, record.agent_id, partitions)
        lane = self.lanes.get(partition)
        if lane is None:
            lane = self.lanes[partition] = Lane()
        pack = lane.filling
        if pack is not None and pack.size_bytes + len(part) + _COMMA_BYTES > self._bytes_max:
            self.close(lane)
            pack = None
        if pack is None:
            self.last_number += 1
            pack = lane.filling = Pack(self.last_number, partition, now_s)
            pack.key = usage_key(record.organization_id, record.agent_id)
        else:
            pack.key = None  # several records go keyless: they may be of several agents
        pack.parts.append(part)
        pack.size_bytes += len(part) + _COMMA_BYTES
        if self._keep_records:
            pack.records.append(record)
        if len(pack.parts) >= self._records_max:
            self.close(lane)

    def close(self, lane: Lane) -> None:
        """End the filling of a lane's pack, if there is one; it waits now."""
        if lane.filling is not None:
            lane.waiting.append(lane.filling)
            lane.filling = None
            self.closed += 1

    def close_due(self, born_before_s: float, closed_max: int) -> None:
        """End the filling of every pack born at or before a time whose lane is free."""
        for lane in self.lanes.values():
            if self.closed >= closed_max:
                return
            pack = lane.filling
            if pack is None or lane.leaving is not None or lane.waiting:
                continue  # while another leaves, it goes on filling
            if pack.born_s <= born_before_s:
                self.close(lane)

    def leave(self) -> Iterator[tuple[Lane, Pack]]:
        """The packs whose turn it is: for each free lane the one that waits longest."""
        for lane in self.lanes.values():
            if lane.leaving is None and lane.waiting:
                lane.leaving = lane.waiting.popleft()
                yield lane, lane.leaving

    def put_back(self, lane: Lane) -> None:
        """The leaving pack has not left after all: it is the next again."""
        if lane.leaving is not None:
            lane.waiting.appendleft(lane.leaving)
            lane.leaving = None

    def settle(self, lane: Lane) -> None:
        """The leaving pack is delivered, or has failed for good."""
        lane.leaving = None
        self.closed -= 1

    @property
    def oldest_filling_s(self) -> float | None:
        """When the oldest pack that is being filled in a free lane was born."""
        return min(
            (
                lane.filling.born_s
                for lane in self.lanes.values()
                if lane.filling is not None and lane.leaving is None and not lane.waiting
            ),
            default=None,
        )

    @property
    def first_number(self) -> int:
        """The number of the oldest pack that is not settled; one above all where none is."""
        firsts = (next(iter(lane), None) for lane in self.lanes.values())
        numbers = (pack.number for pack in firsts if pack is not None)
        return min(numbers, default=self.last_number + 1)
