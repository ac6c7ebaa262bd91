"""Packs of an in-memory emitter: what it sends in one go, in as few messages as hold it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from outlay.emitter import PACK_BYTES_MAX, PACK_RECORDS_MAX
from outlay.packing import Bundle, Pack, Packer


def packed(bundles: Sequence[Bundle]) -> list[Pack]:
    """Bundles in packs, in order within each partition, by the bounds of an emitter."""
    packer = Packer(PACK_RECORDS_MAX, PACK_BYTES_MAX)
    left = deque(bundles)
    while left:
        bundle = left.popleft()
        if packer.takes(bundle):
            packer.add(bundle, 0.0)
        else:
            left.extendleft(reversed(bundle.halves()))
    for lane in packer.lanes.values():
        packer.close(lane)
    packs: list[Pack] = []
    while leaving := list(packer.leave()):
        for lane, pack in leaving:
            packs.append(pack)
            packer.settle(lane)
    return packs
