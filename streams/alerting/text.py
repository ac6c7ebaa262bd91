"""Text of others as it may be logged and kept: short, on one line, and printable. Pure."""

from __future__ import annotations

REASON_LENGTH_MAX = 200
"""How much is kept of what a receiver says, in characters."""


def shown(text: str | bytes, length_max: int = REASON_LENGTH_MAX) -> str:
    """At most `length_max` characters, with what is not printable escaped.

    >>> shown("no\\r\\nway")
    'no\\\\r\\\\nway'
    """
    if isinstance(text, bytes):
        text = text[: 4 * length_max].decode("utf-8", "replace")
    kept = text[:length_max]
    escaped = "".join(c if c.isprintable() else repr(c)[1:-1] for c in kept)
    return escaped if len(escaped) <= length_max else f"{escaped[: length_max - 1]}…"
