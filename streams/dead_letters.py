"""Dead letters: what cannot be counted, with the reason, until a flush writes it."""

from __future__ import annotations

import base64
from typing import Any

from schemas.messages import DeadLetter
from streams.batch import SourceRecord
from streams.flush import Outgoing
from streams.messages import cut_reason, encode

DEAD_LETTER_RECORD_BYTES_MAX = 65_536
"""How much of a rejected message its dead letter keeps, in bytes."""

REJECTED_MAX = 10_000
"""How many dead letters may wait for a flush before the stage stops reading."""


class DeadLetters(list[DeadLetter]):
    """Those of one partition that wait for a flush, in their order."""

    def __init__(self, partition: int) -> None:
        super().__init__()
        self._partition = partition

    @property
    def is_full(self) -> bool:
        """Whether so many wait that reading should pause."""
        return len(self) >= REJECTED_MAX

    def reject(
        self,
        topic: str,
        message: SourceRecord,
        reason: str,
        shown: bytes | None,
        index: int | None = None,
    ) -> None:
        """Add one: of a message's value, or of one record in it, as it may be shown."""
        self.append(
            DeadLetter(
                cut_reason(reason), topic, self._partition, message.offset, message.timestamp,
                index, **_kept(shown or b""),
            )
        )  # fmt: skip

    def to(self, topic: str) -> list[Outgoing]:
        """The messages that carry them; their topic has one partition."""
        return [Outgoing(topic, 0, [(letter.key, encode(letter))]) for letter in self]


def _kept(shown: bytes) -> dict[str, Any]:
    """What a dead letter keeps of a record, by its fields."""
    kept = shown[:DEAD_LETTER_RECORD_BYTES_MAX]
    truncated = len(shown) > len(kept)
    try:
        # A cut may fall inside a character: what is left of it is not worth base64.
        text = kept.decode("utf-8", errors="ignore" if truncated else "strict")
    except UnicodeDecodeError:
        return {"record_base64": base64.b64encode(kept).decode(), "truncated": truncated}
    return {"record": text, "truncated": truncated}
