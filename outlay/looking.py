"""Looking: what a look at one window of a budget finds to be told. Pure: no clock, no I/O.

`look` takes what was told before and what is used now, and returns what is to be told, what was
told after that, and between which amounts, and until when, another look would find nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Literal, NamedTuple

import msgspec

from outlay import crossing
from outlay.budget import Amounts, LimitKind, amount_of
from outlay.crossing import NO_MARKS, Marks, Step
from outlay.detection import Detection, Ladder
from outlay.forecasting import Course


class Seen(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was told of a scope's window.

    `made` is the version at which the budget was made whose window this is. `waits` says that
    nobody has looked yet, since the window had not begun.
    """

    made: int = 0
    limits: dict[LimitKind, Marks] = {}
    waits: bool = False


class Moment(NamedTuple):
    """When a window is looked at.

    `course` is how far it has come, None where it is not the current one, or too young for a
    projection; times are in milliseconds since the epoch.
    """

    now_ms: int
    start_ms: int
    is_current: bool
    course: Course | None


class Finding(NamedTuple):
    """Something to be told of a limit; `limit` is None where that was taken away.

    `episode` is that of the threshold, of a recovery the next one of the lowest; `number` counts
    what is told of no single threshold.
    """

    what: Literal["crossed", "recovered", "forecast"]
    kind: LimitKind
    limit: int | None
    used: int
    episode: int
    threshold: Decimal | None = None
    step: tuple[Decimal, ...] = ()
    repeat: int = 0
    number: int = 0
    course: Course | None = None


class Quiet(NamedTuple):
    """When there is surely nothing to be found.

    `ranges` has for each kind of limit the least such amount, and the one above the greatest.
    At `due_ms` there is to be another look whatever is used; None: not by itself.
    """

    ranges: tuple[tuple[LimitKind, int, int], ...]
    due_ms: int | None

    def holds(self, amounts: Amounts) -> bool:
        """Whether these amounts change nothing."""
        for kind, low, high in self.ranges:  # noqa: SIM110 - a generator takes twice as long
            if not low <= amount_of(amounts, kind) < high:
                return False
        return True


class Look(NamedTuple):
    """What a look at a window has found, in the order in which it is to be told."""

    seen: Seen
    findings: list[Finding]
    quiet: Quiet


def look(
    detection: Detection, ladders: Iterable[Ladder], seen: Seen, amounts: Amounts, moment: Moment
) -> Look:
    """Look at a window: its limits one by one, and then at those that there are no more."""
    findings: list[Finding] = []
    limits: dict[LimitKind, Marks] = {}
    ranges = []
    dues: list[int] = []
    for ladder in ladders:
        used = amount_of(amounts, ladder.kind)
        marks = seen.limits.get(ladder.kind, NO_MARKS)
        marks = _crossings(detection, ladder, marks, used, moment, findings)
        marks = _forecast(detection, ladder, marks, used, moment, findings)
        limits[ladder.kind] = marks
        low, high = _range(detection, ladder, marks, used, moment)
        ranges.append((ladder.kind, low, high))
        dues.extend(_dues(detection, ladder, marks, used, moment))
    for kind in seen.limits.keys() - limits.keys():
        limits[kind] = _gone(kind, seen.limits[kind], amount_of(amounts, kind), findings)
    told = {kind: marks for kind, marks in limits.items() if marks != NO_MARKS}
    quiet = Quiet(tuple(ranges), min(dues, default=None))
    return Look(Seen(seen.made, told), findings, quiet)


