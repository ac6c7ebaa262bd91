"""What is opened and closed: the same `with` and `async with` for all parts of the library."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """Base of what is started when its block is entered, and closed when that is left."""

    def start(self) -> None:
        """Begin, in the background; returns at once."""

    def close(self) -> object:
        """End; a second call does nothing."""
        raise NotImplementedError

    async def aclose(self) -> object:
        """`close` for code in an event loop."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
