"""Writes: the headers that say under which version, and under which key. Pure."""

from __future__ import annotations

from typing import Literal

import uuid_utils

from outlay.client.calls import Answer

IfVersion = int | Literal["any"] | None
"""Which version a write changes: that one, any that there is, or whatever there is or is not."""

Headers = dict[str, str | bytes | None]


def idempotency(key: str | None) -> Headers:
    """The header that makes a write safe to repeat, with a new key where none is given.

    Raises:
        ValueError: a key that is not visible ASCII.
    """
    if key is not None and (not key or any(not "!" <= c <= "~" for c in key)):
        raise ValueError("an idempotency key has visible ASCII characters alone")
    return {"idempotency-key": str(uuid_utils.uuid7()) if key is None else key}


def if_match(if_version: IfVersion) -> Headers:
    """The header that makes a write one of a version.

    Raises:
        ValueError: a version that no budget has.
    """
    if if_version is None:
        return {}
    if if_version == "any":
        return {"if-match": "*"}
    if type(if_version) is not int or if_version < 1:
        raise ValueError(f'if_version is a version, or "any", not {if_version!r}')
    return {"if-match": f'"{if_version}"'}


def if_match_or_none(if_version: IfVersion) -> Headers:
    """The same, where 0 says that there must be none yet."""
    return {"if-none-match": "*"} if if_version == 0 else if_match(if_version)


def nothing(answer: Answer) -> None:
    """Reads an answer that has no body."""
    return