def _crossings(
    detection: Detection,
    ladder: Ladder,
    marks: Marks,
    used: int,
    moment: Moment,
    findings: list[Finding],
) -> Marks:
    before, step = marks, crossing.step(marks, ladder.rungs, used)
    marks = step.marks
    _recovery(ladder.kind, ladder.limit, before, step, used, findings)
    for threshold in step.risen:
        episode = marks.crossed[threshold].episode
        findings.append(
            Finding("crossed", ladder.kind, ladder.limit, used, episode, threshold, step.risen)
        )
    if step.risen:
        return msgspec.structs.replace(marks, told_at_ms=moment.now_ms)
    if _repeats(detection, marks, moment) and not 0 <= moment.now_ms - marks.told_at_ms < (
        detection.repeat_ms
    ):
        marks, highest = crossing.repeated(marks, ladder.rungs, used)
        if highest is not None:
            marks = msgspec.structs.replace(marks, told_at_ms=moment.now_ms)
            told = marks.crossed[highest]
            findings.append(
                Finding(
                    "crossed",
                    ladder.kind,
                    ladder.limit,
                    used,
                    told.episode,
                    highest,
                    (highest,),
                    told.repeat,
                )
            )
    return marks


def _repeats(detection: Detection, marks: Marks, moment: Moment) -> bool:
    return moment.is_current and bool(marks.crossed) and not detection.alert_once_per_threshold


def _recovery(
    kind: LimitKind,
    limit: int | None,
    before: Marks,
    step: Step,
    used: int,
    findings: list[Finding],
) -> None:
    """One event for all that is armed again."""
    if step.fallen:
        lowest = step.fallen[0]
        findings.append(
            Finding(
                "recovered",
                kind,
                limit,
                used,
                step.marks.armed[lowest],
                lowest,
                step.fallen,
                number=before.recoveries,
            )
        )


def _forecast(
    detection: Detection,
    ladder: Ladder,
    marks: Marks,
    used: int,
    moment: Moment,
    findings: list[Finding],
) -> Marks:
    course, limit = moment.course, ladder.limit
    if course is None or limit == 0:
        return marks
    if marks.is_forecast:
        return _no_forecast(marks) if used <= course.recovered_to(limit) else marks
    if not detection.include_forecast or not course.exceeded_from(limit) <= used < limit:
        return marks
    number = marks.forecasts
    findings.append(
        Finding("forecast", ladder.kind, limit, used, number, number=number, course=course)
    )
    return msgspec.structs.replace(marks, is_forecast=True)


def _no_forecast(marks: Marks) -> Marks:
    """It may be told again; that it is not so any more is not told."""
    return msgspec.structs.replace(marks, is_forecast=False, forecasts=marks.forecasts + 1)


def _gone(kind: LimitKind, marks: Marks, used: int, findings: list[Finding]) -> Marks:
    """A limit was taken away."""
    step = crossing.without_limit(marks)
    _recovery(kind, None, marks, step, used, findings)
    return _no_forecast(step.marks) if marks.is_forecast else step.marks


def _range(
    detection: Detection, ladder: Ladder, marks: Marks, used: int, moment: Moment
) -> tuple[int, int]:
    """The amounts that change nothing, now and later: a projection only falls with time."""
    low, high = crossing.quiet_range(marks, ladder.rungs)
    lowest = crossing.crossed_from(marks, ladder.rungs)
    if used < lowest and _repeats(detection, marks, moment):
        high = min(high, lowest)  # from there on it is repeated again
    course, limit = moment.course, ladder.limit
    if course is None or limit == 0:
        return low, high
    if marks.is_forecast:
        return max(low, course.recovered_to(limit) + 1), high
    if not detection.include_forecast:
        return low, high
    if used < limit:
        return low, min(high, course.exceeded_from(limit))
    return max(low, limit), high


def _dues(
    detection: Detection, ladder: Ladder, marks: Marks, used: int, moment: Moment
) -> Iterator[int]:
    """When there is something to be told, or to be armed, though nothing moves."""
    if used >= crossing.crossed_from(marks, ladder.rungs) and _repeats(detection, marks, moment):
        yield marks.told_at_ms + detection.repeat_ms
    if marks.is_forecast and moment.course is not None and ladder.limit:
        at_s = moment.course.recovers_at_s(used, ladder.limit)
        if at_s is not None:
            yield moment.start_ms + 1_000 * at_s


NOTHING_SEEN = Seen()
