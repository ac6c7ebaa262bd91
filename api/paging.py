"""Paging: lists in pages, each going on behind the last item of the one before.

A cursor says behind which position the next page begins, so items that come or go meanwhile shift
nothing: whatever is there all the time is listed once. To clients a cursor is opaque.
"""

from __future__ import annotations

import base64
from typing import Annotated

import msgspec
from fastapi import Query

from api.problems import ProblemError

PAGE_ITEMS_DEFAULT = 100
PAGE_ITEMS_MAX = 500
"""How many items one page holds at most."""

CURSOR_LENGTH_MAX = 16_384
"""The longest cursor, in characters: the longest key of a scope fits."""

PageLimit = Annotated[
    int, Query(ge=1, le=PAGE_ITEMS_MAX, description="How many items the page holds at most.")
]
PageCursor = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=CURSOR_LENGTH_MAX,
        description="`next_cursor` of the page before; without it, the first page.",
    ),
]

_decode = msgspec.json.Decoder(tuple[str, str]).decode


def cursor_after(collection: str, position: str) -> str:
    """The cursor for what comes behind a position in a collection."""
    content = msgspec.json.encode((collection, position))
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def position_of(collection: str, cursor: str) -> str:
    """The position that a cursor of this collection says.

    Raises:
        ProblemError: it is none, or one of another collection.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        found, position = _decode(base64.b64decode(padded, altchars=b"-_", validate=True))
        if found != collection:
            raise ValueError("of another collection")
    except (ValueError, msgspec.DecodeError):
        message = f"not a cursor of {collection}: take `next_cursor` as it is"
        errors = [{"location": "query.cursor", "message": message}]
        raise ProblemError("invalid-request", f"query.cursor: {message}", errors=errors) from None
    return position
