"""The decisions topic in memory: compacted, so that it holds the last message of each key."""

from __future__ import annotations

from outlay.reading import Message


class MemoryTopic:
    """Partitions of messages with growing offsets."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._ends = [0] * partitions
        self._logs: list[dict[bytes, Message]] = [{} for _ in range(partitions)]

    def append(self, partition: int, key: bytes, value: bytes | None) -> Message:
        """Put a message at a partition's end; one without a value takes its key away."""
        message = Message(partition, self._ends[partition], key, value)
        self._ends[partition] += 1
        log = self._logs[partition]
        log.pop(key, None)  # so that the order stays that of the offsets
        if value is not None:
            log[key] = message
        return message

    def messages(self) -> list[Message]:
        """All that it holds now, in order by partition."""
        return [message for log in self._logs for message in log.values()]
