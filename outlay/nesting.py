"""Nesting: how deep JSON goes, asked by a rule of ours and not by the depth of a reader's stack."""

from __future__ import annotations

import re

NESTING_MAX = 64
"""How deep a message may nest arrays and objects, its own included."""

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def depth_exceeds(value: bytes, bound: int) -> bool:
    """Whether a JSON text nests arrays and objects deeper than `bound`."""
    if _opened(value, b"{", bound) + _opened(value, b"[", bound) <= bound:
        return False
    depth = 0
    for token in _TOKEN.finditer(value):
        byte = token[0]
        if byte in (b"[", b"{"):
            depth += 1
            if depth > bound:
                return True
        elif byte in (b"]", b"}"):
            depth -= 1
    return False


def _opened(value: bytes, bracket: bytes, bound: int) -> int:
    """How many of these there are, of which no more than `bound` + 1 are looked for.

    One after the other: `count` goes through all bytes, ten times as slowly as `find`.
    """
    found, at = 0, value.find(bracket)
    while at >= 0 and found <= bound:
        found, at = found + 1, value.find(bracket, at + 1)
    return found
