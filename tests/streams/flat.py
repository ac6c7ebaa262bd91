"""What a flush writes, message by message."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec.structs import astuple

from outlay.budget import Amounts
from outlay.scope import is_agent_key
from schemas.messages import Block, Columns
from streams.entries import Entries
from streams.flush import Flush, Message, Outgoing
from streams.messages import Key
from streams.owned import State
from streams.partials import Partials
from streams.sums import Sums
from streams.totals import Totals
from tests.streams.simulated_broker import Record


class Flat(NamedTuple):
    """One message and where it goes."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


def flat(group: Iterable[Outgoing]) -> Iterator[Flat]:
    """The messages of some outputs, or of a changelog."""
    for outgoing in group:
        for key, value in outgoing.messages:
            yield Flat(outgoing.topic, outgoing.partition, key, value)


def outputs(flush: Flush) -> list[Flat]:
    """All outputs, what is told first, in their order."""
    told = [message for each in flush.transactions for message in flat(each.told)]
    return told + [message for each in flush.transactions for message in flat(each.outputs)]


def changelog(flush: Flush) -> list[Flat]:
    """All changelog messages, in their order."""
    return [m for transaction in flush.transactions for m in flat(transaction.changelog)]


class Entry(NamedTuple):
    """The numbers of one entry."""

    offset: int
    cost_nano: int = 0
    executions: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


def block_of(windows: dict[str, dict[str, Entry]]) -> Block:
    """The block of some entries, which are of the same scopes in each window."""
    scopes = list(next(iter(windows.values()), {}))
    columns = {
        window: Columns(*([entries[scope][i] for scope in scopes] for i in range(5)))
        for window, entries in windows.items()
    }
    return Block(scopes, columns)


def entries_of(block: Block) -> dict[Key, Entry]:
    """The entries of a block."""
    return {
        (scope, window): Entry(*numbers)
        for window, columns in block.windows.items()
        for scope, *numbers in zip(block.scopes, *astuple(columns), strict=True)
    }


def rows_of(messages: Iterable[Flat]) -> dict[Key, Entry]:
    """The entries that the blocks of a changelog hold: the last of each key."""
    found: dict[Key, Entry] = {}
    for message in messages:
        if message.key is not None and message.key.count(b" ") == 2 and message.value is not None:
            found |= entries_of(msgspec.json.decode(message.value, type=Block))
    return found


def held(entries: Entries) -> dict[Key, Entry]:
    """All entries, by scope and window."""
    return {
        (scope, window): found
        for month in entries._months.values()
        for window in month.windows
        for scope in month._slots
        if (found := entry_of(entries, scope, window)) is not None
    }


def entry_of(entries: Entries, scope: str, window: str) -> Entry | None:
    """One entry; None when there is none."""
    month = entries._months.get(window[:7])
    if month is None or window not in month.windows or scope not in month._slots:
        return None
    slots, table = np.array([month._slots[scope]]), month.windows[window]
    return Entry(*table.rows(slots)[0].tolist()) if table.has(slots).all() else None


def total_of(totals: Totals, scope: str, window: str) -> tuple[Amounts, dict[int, int]] | None:
    """A total, added up number by number, and its offsets; None when it is not known."""
    found = {p: entry_of(entries, scope, window) for p, entries in totals.parts.items()}
    parts = {p: entry for p, entry in found.items() if entry is not None}
    amounts = Amounts(
        *(sum(column) for column in zip(*(e[1:] for e in parts.values()), strict=True))
    )
    return (amounts, {p: entry.offset for p, entry in parts.items()}) if parts else None


def entries(partials: Partials) -> dict[Key, tuple[int, int]]:
    """Nano-dollars and executions that are counted, by scope and window."""
    return {key: (e.cost_nano, e.executions) for key, e in held(partials.entries).items()}


def by_window(sums: Sums) -> dict[str, dict[str, list[int]]]:
    """Sums by window and scope, of which each comes once."""
    found: dict[str, dict[str, list[int]]] = {}
    for windows, scopes, amounts, are_agents in sums.by_windows():
        assert len(set(scopes)) == len(scopes)
        assert {is_agent_key(scope) for scope in scopes} <= {are_agents}
        assert amounts.dtype in (np.int64, object)
        for window in windows:
            its = found.setdefault(window, {})
            assert its.keys().isdisjoint(scopes)
            its |= dict(zip(scopes, amounts.tolist(), strict=True))
    return found


def as_records(messages: Iterable[Message]) -> list[Record]:
    """Messages as a changelog gives them back."""
    return [Record(offset, key, value, 0) for offset, (key, value) in enumerate(messages)]


def offsets(plan: Flush) -> dict[tuple[str, int], int]:
    """What a flush commits: nothing but with its last transaction."""
    assert not any(each.offsets for each in plan.transactions[:-1])
    return plan.transactions[-1].offsets


def flushed(state: State, now_ms: int, *, last: bool = False) -> Flush:
    """What a state writes, which is something."""
    plan = state.flush(now_ms, last=last)
    assert plan is not None
    return plan
