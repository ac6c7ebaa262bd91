"""What the stages say to each other and to their changelogs: the bytes, and nothing else.

All is JSON, so that an operator can read it with any Kafka tool. Amounts are integers of
nano-dollars here, since no one outside reads these topics.

- A partials message is what one partition of the usage topic tells one partition of the totals.
- The changelogs of partials and totals hold blocks, each the entries of many scopes, under the key
  `MONTH PARTITION NUMBER` with the partition of the usage topic (see `streams.blocks`); `floor`,
  `progress` and `wants` are keys of their own, and there is one for each agent that is wanted.
- What was told of a window's alerts stands under `SCOPE WINDOW`. No scope's key holds a space, ids
  being percent-encoded.
"""

from __future__ import annotations

from sys import intern

import msgspec

from schemas.messages import PartialsMessage
from streams.batch import SourceRecord

FLOOR_KEY = b"floor"
PROGRESS_KEY = b"progress"
WANTS_KEY = b"wants"

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


def key_of(record: SourceRecord) -> bytes:
    """The key of a changelog's message: all have one."""
    if record.key is None:
        raise ValueError(f"a message without a key at offset {record.offset}")
    return record.key


def parse_changelog_key(raw: bytes) -> Key:
    scope, window = raw.decode().split(" ")
    return intern(scope), intern(window)
