"""Shares: room that several divide among them, of which a newcomer always finds some."""

from __future__ import annotations

Owner = str | None
"""An organization; None: whoever has all of them."""


class Shares:
    """Room of a size. An owner may hold as much as is free, and no more.

    So one alone holds up to a half, n that want all hold an n+1-th each, and as much as that is
    left for another. No number of owners is to be known before.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: dict[Owner, int] = {}  # of those alone that hold some
        self.total = 0

    def fits(self, count: int, owner: Owner) -> bool:
        """Whether an owner may hold so much more; a newcomer, all that is free."""
        return self._held.get(owner, 0) + count <= self._size - self.total

    def take(self, count: int, owner: Owner) -> None:
        """Hold so much more."""
        self.total += count
        self._held[owner] = self._held.get(owner, 0) + count

    def give_back(self, count: int, owner: Owner) -> None:
        """Hold so much less."""
        self.total -= count
        held = self._held.pop(owner) - count
        if held:
            self._held[owner] = held
