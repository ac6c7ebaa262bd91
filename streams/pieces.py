"""Pieces: the entries of many scopes, so many at a time that a message holds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

MESSAGE_BYTES_MAX = 524_288
"""How large a message of entries gets, in bytes; half of what a topic takes by default."""

MESSAGE_SCOPES_MAX = 1_000
"""How many scopes' entries a message holds at most."""

ENTRY_BYTES_MAX = 220
"""How long an entry's JSON may get without its scope, in bytes: five numbers of forty digits."""


def pieces(scopes: Sequence[str], windows: int) -> Iterator[slice]:
    """Which of the scopes go together, when each has an entry in so many windows.

    A scope's key is ASCII.
    """
    return _halves(scopes, 0, len(scopes), windows * ENTRY_BYTES_MAX)


def _halves(scopes: Sequence[str], start: int, end: int, entries_bytes: int) -> Iterator[slice]:
    """The scopes from start to end, in halves as often as needed."""
    count = end - start
    if count <= 1 or (
        count <= MESSAGE_SCOPES_MAX
        and sum(map(len, scopes[start:end])) + count * entries_bytes <= MESSAGE_BYTES_MAX
    ):
        if count:
            yield slice(start, end)
        return
    middle = start + count // 2
    yield from _halves(scopes, start, middle, entries_bytes)
    yield from _halves(scopes, middle, end, entries_bytes)
