"""Pieces: a large table, so many of its entries at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


def pieces(table: Mapping[_K, _V], size: int) -> Iterator[dict[_K, _V]]:
    """The entries in their order, in tables of `size` entries; the last may have fewer."""
    entries = iter(table.items())
    while piece := dict(islice(entries, size)):
        yield piece
