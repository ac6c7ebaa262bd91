"""Held: what is spent, or about to be, in one scope before any decision contains it. Pure.

Two things are held: what open reservations ask for, and the usage that this process has emitted
itself. A record is held until a decision of the scope, or the watermark of its partition, has
passed the record's offset, so that it counts exactly once at any time. What gives back (a
correction below zero) is not held: it counts when a decision contains it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from outlay.budget import NOTHING, Amounts
from outlay.decision import Watermark
from outlay.spend import GONE_S, Spend
from outlay.standing import KnownBudget
from outlay.window import window_names

SPENDS_PER_SCOPE_MAX = 1_000
"""From how many records of a scope on delivered ones are held together: those of one message, and
where that is not enough, of some that follow one another in a partition. They then count until the
last of them is contained: for a moment longer than they need to, never shorter."""

UNSEEN = Watermark({}, datetime.min.replace(tzinfo=UTC))
"""A watermark that no partition has: what was compared with it is to be compared again."""


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

    def copy(self) -> Tally:
        """Another one of the same amounts."""
        made = Tally()
        made.add(self.amounts, 1)
        return made

    @property
    def amounts(self) -> Amounts:
        """What it is now."""
        return Amounts(self.cost_nano, self.executions, self.input_tokens, self.output_tokens)


class Held:
    """What is held for one scope.

    `reserved` is what open reservations ask for; `spends` are the records, and `days` their sums
    by day ordinal. `in_month` and `in_day` are those that a decision contains in that total only.
    `known` and `watermark` are those that the records were last compared with; `home` is the
    partition of the scope's decisions, and of how many.

    Whoever changes it has the lock of `outlay.holds.Holds`. A reader without the lock reads a
    decision, then the sums, then looks whether `known` is still that decision: otherwise it may
    miss what a newer decision contains.
    """

    __slots__ = (
        "days",
        "home",
        "in_day",
        "in_month",
        "known",
        "merge_at",
        "reserved",
        "spends",
        "watermark",
    )

    def __init__(self) -> None:
        self.reserved = Tally()
        self.spends: list[Spend] = []
        self.days: dict[int, Tally] = {}
        self.in_month: list[Spend] = []
        self.in_day: list[Spend] = []
        self.known: KnownBudget | None = None
        self.watermark: Watermark | None = None
        self.merge_at = SPENDS_PER_SCOPE_MAX
        self.home = (0, 0)

    @property
    def size(self) -> int:
        """How many records it holds, those that are held together as one."""
        return len(self.spends) + len(self.in_month) + len(self.in_day)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return self.size == 0 and self.reserved.amounts == NOTHING

    def add(self, spend: Spend) -> None:
        """Hold a record, too."""
        self.spends.append(spend)
        tally = self.days.get(spend.day)
        if tally is None:
            tally = self.days[spend.day] = Tally()
        # Written out: an emit does this for each of its scopes.
        tally.cost_nano += spend.cost_nano
        tally.executions += spend.executions
        tally.input_tokens += spend.input_tokens
        tally.output_tokens += spend.output_tokens
        if len(self.spends) >= self.merge_at:
            self.merge(self.merge_at // 2)

    def drop(self, spend: Spend) -> None:
        """Count a record no more that has not arrived and will not; `compare` then forgets it."""
        if (tally := self.days.get(spend.day)) is not None:
            tally.add(spend, -1)

    def compare(self, known: KnownBudget | None, watermark: Watermark | None, now_s: float) -> None:
        """Let go of the records that a decision contains by now, and of those that are over."""
        self.known, self.watermark = known, watermark  # first: see what a reader does
        left: list[Spend] = []
        in_month: list[Spend] = []
        in_day: list[Spend] = []
        days = {day: tally.copy() for day, tally in self.days.items()}
        for spend in self.spends:
            if spend.offset < 0 and now_s < spend.until_s:  # most of them, after an outage
                left.append(spend)
                continue
            of_day, of_month = spend.contained(known, watermark, now_s)
            if not (of_day or of_month):
                left.append(spend)
                continue
            if spend.until_s > GONE_S:  # else `drop` has done so
                days[spend.day].add(spend, -1)
            if not of_day:
                in_month.append(spend)
            elif not of_month:
                in_day.append(spend)
        for spend in (*self.in_month, *self.in_day):
            of_day, of_month = spend.contained(known, watermark, now_s)
            if not of_day:
                in_month.append(spend)
            elif not of_month:
                in_day.append(spend)
        if len(days) > 1:
            days = {day: days[day] for day in {spend.day for spend in left}}
        self.in_month, self.in_day, self.spends = in_month, in_day, left
        self.days = days if left else {}
        if len(left) < SPENDS_PER_SCOPE_MAX:
            self.merge_at = SPENDS_PER_SCOPE_MAX

    def emitted(self, day: int) -> tuple[Amounts, Amounts]:
        """What the records add to a day, and to its month."""
        of_day, of_month = Tally(), Tally()
        month = window_names(day)[1]
        for spent_on, tally in self.days.items():
            if spent_on == day:
                of_day.add(tally.amounts, 1)
            if window_names(spent_on)[1] == month:
                of_month.add(tally.amounts, 1)
        for spend in self.in_month:
            if spend.day == day:
                of_day.add(spend, 1)
        for spend in self.in_day:
            if window_names(spend.day)[1] == month:
                of_month.add(spend, 1)
        return of_day.amounts, of_month.amounts

    def added_to(self, used: tuple[Amounts, Amounts], day: int) -> tuple[Amounts, Amounts]:
        """What counts as used of a day and its month, where a decision says `used`."""
        of_day, of_month = self.emitted(day)
        reserved = self.reserved.amounts
        return used[0] + of_day + reserved, used[1] + of_month + reserved

    def merge(self, count: int) -> None:
        """Hold those of one message together; where over `count` are left, some messages, too."""
        now = _joined(self.spends, 0)
        if len(now) > count:
            arrived = sum(spend.records for spend in now if spend.offset >= 0)
            now = _joined(now, 1 + 2 * arrived // count)
        self.spends = now
        self.merge_at = max(2 * len(now), SPENDS_PER_SCOPE_MAX)


def _joined(spends: list[Spend], records_max: int) -> list[Spend]:
    """Records of a partition and day together: those of one message, others up to a number.

    The number is what keeps one from taking in the next again and again, never to be contained.
    """
    last: dict[tuple[int, int], Spend] = {}
    left = []
    for spend in spends:
        if spend.offset < 0:  # where it stands is not known
            if spend.until_s > GONE_S:
                left.append(spend)
            continue
        place = (spend.partition, spend.day)
        one = last.get(place)
        if one is not None and (
            one.offset == spend.offset or one.records + spend.records <= records_max
        ):
            one.absorb(spend)
        else:
            one = last[place] = spend.copy()
            left.append(one)
    return left
