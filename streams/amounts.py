"""Amounts: what was used, in numbers that can be added to while sums are made."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

from streams.window_table import INT64_MAX, Rows, largest, numbers

Amounts = list[int]
"""Nano-dollars, executions, input tokens, output tokens."""

NO_ROWS: Rows = np.empty((0, 4), np.int64)

_K = TypeVar("_K", bound=Hashable)


def add(held: Amounts, more: Amounts) -> None:
    """Add to amounts, in place."""
    held[0] += more[0]
    held[1] += more[1]
    held[2] += more[2]
    held[3] += more[3]


def rows(amounts: Sequence[Sequence[int]]) -> Rows:
    """A row for each of some amounts: int64, or Python's integers where one is too large."""
    return numbers(tuple(zip(*amounts, strict=True))) if amounts else NO_ROWS


def summed(keys: Sequence[_K], amounts: Rows) -> tuple[list[_K], Rows]:
    """The sums of amounts by their keys, in the order in which these come first."""
    places = dict.fromkeys(keys)
    if len(places) == len(keys):
        return list(keys), amounts
    for place, key in enumerate(places):
        places[key] = place
    at = np.array(list(map(places.__getitem__, keys)), np.intp)
    if largest(amounts) * len(keys) > INT64_MAX:
        amounts = amounts.astype(object)
    sums: Rows = np.zeros((len(places), amounts.shape[1]), amounts.dtype)
    np.add.at(sums, at, amounts)
    return list(places), sums
