"""Amounts: what was used, in numbers that can be added to while sums are made."""

from __future__ import annotations

from typing import TypeVar

Amounts = list[int]
"""Nano-dollars, executions, input tokens, output tokens."""

_K = TypeVar("_K")


def add(held: Amounts, more: Amounts) -> None:
    """Add to amounts, in place."""
    held[0] += more[0]
    held[1] += more[1]
    held[2] += more[2]
    held[3] += more[3]


def add_to(sums: dict[_K, Amounts], key: _K, amounts: Amounts) -> None:
    """Add amounts to the sum under a key; what begins one is copied, since sums are added to."""
    held = sums.get(key)
    if held is None:
        sums[key] = amounts.copy()
    else:
        add(held, amounts)
