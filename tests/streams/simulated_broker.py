"""A broker in memory: partition logs, transactions with fencing and markers, compaction.

It does what Kafka does where the design depends on it: a marker takes an offset that nobody is
given, readers of uncommitted data see aborted records and readers of committed data do not, and
compaction keeps the last record of a key that was not aborted.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

TopicPartition = tuple[str, int]


class FencedWrite(Exception):
    """The writer's epoch is not the newest of its transactional id."""


@dataclass(eq=False)
class Txn:
    status: str = "open"
    touched: list[TopicPartition] = field(default_factory=list)


@dataclass(eq=False)
class Record:
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    txn: Txn | None = None


class SimulatedBroker:
    """Logs by (topic, partition); a place that is None holds a marker, or was compacted away."""

    def __init__(self) -> None:
        self.logs: dict[TopicPartition, list[Record | None]] = defaultdict(list)
        self.committed: dict[TopicPartition, int] = {}
        self._epochs: dict[str, int] = defaultdict(int)
        self._open: dict[str, Txn] = {}

    # -- writing

    def init(self, transactional_id: str) -> int:
        """Fence: abort what the last writer left open, and return the new epoch."""
        if transactional_id in self._open:
            self._end(transactional_id, "aborted")
        self._epochs[transactional_id] += 1
        return self._epochs[transactional_id]

    def append(
        self,
        at: TopicPartition,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        transactional_id: str | None = None,
        epoch: int = 0,
    ) -> Record:
        txn = None
        if transactional_id is not None:
            self._check(transactional_id, epoch)
            txn = self._open.setdefault(transactional_id, Txn())
            if at not in txn.touched:
                txn.touched.append(at)
        record = Record(len(self.logs[at]), key, value, timestamp, txn)
        self.logs[at].append(record)
        return record

    def commit(
        self, offsets: dict[TopicPartition, int], transactional_id: str | None, epoch: int
    ) -> None:
        if transactional_id is not None:
            self._check(transactional_id, epoch)
            if transactional_id in self._open:
                self._end(transactional_id, "committed")
        self.committed.update(offsets)

    def is_fenced(self, transactional_id: str, epoch: int) -> bool:
        """Whether a later writer of the same id has begun."""
        return self._epochs[transactional_id] != epoch

    def _check(self, transactional_id: str, epoch: int) -> None:
        if self.is_fenced(transactional_id, epoch):
            raise FencedWrite

    def _end(self, transactional_id: str, status: str) -> None:
        txn = self._open.pop(transactional_id)
        txn.status = status
        for at in txn.touched:
            self.logs[at].append(None)

    # -- reading

    def end(self, at: TopicPartition) -> int:
        return len(self.logs[at])

    def read(self, at: TopicPartition, start: int, end: int) -> list[Record]:
        return [record for record in self.logs[at][start:end] if record is not None]

    def read_committed(self, at: TopicPartition, start: int, end: int) -> list[Record]:
        """Without what transactions wrote that were aborted, or are open."""
        return [
            record
            for record in self.read(at, start, end)
            if record.txn is None or record.txn.status == "committed"
        ]

    def compact(self, at: TopicPartition, up_to: int) -> None:
        """What the log cleaner may do below an offset; the open transactions bound it."""
        log = self.logs[at]
        stable = next(
            (r.offset for r in log if r is not None and r.txn and r.txn.status == "open"), len(log)
        )
        up_to = min(up_to, stable)
        kept: dict[bytes | None, int] = {}
        for record in self.read(at, 0, up_to):
            if record.txn is None or record.txn.status != "aborted":
                kept[record.key] = record.offset
        for record in self.read(at, 0, up_to):
            if kept.get(record.key) != record.offset:
                log[record.offset] = None
