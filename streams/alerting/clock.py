"""Clock: what time it is, and waiting for a time or an event: the seam that tests inject."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Protocol

WAIT_S_MAX = 3_600.0
"""How long one wait lasts at most, in seconds: the wall clock may be set meanwhile."""


class Clock(Protocol):
    """The time of day, in milliseconds since 1970, and a way to wait for it."""

    def now_ms(self) -> int:
        """The time."""

    async def wait(self, event: asyncio.Event, until_ms: int | None) -> None:
        """Until the event is set, or it is `until_ms`; maybe earlier."""


class SystemClock:
    """The machine's."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def wait(self, event: asyncio.Event, until_ms: int | None) -> None:
        rest_s = WAIT_S_MAX if until_ms is None else (until_ms - self.now_ms()) / 1000
        with suppress(TimeoutError):
            async with asyncio.timeout(min(max(rest_s, 0), WAIT_S_MAX)):
                await event.wait()
