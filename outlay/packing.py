"""Packing: which records travel in one message. Pure: no clock, no broker.

Records come in bundles, each of one usage partition, and are put into packs in the order in which
they come. Each partition is a lane of its own: its packs leave one after the other, so that an
agent's records keep their order whatever is sent again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from outlay.framing import FRAME_RECORDS_MIN, encode_frame
from outlay.topics import usage_key
from outlay.usage import UsageRecord, decode_records, encode_usage

_BRACKETS_BYTES = 2
_COMMA_BYTES = 1


class Bundle:
    """Records of one partition, in order, with their JSON: one after the other, between commas.

    `message` is what `encode_usage` makes of them. What belongs together is encoded in one go:
    that takes half as long as one by one.
    """

    __slots__ = ("json", "partition", "records")

    def __init__(self, partition: int, records: list[UsageRecord], message: bytes) -> None:
        self.partition = partition
        self.records = records
        self.json = message if len(records) == 1 else memoryview(message)[1:-1]

    def __len__(self) -> int:
        return len(self.records)

    def halves(self) -> list[Bundle]:
        """The same in two bundles."""
        middle = len(self.records) // 2
        parts = self.records[:middle], self.records[middle:]
        return [Bundle(self.partition, part, encode_usage(part)) for part in parts]


class Pack:
    """Records that travel together to one partition, in order.

    `size_bytes` is how large they are as JSON; a frame that is larger than that is not sent.
    """

    __slots__ = (
        "_frames", "_message", "_parts", "_records", "born_s", "number", "partition", "size_bytes",
    )  # fmt: skip

    def __init__(self, number: int, partition: int, born_s: float, *, frames: bool) -> None:
        self.number = number
        self.partition = partition
        self.born_s = born_s
        self.size_bytes = _BRACKETS_BYTES
        self._parts: list[bytes | memoryview] = []
        self._records: list[UsageRecord] = []
        self._frames = frames
        self._message: bytes | None = None

    def __len__(self) -> int:
        return len(self._records)

    def add(self, bundle: Bundle) -> None:
        """Put a bundle at its end."""
        self._parts.append(bundle.json)
        self._records += bundle.records
        self.size_bytes += len(bundle.json) + _COMMA_BYTES

    @property
    def key(self) -> bytes | None:
        """The message's key; several records go keyless: they may be of several agents."""
        if len(self._records) > 1:
            return None
        return usage_key(self._records[0].organization_id, self._records[0].agent_id)

    def message(self) -> bytes:
        """An object for one record, an array for several, and a frame for many; made once."""
        if self._message is None:
            frame = None
            if self._frames and len(self._records) >= FRAME_RECORDS_MIN:
                frame = encode_frame(self._records)
            if frame is None or len(frame) > self.size_bytes:
                frame = self._json()
            self._message = frame
        return self._message

    def records(self) -> list[UsageRecord]:
        """What whoever reads the message has."""
        return decode_records(self._json())

    def _json(self) -> bytes:
        joined = b",".join(self._parts)
        return joined if len(self._records) == 1 else b"[%b]" % joined


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

    def __init__(self, records_max: int, bytes_max: int, *, frames: bool) -> None:
        self.lanes: dict[int, Lane] = {}
        self.closed = 0
        self.last_number = 0
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._frames = frames

    def takes(self, bundle: Bundle) -> bool:
        """Whether a pack has room for a bundle; a record by itself always has."""
        count = len(bundle)
        size_bytes = _BRACKETS_BYTES + len(bundle.json) + _COMMA_BYTES
        return count == 1 or (count <= self._records_max and size_bytes <= self._bytes_max)

    def add(self, bundle: Bundle, now_s: float) -> None:
        """Put a bundle that a pack takes into its partition's; `now_s` is when a new one is born.

        It closes at most two packs: the one that has no room for it, and the one that it fills.
        """
        lane = self.lanes.get(bundle.partition)
        if lane is None:
            lane = self.lanes[bundle.partition] = Lane()
        pack = lane.filling
        if pack is not None and (
            len(pack) + len(bundle) > self._records_max
            or pack.size_bytes + len(bundle.json) + _COMMA_BYTES > self._bytes_max
        ):
            self.close(lane)
            pack = None
        if pack is None:
            self.last_number += 1
            pack = Pack(self.last_number, bundle.partition, now_s, frames=self._frames)
            lane.filling = pack
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
