"""Packing: which records travel in one message. Pure: no clock, no broker.

Records come in bundles, each of one usage partition, and are put into packs in the order in which
they come. Each partition is a lane of its own: its packs leave one after the other, so that an
agent's records keep their order whatever is sent again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from outlay.framing import FRAME_RECORDS_MIN, HEADER_BYTES_MAX, frame_part, join_parts
from outlay.topics import usage_key
from outlay.usage import UsageRecord, decode_records, encode_usage

_BRACKETS_BYTES = 2
_COMMA_BYTES = 1


class Bundle:
    """Records of one partition, in order, ready to travel: by columns, or as JSON.

    What belongs together is made ready in one go: that takes half as long as one by one, and as
    later. `frames` says whether it may be by columns, and `message` is what `encode_usage` makes of
    the records, where somebody has it already. `size_bytes` is what the larger of both takes.

    Raises any `Exception` where records cannot be encoded.
    """

    __slots__ = ("_message", "part", "partition", "records", "size_bytes")

    def __init__(
        self,
        partition: int,
        records: list[UsageRecord],
        *,
        frames: bool,
        message: bytes | None = None,
    ) -> None:
        self.partition = partition
        self.records = records
        self.part = frame_part(records) if frames else None
        self._message = message
        self.size_bytes = 0 if self.part is None else self.part.size_bytes
        if self.part is None or len(records) < FRAME_RECORDS_MIN:
            self.size_bytes = max(self.size_bytes, len(self.json) + _COMMA_BYTES)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def json(self) -> bytes | memoryview:
        """The records one after the other, between commas; made when it is asked for."""
        if self._message is None:
            self._message = encode_usage(self.records)
        return self._message if len(self.records) == 1 else memoryview(self._message)[1:-1]

    def halves(self) -> list[Bundle]:
        """The same in two bundles."""
        middle = len(self.records) // 2
        parts = self.records[:middle], self.records[middle:]
        return [Bundle(self.partition, p, frames=self.part is not None) for p in parts]


class Pack:
    """Records that travel together to one partition, in order.

    They go as a frame when all of them may and they are many. `size_bytes` is what their message
    takes at most.
    """

    __slots__ = ("_bundles", "_count", "_message", "born_s", "number", "partition", "size_bytes")

    def __init__(self, number: int, first: Bundle, born_s: float) -> None:
        self.number = number
        self.partition = first.partition
        self.born_s = born_s
        self.size_bytes = HEADER_BYTES_MAX if first.part is not None else _BRACKETS_BYTES
        self._bundles: list[Bundle] = []
        self._count = 0
        self._message: bytes | None = None

    def __len__(self) -> int:
        return self._count

    def takes(self, bundle: Bundle, records_max: int, bytes_max: int) -> bool:
        """Whether it has room for a bundle, and travels in the same way."""
        return (
            self._count + len(bundle) <= records_max
            and self.size_bytes + bundle.size_bytes <= bytes_max
            and (self._bundles[0].part is None) == (bundle.part is None)
        )

    def add(self, bundle: Bundle) -> None:
        """Put a bundle at its end."""
        self._bundles.append(bundle)
        self._count += len(bundle)
        self.size_bytes += bundle.size_bytes

    @property
    def key(self) -> bytes | None:
        """The message's key; several records go keyless: they may be of several agents."""
        if self._count > 1:
            return None
        first = self._bundles[0].records[0]
        return usage_key(first.organization_id, first.agent_id)

    def message(self) -> bytes:
        """An object for one record, an array for several, and a frame for many; made once."""
        if self._message is None:
            parts = [bundle.part for bundle in self._bundles if bundle.part is not None]
            if self._count >= FRAME_RECORDS_MIN and len(parts) == len(self._bundles):
                self._message = join_parts(parts)
            else:
                self._message = self._json()
        return self._message

    def records(self) -> list[UsageRecord]:
        """What whoever reads the message has."""
        return decode_records(self._json())

    def _json(self) -> bytes:
        joined = b",".join([bundle.json for bundle in self._bundles])
        return joined if self._count == 1 else b"[%b]" % joined


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

    def __init__(self, records_max: int, bytes_max: int) -> None:
        self.lanes: dict[int, Lane] = {}
        self.closed = 0
        self.last_number = 0
        self._records_max = records_max
        self._bytes_max = bytes_max

    def takes(self, bundle: Bundle) -> bool:
        """Whether a pack has room for a bundle; a record by itself always has."""
        count = len(bundle)
        size_bytes = HEADER_BYTES_MAX + bundle.size_bytes
        return count == 1 or (count <= self._records_max and size_bytes <= self._bytes_max)

    def add(self, bundle: Bundle, now_s: float) -> None:
        """Put a bundle that a pack takes into its partition's; `now_s` is when a new one is born.

        It closes at most two packs: the one that has no room for it, and the one that it fills.
        """
        lane = self.lanes.get(bundle.partition)
        if lane is None:
            lane = self.lanes[bundle.partition] = Lane()
        pack = lane.filling
        if pack is not None and not pack.takes(bundle, self._records_max, self._bytes_max):
            self.close(lane)
            pack = None
        if pack is None:
            self.last_number += 1
            pack = lane.filling = Pack(self.last_number, bundle, now_s)
        pack.add(bundle)
        if len(pack) >= self._records_max:
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
