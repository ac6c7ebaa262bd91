"""Frame sums: usage that came in frames, added up by spender, a column of many at a time."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from outlay.scope import quote_ids
from outlay.spender import Spender, parse_spender
from streams.amounts import summed
from streams.plain_frames import AMOUNTS, SUM_MAX, PlainFrames
from streams.whose import AgentPrefixes, Whose
from streams.window_table import Rows

SPENDERS_CACHE_MAX = 131_072
"""How many spenders' keys are kept ready, parsed."""

_SLOTS_FIRST = 16  # frames of many days may come at once
_parse_spender = lru_cache(maxsize=SPENDERS_CACHE_MAX)(parse_spender)


class FrameSums:
    """The usage of some frames of one day."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self._spenders: list[Spender] = []
        self._amounts = np.zeros((len(AMOUNTS), _SLOTS_FIRST), np.int64)
        self._sum_max = 0

    def __len__(self) -> int:
        """How many spenders there are."""
        return len(self._spenders)

    def add(self, frames: PlainFrames) -> bool:
        """Add frames; False, and nothing is added, where there is no room below `SUM_MAX`, or a
        spender's key is none.
        """
        if self._sum_max + frames.sum_max > SUM_MAX:
            return False
        slots = list(map(self._slots.get, frames.spenders))
        if None in slots:
            try:
                self._meet([k for k, s in zip(frames.spenders, slots, strict=True) if s is None])
            except ValueError:
                return False
            slots = list(map(self._slots.get, frames.spenders))
        at = np.array(slots, np.intp)[frames.numbers]
        for amounts, added in zip(self._amounts, frames.amounts, strict=True):
            np.add.at(amounts, at, added)
        self._sum_max += frames.sum_max
        return True

    def _meet(self, keys: list[str]) -> None:
        spenders = {key: _parse_spender(key) for key in keys}
        for key, spender in spenders.items():
            self._slots[key] = len(self._spenders)
            self._spenders.append(spender)
        missing = len(self._spenders) - self._amounts.shape[1]
        if missing > 0:
            room = max(missing, self._amounts.shape[1])
            self._amounts = np.pad(self._amounts, ((0, 0), (0, room)))

    def by_agent(self) -> tuple[list[str], Rows]:
        """What each agent used, by scope key."""
        prefixes = AgentPrefixes()
        agent_ids = quote_ids([spender[3] for spender in self._spenders])
        agents = [
            prefixes[spender[0]] + agent_id
            for spender, agent_id in zip(self._spenders, agent_ids, strict=True)
        ]
        return summed(agents, self._rows)

    def by_whose(self) -> tuple[list[Whose], Rows]:
        """The same by whom it was used for."""
        return summed([spender[:3] for spender in self._spenders], self._rows)

    @property
    def _rows(self) -> Rows:
        return self._amounts[:, : len(self._spenders)].T
