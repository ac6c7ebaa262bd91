"""Held: what is spent, or about to be, in one scope before any decision contains it. Pure.

Two things are held: what open reservations ask for, and the usage that this process has emitted
itself. A record is held until a decision of the scope, or the watermark of its partition, has
passed the record's offset, so that it counts exactly once at any time. What gives back (a
correction below zero) is not held: it counts when a decision contains it.
"""

from __future__ import annotations

from outlay.budget import NOTHING, Amounts
from outlay.decision import Watermark
from outlay.standing import KnownBudget
from outlay.window import window_names

SPENDS_PER_SCOPE_MAX = 10_000
"""From how many records of a scope on those of one partition and day are held as one. They then
count until the last of them is contained: for longer than they need to, never shorter."""


class Spend:
    """One record that was emitted: what it adds to a day, and where it has arrived."""

    __slots__ = (
        "cost_nano",
        "day",
        "executions",
        "gone",
        "input_tokens",
        "keys",
        "offset",
        "output_tokens",
        "partition",
        "until_s",
    )

    def __init__(
        self,
        keys: tuple[str, ...],
        day: int,
        cost_nano: int,
        executions: int,
        input_tokens: int,
        output_tokens: int,
    ) -> None:
        self.keys = keys
        self.day = day
        self.cost_nano = cost_nano
        self.executions = executions
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.partition = -1
        self.offset = -1
        self.gone = False  # it will not arrive
        self.until_s = float("inf")

    def is_over(self, known: KnownBudget | None, watermark: Watermark | None, now_s: float) -> bool:
        """Whether it needs to be held no more for a scope, of which this is known."""
        if self.gone or now_s >= self.until_s:
            return True
        offset = self.offset
        if offset < 0:
            return False
        if watermark is not None and watermark.offsets.get(self.partition, -1) >= offset:
            return True
        if known is None:
            return False
        month = known.decision.windows.get(window_names(self.day)[1])
        return month is not None and month.offsets.get(self.partition, -1) >= offset


class Tally:
    """A sum of amounts that changes."""

    __slots__ = ("cost_nano", "executions", "input_tokens", "output_tokens")

    def __init__(self) -> None:
        self.cost_nano = self.executions = self.input_tokens = self.output_tokens = 0

    def add(self, more: Spend | Amounts, sign: int) -> None:
        """Add some amounts (1), or take them away again (-1)."""
        self.cost_nano += sign * more.cost_nano
        self.executions += sign * more.executions
        self.input_tokens += sign * more.input_tokens
        self.output_tokens += sign * more.output_tokens

    @property
    def amounts(self) -> Amounts:
        return Amounts(self.cost_nano, self.executions, self.input_tokens, self.output_tokens)


class Held:
    """What is held for one scope.

    `reserved` is what open reservations ask for; `spends` are the records, and `days` their sums
    by day ordinal. `known` and `watermark` are those that the records were last compared with.

    Whoever changes it has the lock of `outlay.holds.Holds`. A reader without the lock reads a
    decision, then the sums, then looks whether `known` is still that decision: otherwise it may
    miss what a newer decision contains.
    """

    __slots__ = ("days", "known", "merge_at", "reserved", "spends", "watermark")

    def __init__(self) -> None:
        self.reserved = Tally()
        self.spends: list[Spend] = []
        self.days: dict[int, Tally] = {}
        self.known: KnownBudget | None = None
        self.watermark: Watermark | None = None
        self.merge_at = SPENDS_PER_SCOPE_MAX

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not self.spends and self.reserved.amounts == NOTHING

    def add(self, spend: Spend) -> None:
        """Hold a record, too."""
        spends = self.spends
        spends.append(spend)
        tally = self.days.get(spend.day)
        if tally is None:
            tally = self.days[spend.day] = Tally()
        # Written out: an emit does this for each of its scopes.
        tally.cost_nano += spend.cost_nano
        tally.executions += spend.executions
        tally.input_tokens += spend.input_tokens
        tally.output_tokens += spend.output_tokens
        if len(spends) >= self.merge_at:
            self._merge()

    def compare(self, known: KnownBudget | None, watermark: Watermark | None, now_s: float) -> None:
        """Let go of the records that a decision contains by now, and of those that are gone."""
        self.known, self.watermark = known, watermark  # first: see what a reader does
        left = []
        for spend in self.spends:
            if spend.is_over(known, watermark, now_s):
                self.days[spend.day].add(spend, -1)
            else:
                left.append(spend)
        self.spends = left
        if not left:
            self.days.clear()

    def emitted(self, day: int) -> tuple[Amounts, Amounts]:
        """What the records add to a day, and to its month."""
        of_day = of_month = NOTHING
        month = window_names(day)[1]
        for spent_on, tally in self.days.items():
            if spent_on == day:
                of_day = tally.amounts
            if window_names(spent_on)[1] == month:
                of_month += tally.amounts
        return of_day, of_month

    def added_to(self, used: tuple[Amounts, Amounts], day: int) -> tuple[Amounts, Amounts]:
        """What a day and its month have used, with all that is held for them."""
        emitted, emitted_in_month = self.emitted(day) if self.days else (NOTHING, NOTHING)
        reserved = self.reserved.amounts
        return used[0] + emitted + reserved, used[1] + emitted_in_month + reserved

    def _merge(self) -> None:
        """Make one of all delivered records of a partition and day: over when the last one is."""
        merged: dict[tuple[int, int], Spend] = {}
        left = []
        for spend in self.spends:
            if spend.offset < 0:
                left.append(spend)
                continue
            one = merged.get((spend.partition, spend.day))
            if one is None:
                one = merged[spend.partition, spend.day] = Spend((), spend.day, 0, 0, 0, 0)
                one.partition = spend.partition
            one.offset = max(one.offset, spend.offset)
            one.cost_nano += spend.cost_nano
            one.executions += spend.executions
            one.input_tokens += spend.input_tokens
            one.output_tokens += spend.output_tokens
        self.spends = [*merged.values(), *left]
        self.merge_at = max(2 * len(self.spends), SPENDS_PER_SCOPE_MAX)
