"""Placing: the partitions of many keys at once, as Kafka's own clients choose them.

Murmur2 in Python takes some ten microseconds a key, which is more than all else that is done
for a row. Here it goes over the keys of one length together, four bytes of all of them at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from outlay.topics import partition_of

TOGETHER_MIN = 32
"""From how many keys of one length on they are placed together."""

APART_CACHE_MAX = 16_384
"""Of how many keys the partition is kept ready, of those that are placed one by one: what is little
used mostly comes again."""

_Hashes = NDArray[np.uint32]
_SEED = 0x9747B28C
_FACTOR = np.uint32(0x5BD1E995)

_place_one = lru_cache(maxsize=APART_CACHE_MAX)(partition_of)


def partitions_of(keys: Sequence[bytes], partitions: int) -> list[int]:
    """The partition of each key: what `outlay.topics.partition_of` says."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, length in enumerate(map(len, keys)):
        by_length[length].append(number)
    if len(by_length) == 1 and len(keys) >= TOGETHER_MIN:
        return _place(keys, partitions)
    found = [0] * len(keys)
    for numbers in by_length.values():
        same = [keys[number] for number in numbers]
        if len(same) < TOGETHER_MIN:
            placed = [_place_one(key, partitions) for key in same]
        else:
            placed = _place(same, partitions)
        for number, partition in zip(numbers, placed, strict=True):
            found[number] = partition
    return found


def _place(keys: Sequence[bytes], partitions: int) -> list[int]:
    """The partitions of keys of one length."""
    placed: list[int] = ((_murmur2(keys) & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)).tolist()
    return placed


def _murmur2(keys: Sequence[bytes]) -> _Hashes:
    """The hashes of keys of one length."""
    length = len(keys[0])
    octets = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), length)
    hashes = np.full(len(keys), _SEED ^ length, np.uint32)
    aligned = length - length % 4
    words = np.array(octets[:, :aligned].copy().view("<u4").T, np.uint32, order="C")
    words *= _FACTOR
    words ^= words >> np.uint32(24)
    words *= _FACTOR
    for word in words:
        hashes *= _FACTOR
        hashes ^= word
    if length > aligned:
        for place in range(length - aligned):
            hashes ^= octets[:, aligned + place].astype(np.uint32) << np.uint32(8 * place)
        hashes *= _FACTOR
    hashes ^= hashes >> np.uint32(13)
    hashes *= _FACTOR
    hashes ^= hashes >> np.uint32(15)
    return hashes
