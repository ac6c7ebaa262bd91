"""Limits: how many wrong keys an address may show before it is told to wait.

A right key is served even from an address that is over its limit. A key has 256 random bits, so
nobody finds one by trying, however fast; but many callers stand behind one address (a proxy, a
cluster's gateway), and one of them with a revoked key must not shut out the others. The limit keeps
a client in error from filling the log, and tells it to go slower.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

FAILURES_MAX = 10
"""How many wrong keys an address may show within `WINDOW_S`."""

WINDOW_S = 60.0

ADDRESSES_MAX = 10_000
"""How many addresses are remembered; beyond, the one that failed longest ago is forgotten."""

_IPV6_NETWORK_BITS = 64  # what one customer has at least


class FailureLimit:
    """Counts failures by client address, in windows that begin with a first failure."""

    def __init__(
        self,
        failures_max: int = FAILURES_MAX,
        window_s: float = WINDOW_S,
        addresses_max: int = ADDRESSES_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures_max = failures_max
        self._window_s = window_s
        self._addresses_max = addresses_max
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def failed(self, address: str | None) -> int | None:
        """Count a failure of an address; after how many seconds it may go on, or None: at once."""
        now_s, source = self._clock(), source_of(address)
        began_s, count = self._failures.pop(source, (now_s, 0))
        if now_s - began_s >= self._window_s:
            began_s, count = now_s, 0
        # No count goes on for ever: above the limit it only says that it is.
        count = min(count + 1, self._failures_max + 1)
        self._failures[source] = began_s, count
        if len(self._failures) > self._addresses_max:
            self._failures.popitem(last=False)
        if count <= self._failures_max:
            return None
        return max(1, math.ceil(began_s + self._window_s - now_s))


def source_of(address: str | None) -> str:
    """What an address is counted as: itself, or the network of 64 bits that an IPv6 one is in."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _IPV6_NETWORK_BITS), strict=False))
