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

from collections.abc import Callable
from sys import intern
from typing import TypeVar

import msgspec

from schemas.messages import PartialsMessage, WantsMessage
from streams.batch import SourceRecord

FLOOR_KEY = b"floor"
PROGRESS_KEY = b"progress"
WANTS_KEY = b"wants"

Key = tuple[str, str]
"""A scope's key and a window's name."""

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
decode_offsets = msgspec.json.Decoder(dict[int, int]).decode
decode_int = msgspec.json.Decoder(int).decode


class MessageError(ValueError):
    """A message that the stages send each other cannot be read."""


def decode_partials(value: bytes | None) -> PartialsMessage:
    """What a message of the partials topic tells.

    Raises:
        MessageError: it is none of these.
    """
    return _read(_decode_partials, value, "partials")


def decode_wants(value: bytes | None) -> WantsMessage:
    """The wants that a message of their topic holds.

    Raises:
        MessageError: it holds none.
    """
    return _read(_decode_wants, value, "wants")


_T = TypeVar("_T")
_decode_partials = msgspec.json.Decoder(PartialsMessage).decode
_decode_wants = msgspec.json.Decoder(WantsMessage).decode


def _read(decode: Callable[[bytes], _T], value: bytes | None, what: str) -> _T:
    try:
        return decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"not a {what} message: {error}") from None


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
