"""Taken: the ids of the alerts that a partition has taken over, the newest so many. No I/O."""

from __future__ import annotations

from streams.alerting.records import IdPage, Records, encode, page_key

PAGE_IDS_MAX = 256
"""How many ids a page has: it is one state record, which each batch of alerts writes again."""

PAGES_MAX = 128
"""How many pages are kept: what is told again after more alerts than they hold is sent again."""


class Taken:
    """The newest ids, in pages whose keys come round, so that compaction keeps them bounded."""

    def __init__(self) -> None:
        self._pages: dict[int, list[str]] = {}
        self._ids: set[str] = set()
        self._changed: set[int] = set()

    def __contains__(self, taken_id: str) -> bool:
        return taken_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def load(self, page: IdPage) -> None:
        """Take up a page that was written before."""
        newest = max(self._pages, default=page.number)
        if page.number <= newest - PAGES_MAX:
            return
        self._pages[page.number] = list(page.ids)
        self._ids.update(page.ids)
        self._forget(max(newest, page.number))

    def add(self, taken_id: str) -> None:
        """Remember one, and forget the oldest page when there are too many."""
        number = max(self._pages, default=0)
        if len(self._pages.get(number, ())) >= PAGE_IDS_MAX:
            number += 1
        self._pages.setdefault(number, []).append(taken_id)
        self._ids.add(taken_id)
        self._changed.add(number)
        self._forget(number)

    def records(self) -> Records:
        """The pages that changed since it was asked last."""
        changed, self._changed = self._changed, set()
        return {
            page_key(number % PAGES_MAX): encode(IdPage(number, tuple(self._pages[number])))
            for number in sorted(changed)
            if number in self._pages
        }

    def _forget(self, newest: int) -> None:
        for number in [n for n in self._pages if n <= newest - PAGES_MAX]:
            self._ids.difference_update(self._pages.pop(number))
