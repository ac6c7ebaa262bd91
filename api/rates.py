"""Rates: how many requests a key may make, as a bucket of tokens that fills up steadily."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

BURST_S = 2.0
"""How much may come at once, as the requests of so many seconds; one at least."""

KEYS_MAX = 10_000
"""How many keys are remembered; beyond, the one that asked longest ago begins with a full bucket.

Only keys in force are counted, which the operator makes, so it takes so many of them at a time.
"""


class RequestRate:
    """The rate of each key's requests. One event loop; nothing is awaited."""

    def __init__(
        self,
        per_s: float,
        *,
        keys_max: int = KEYS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_s = per_s
        self._burst = max(per_s * BURST_S, 1.0)
        self._keys_max = keys_max
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key_id: str) -> int | None:
        """Count a request; None: it may be answered, else in how many seconds one may be."""
        now_s = self._clock()
        tokens, at_s = self._buckets.pop(key_id, (self._burst, now_s))
        tokens = min(tokens + (now_s - at_s) * self._per_s, self._burst)
        wait_s = None if tokens >= 1 else max(1, math.ceil((1 - tokens) / self._per_s))
        self._buckets[key_id] = (tokens - 1 if wait_s is None else tokens), now_s
        if len(self._buckets) > self._keys_max:
            self._buckets.popitem(last=False)
        return wait_s
