"""Looks: which windows of which scopes are to be looked at, so many at a time.

Decisions are published in the same flush and wait for it, so a flush looks at a bounded number: a
day's beginning, a take-over or an organization's new configuration concern all budgets at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice

from outlay.budget import Amounts
from outlay.looking import Quiet

LOOKS_PER_FLUSH_MAX = 1_000
"""How many windows that have moved one flush looks at, and how many others: a tenth of a second."""

Key = tuple[str, str]
"""A window's name and a scope's key."""


class Looks:
    """What of one totals partition is to be looked at, oldest first, and what surely is not."""

    def __init__(self) -> None:
        self._moved: dict[Key, None] = {}
        self._anew: dict[Key, None] = {}
        self._quiet: dict[str, dict[str, Quiet]] = defaultdict(dict)
        self._due: dict[Key, int] = {}
        self._next_due_ms = 0

    @property
    def waiting(self) -> bool:
        """Whether something that was read is not looked at yet: a new owner has to read it again.

        What is looked at without having been read is so by each new owner, by itself.
        """
        return bool(self._moved)

    def moved(
        self,
        window: str,
        scopes: Collection[str],
        amounts: Callable[[Sequence[str], str], Iterable[Amounts]],
    ) -> None:
        """What some scopes have used of a window may have changed."""
        quiet = self._quiet[window]
        known = [scope for scope in scopes if scope in quiet]
        self._moved.update(((window, scope), None) for scope in scopes if scope not in quiet)
        for scope, used in zip(known, amounts(known, window), strict=True):
            if not quiet[scope].holds(used):
                self._moved[window, scope] = None

    def changed(self, scope: str, windows: Iterable[str]) -> None:
        """What is to be found of a scope has changed; these windows are to be looked at."""
        self._unquiet(scope)
        self._moved.update(((window, scope), None) for window in windows)

    def anew(self, scopes: Collection[str], windows: Iterable[str]) -> None:
        """These windows of these scopes are to be looked at, but nothing of them was read."""
        for window in windows:
            self._anew.update(((window, scope), None) for scope in scopes)

    def anew_changed(self, scopes: Collection[str], windows: Iterable[str]) -> None:
        """The same, and what is to be found of them has changed."""
        for scope in scopes:
            self._unquiet(scope)
        self.anew(scopes, windows)

    def begin(self) -> None:
        """Time has passed a point from which on everything may be found anew."""
        self._quiet.clear()
        self._due.clear()

    def take_due(self, now_ms: int) -> None:
        """Ask for what is to be looked at by itself at this time."""
        if now_ms < self._next_due_ms or not self._due:
            return
        for key in [key for key, due_ms in self._due.items() if due_ms <= now_ms]:
            del self._due[key]
            self._quiet[key[0]].pop(key[1], None)
            self._anew[key] = None
        self._next_due_ms = min(self._due.values(), default=now_ms)

    def take(self) -> Iterator[Key]:
        """What is looked at now; what has moved does not wait for all else."""
        for asked in (self._moved, self._anew):
            for key in list(islice(asked, LOOKS_PER_FLUSH_MAX)):
                del asked[key]
                yield key

    def is_quiet(self, window: str, scope: str, used: Amounts) -> bool:
        """Whether there is surely nothing to be found."""
        known = self._quiet[window].get(scope)
        return known is not None and known.holds(used)

    def found(self, window: str, scope: str, quiet: Quiet) -> None:
        """A window was looked at: when to look again."""
        self._quiet[window][scope] = quiet
        key, due_ms = (window, scope), quiet.due_ms
        if due_ms is None:
            self._due.pop(key, None)
        else:
            self._due[key] = due_ms
            self._next_due_ms = min(self._next_due_ms, due_ms)

    def _unquiet(self, scope: str) -> None:
        for quiet in self._quiet.values():
            quiet.pop(scope, None)
