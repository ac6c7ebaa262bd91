"""Adding: what was used goes into the entries of a window, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from schemas.messages import Entry
from streams.amounts import Amounts


def add_amounts(
    entries: dict[str, Entry], scopes: dict[str, Amounts], offset: int
) -> Sequence[Entry]:
    """Add the amounts of some scopes, of messages up to `offset`, where an entry lacks them.

    An entry that reaches this offset contains them: they are replayed. Returns the entries of all
    these scopes, in their order.
    """
    found = list(map(entries.get, scopes))
    fresh = {
        scope: Entry(offset, cost_nano, executions, input_tokens, output_tokens)
        for entry, (scope, (cost_nano, executions, input_tokens, output_tokens)) in zip(
            found, scopes.items(), strict=True
        )
        if entry is None
    }
    entries.update(fresh)
    if len(fresh) == len(scopes):
        return list(fresh.values())
    for entry, (cost_nano, executions, input_tokens, output_tokens) in zip(
        found, scopes.values(), strict=True
    ):
        if entry is not None and entry.offset < offset:
            entry.offset = offset
            entry.cost_nano += cost_nano
            entry.executions += executions
            entry.input_tokens += input_tokens
            entry.output_tokens += output_tokens
    if not fresh:
        return cast(list[Entry], found)
    return [
        fresh[scope] if entry is None else entry for scope, entry in zip(scopes, found, strict=True)
    ]
