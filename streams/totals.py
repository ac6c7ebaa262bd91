"""Totals: the sum of a (scope, window)'s partials, one per usage partition.

A total keeps one entry per usage partition and replaces it when one with a higher offset arrives,
so a duplicate, a re-ordering or a replay changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from outlay.budget import NOTHING, Amounts
from schemas.messages import Entry, PartialsMessage, Windows
from streams import messages
from streams.batch import SourceRecord
from streams.floor import Floor
from streams.flush import UNIT_MESSAGES_MAX, Message, Messages
from streams.pieces import pieces

TOLD_TOGETHER_MAX = 4
"""How often entries of a window are kept as they were told, before each is kept once."""


class Totals:
    """All totals of one totals partition, and how far into the usage topic they reach."""

    def __init__(self) -> None:
        self.parts: dict[int, Windows] = {}
        """By usage partition, what it adds to the totals."""
        self.progress: dict[int, int] = {}
        """By usage partition, the offset up to which everything has arrived."""
        self.late = 0
        """Partials that came for a window that was forgotten before."""
        self.dirty_count = 0
        """How many entries wait to be written, as often as they were told."""
        self._dirty = _no_dirty()
        self.floor = Floor()
        """By the newest day that any usage partition has told."""
        self._progress_dirty = False

    # -- recovery

    def load(self, records: Sequence[SourceRecord]) -> None:
        """Take over records of the changelog, in their order."""
        for record in records:
            key, value = messages.key_of(record), record.value
            if key == messages.FLOOR_KEY:
                if value is not None:
                    self.floor.rise(messages.decode_int(value))
            elif key == messages.PROGRESS_KEY:
                if value is not None:
                    self.progress = messages.decode_offsets(value)
            else:
                scope, window, partition = messages.parse_totals_changelog_key(key)
                scopes = self._scopes(partition, window)
                if value is not None:
                    scopes[scope] = messages.decode_entry(value)
                else:
                    scopes.pop(scope, None)

    @property
    def reaches(self) -> dict[int, int]:
        """The highest offset that some total has counted, by usage partition."""
        reached = dict(self.progress)
        for partition, windows in self.parts.items():
            offsets = (e.offset for scopes in windows.values() for e in scopes.values())
            reached[partition] = max(reached.get(partition, -1), max(offsets, default=-1))
        return reached

    # -- reading

    def merge(self, message: PartialsMessage) -> Windows:
        """Take over what one usage partition tells; returns what of it is not forgotten."""
        self.floor.rise(message.floor_day)
        partition = message.partition
        concerned: Windows = {}
        for window, told in message.entries.items():
            if self.floor.forgets(window):
                self.late += len(told)  # forgotten here: it never starts again
                continue
            _merge(self._scopes(partition, window), told)
            waiting = self._dirty[partition].setdefault(window, [])
            waiting.append(told)
            if len(waiting) > TOLD_TOGETHER_MAX:
                waiting[:] = [_joined(waiting)]
            self.dirty_count += len(told)
            concerned[window] = told
        progress = message.progress
        if progress is not None and progress > self.progress.get(partition, -2):
            self.progress[partition] = progress
            self._progress_dirty = True
        return concerned

    def _scopes(self, partition: int, window: str) -> dict[str, Entry]:
        return self.parts.setdefault(partition, {}).setdefault(window, {})

    def total(self, scope: str, window: str) -> tuple[Amounts, dict[int, int]] | None:
        """The total of a (scope, window), and the offsets that it contains; None when unknown."""
        offsets = {}
        cost_nano = executions = input_tokens = output_tokens = 0
        for partition, windows in self.parts.items():
            entry = windows.get(window, _NO_SCOPES).get(scope)
            if entry is not None:  # added up here: a sum object for each takes three times as long
                cost_nano += entry.cost_nano
                executions += entry.executions
                input_tokens += entry.input_tokens
                output_tokens += entry.output_tokens
                offsets[partition] = entry.offset
        total = Amounts(cost_nano, executions, input_tokens, output_tokens)
        return (total, offsets) if offsets else None

    def amounts(self, scope: str, window: str) -> Amounts:
        """The same without the offsets; nothing when unknown."""
        total = self.total(scope, window)
        return NOTHING if total is None else total[0]

    # -- forgetting

    def _forget(self) -> Iterator[Message]:
        """Drop the windows below the floor, which has risen; yields their tombstones."""
        for partition, windows in self.parts.items():
            for window in list(filter(self.floor.forgets, windows)):
                self._dirty[partition].pop(window, None)
                yield from messages.tombstones(f"{window} {partition}", windows.pop(window))

    # -- writing

    def take_changes(self) -> Iterator[Messages]:
        """The changelog messages of all that changed; they count as written from then on."""
        if self.floor.rose:
            yield list(self._forget())
            yield [(messages.FLOOR_KEY, messages.encode(self.floor.day))]
        for partition, windows in self._dirty.items():
            for window, told in windows.items():
                for some in pieces(_joined(told), UNIT_MESSAGES_MAX):
                    yield messages.Rows(f"{window} {partition}", some)
        if self._progress_dirty:
            yield [(messages.PROGRESS_KEY, messages.encode(self.progress))]
        self._dirty = _no_dirty()
        self.dirty_count = 0
        self.floor.rose = self._progress_dirty = False


_NO_SCOPES: dict[str, Entry] = {}


def _merge(scopes: dict[str, Entry], told: dict[str, Entry]) -> None:
    """Take over entries that are newer; what was told then holds the others as they are held."""
    found = list(map(scopes.get, told))
    if not any(found):
        scopes.update(told)
        return
    for held, (scope, entry) in zip(found, told.items(), strict=True):
        if held is None or entry.offset > held.offset:
            scopes[scope] = entry
        else:
            told[scope] = held


def _joined(told: list[dict[str, Entry]]) -> dict[str, Entry]:
    """What was told, each entry once and as it is held now."""
    joined = told[0]
    for later in told[1:]:
        joined.update(later)
    return joined


def _no_dirty() -> dict[int, dict[str, list[dict[str, Entry]]]]:
    return defaultdict(dict)
