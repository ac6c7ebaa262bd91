"""What the stages say to each other and to their changelogs: the bytes, and nothing else.

All is JSON, so that an operator can read it with any Kafka tool. Amounts are integers of
nano-dollars here, since no one outside reads these topics.

- A partials message is what one partition of the usage topic tells one partition of the totals.
- The changelogs of partials and totals hold blocks, each the entries of many scopes, under the key
  `MONTH PARTITION NUMBER` with the partition of the usage topic (see `streams.blocks`); `floor` and
  `progress` are keys of their own.
- What was told of a window's alerts stands under `SCOPE WINDOW`. No scope's key holds a space, ids
  being percent-encoded.
"""

from __future__ import annotations

import base64
from sys import intern

import msgspec

from schemas.messages import DeadLetter, PartialsMessage
from streams.batch import SourceRecord
from streams.flush import Outgoing

FLOOR_KEY = b"floor"
PROGRESS_KEY = b"progress"

DEAD_LETTER_RECORD_BYTES_MAX = 65_536
"""How much of a rejected message its dead letter keeps, in bytes."""

Key = tuple[str, str]
"""A scope's key and a window's name."""

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
decode_partials = msgspec.json.Decoder(PartialsMessage).decode
decode_offsets = msgspec.json.Decoder(dict[int, int]).decode
decode_int = msgspec.json.Decoder(int).decode


REASON_LENGTH_MAX = 500
"""How much is said about why something is rejected or refused, in characters.

A decoder's sentence quotes what it read, which may be as long as a message.
"""


def cut_reason(reason: str) -> str:
    return reason if len(reason) <= REASON_LENGTH_MAX else f"{reason[:REASON_LENGTH_MAX]}…"


def dead_letter(
    reason: str,
    value: bytes | None,
    *,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    index: int | None = None,
) -> DeadLetter:
    """The dead letter of a message's value, or of one record in it."""
    reason = cut_reason(reason)
    kept = (value or b"")[:DEAD_LETTER_RECORD_BYTES_MAX]
    truncated = len(value or b"") > len(kept)
    try:
        # A cut may fall inside a character: what is left of it is not worth base64.
        text = kept.decode("utf-8", errors="ignore" if truncated else "strict")
    except UnicodeDecodeError:
        return DeadLetter(
            reason, topic, partition, offset, timestamp_ms, index,
            record_base64=base64.b64encode(kept).decode(), truncated=truncated,
        )  # fmt: skip
    return DeadLetter(
        reason, topic, partition, offset, timestamp_ms, index, record=text, truncated=truncated
    )


def dead_letter_message(topic: str, letter: DeadLetter) -> Outgoing:
    """The message that carries a dead letter; its topic has one partition."""
    return Outgoing(topic, 0, [(letter.key, encode(letter))])


def key_of(record: SourceRecord) -> bytes:
    """The key of a changelog's message: all have one."""
    if record.key is None:
        raise ValueError(f"a message without a key at offset {record.offset}")
    return record.key


def parse_changelog_key(raw: bytes) -> Key:
    scope, window = raw.decode().split(" ")
    return intern(scope), intern(window)
