"""Telling: what the entries of a usage partition become on the way to the totals.

They are told some thousand scopes at a time, which are in the processor's cache from one step to
the next: to go over all of a large flush for each step takes longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from schemas.messages import NOTHING_TOLD, Block, PartialsMessage
from streams import messages
from streams.flush import Outgoing, Unit
from streams.month import block, cut
from streams.pieces import pieces
from streams.placing import partitions_of
from streams.wants import Wants
from streams.window_table import Rows


class Teller:
    """Makes the partials messages of one usage partition.

    In each flush, `tell` comes for some scopes at a time, and `end` after the last of them.
    """

    def __init__(self, topic: str, partition: int, totals_partitions: int, wants: Wants) -> None:
        self._topic = topic
        self._partition = partition
        self._wants = wants
        self._lasts: list[Block | None] = [None] * totals_partitions

    def tell(
        self,
        floor_day: int,
        scopes: Sequence[str],
        tables: Mapping[str, Rows],
        places: Sequence[int],
        *,
        asked: bool = False,
    ) -> Iterator[Unit]:
        """Those entries that stand at some places of the scopes: by window, and split by size.

        The last part for each partition is kept back, since the progress goes with it; but of what
        is asked for none is.
        """
        if not places:
            return
        if len(places) < len(scopes):
            scopes = list(map(scopes.__getitem__, places))
            tables = {window: rows[places] for window, rows in tables.items()}
        targets = np.array(partitions_of([s.encode() for s in scopes], len(self._lasts)))
        for target in np.unique(targets).tolist():
            at = np.flatnonzero(targets == target)
            its_scopes = list(map(scopes.__getitem__, at.tolist()))
            told = block(its_scopes, {window: rows[at] for window, rows in tables.items()})
            for piece in pieces(its_scopes, len(tables)):
                if asked:
                    yield self._unit(target, floor_day, None, cut(told, piece), asked=True)
                    continue
                last, self._lasts[target] = self._lasts[target], cut(told, piece)
                if last is not None:
                    yield self._unit(target, floor_day, None, last)

    def end(self, floor_day: int, progress: int) -> Iterator[Unit]:
        """What was kept back, with the progress for every partition."""
        for target, last in enumerate(self._lasts):
            self._lasts[target] = None
            yield self._unit(target, floor_day, progress, last or NOTHING_TOLD)

    def _unit(
        self,
        target: int,
        floor_day: int,
        progress: int | None,
        told: Block,
        *,
        asked: bool = False,
    ) -> Unit:
        wants = -1 if progress is None else self._wants.taken.get(target, -1)
        message = PartialsMessage(
            self._partition, floor_day, progress, told, wants=wants, asked=asked
        )
        value = messages.encode(message)
        return Unit(told=[Outgoing(self._topic, target, [(None, value)])])
