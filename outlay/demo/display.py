"""Showing the demo while it runs: a live display in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from outlay.budget import STATES, State
from outlay.demo.board import Board, Row, StateChange
from outlay.emitter import EmitterStats
from outlay.gateway import GatewayStats
from outlay.money import to_cents, to_decimal

Say = Callable[[str], None]
"""Prints a line with the time before it."""

PLAIN_INTERVAL_S = 2.0
BAR_WIDTH = 24
CHANGES_SHOWN = 6
_COLORS: dict[State, str] = {
    "ok": "green",
    "warning": "yellow",
    "degraded": "dark_orange",
    "exceeded": "red",
}


class Counts(NamedTuple):
    """What the agents have done so far."""

    gateway: GatewayStats
    emitter: EmitterStats


class Display:
    """Shows some scopes of a board, what the agents did, and each change of state."""

    def __init__(self, console: Console, say: Say, board: Board, watched: Sequence[str]) -> None:
        self._say = say
        self._board = board
        self._watched = watched
        self._next_line_s = 0.0
        self._shown: deque[Text] = deque(maxlen=CHANGES_SHOWN)
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Display:
        self._context.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(None, None, None)

    @property
    def _context(self) -> AbstractContextManager[object]:
        return nullcontext() if self._live is None else self._live

    def update(self, counts: Counts) -> None:
        """Show how things stand now; to be called a few times a second."""
        changes = [c for c in self._board.take_changes() if c.scope_key in self._watched]
        if self._live is not None:
            self._shown.extend(Text.assemble(*_told(change)) for change in changes)
            self._live.update(self._picture(counts), refresh=True)
            return
        for change in changes:
            self._say("".join(text for text, _ in _told(change)))
        if time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + PLAIN_INTERVAL_S
            self._say(self._counts_line(counts))

    def tell(self, line: str) -> None:
        """Show a line among the changes of states."""
        if self._live is None:
            self._say(line)
        else:
            self._shown.append(Text(line))

    def _picture(self, counts: Counts) -> Group:
        table = Table(box=None, padding=(0, 1), header_style="dim")
        for name in ("scope", "state", "spent", "", "limit"):
            table.add_column(name, justify="right" if name in ("spent", "limit") else "left")
        for row in self._board.rows(self._watched):
            color = _COLORS[row.state]
            table.add_row(
                short(row.scope_key),
                Text(row.state, color),
                f"${to_cents(row.spent_nano)}",
                Text(bar(row), color),
                f"${to_cents(row.limit_nano)}",
            )
        return Group(table, Text(), Text(self._counts_line(counts)), Text(), *self._shown)

    def _counts_line(self, counts: Counts) -> str:
        states = self._board.count_states()
        return (
            f"calls checked {counts.gateway.checks:,}, blocked {counts.gateway.blocked:,}; "
            f"records sent {counts.emitter.sent:,}; budgets "
            + ", ".join(f"{state} {states[state]}" for state in STATES)
        )


def bar(row: Row) -> str:
    """The spent share of the limit as a bar; full when it is passed."""
    share = to_decimal(row.spent_nano) / to_decimal(row.limit_nano) if row.limit_nano else 1
    filled = min(int(BAR_WIDTH * share), BAR_WIDTH)
    return "█" * filled + "░" * (BAR_WIDTH - filled)


def short(scope_key: str) -> str:
    """The key without its organization, which is the same everywhere here."""
    return scope_key.partition("/")[2] or "organization"


def _told(change: StateChange) -> list[tuple[str, str]]:
    """The sentence, in parts of a text and its color."""
    sentence = f"{short(change.scope_key)}: {change.old} → "
    return [(sentence, ""), (change.new, _COLORS[change.new])]
