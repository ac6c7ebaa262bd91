"""Crossings: what of one totals partition's budgets is to be told as alerts, each once.

What was told of a (scope, window) is kept in a table, whose changelog is written behind the alerts
in the same flush: a replay, a restart, a rebalance or a late batch finds it told. What a crash
between the two has repeated bears the id that it had. Looked at is each window that has moved and
has begun, also one that is over by now; by themselves, only the current ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from outlay.alert import encode_alert
from outlay.alerting import About, alert_about
from outlay.budget import Amounts
from outlay.detection import Detection, Watch, detection_of
from outlay.looking import NOTHING_SEEN, Moment, Seen, look
from outlay.scope import Scope
from streams import messages
from streams.alert_defaults import DEFAULTS_SUFFIX, ToldDefaults, organization_scope
from streams.batch import SourceRecord
from streams.budgets import Budgets, BudgetState
from streams.flush import Message
from streams.looks import Looks
from streams.moments import Now, kind_of, now_of
from streams.totals import Totals

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Seen).decode


class Crossings:
    """What was told of the windows of one totals partition, and what is to be looked at."""

    def __init__(self, totals: Totals, budgets: Budgets) -> None:
        self.defaults = ToldDefaults()
        self.seen: dict[str, dict[str, Seen]] = {}
        """By window and scope, only where something was told."""
        self._totals = totals
        self._budgets = budgets
        self._moved: dict[str, set[str]] = defaultdict(set)
        self._changed: set[str] = set()
        self._told: set[str] = set()
        self._looks = Looks()
        self._watches: dict[str, tuple[int, Detection | None, Watch]] = {}
        self._dirty: set[tuple[str, str]] = set()
        self._phase: tuple[str, list[bool]] | None = None

    # -- recovery

    def load(self, records: Sequence[SourceRecord]) -> None:
        """Take over records of the changelog, in their order."""
        for record in records:
            key, value = messages.key_of(record), record.value
            if key.endswith(DEFAULTS_SUFFIX):
                self.defaults.load(key, value)
                continue
            scope, window = messages.parse_changelog_key(key)
            if value is None:
                self.seen.get(window, {}).pop(scope, None)
            else:
                self.seen.setdefault(window, {})[scope] = _decode(value)

    # -- reading

    def moved(self, window: str, scopes: set[str]) -> None:
        """A window's totals of some scopes with budgets may have changed."""
        self._moved[window] |= scopes

    def changed(self, scopes: set[str]) -> None:
        """The budgets or alert configurations of some scopes may have changed."""
        self._changed |= scopes

    def told_defaults(self, scopes: set[str]) -> None:
        """The defaults of some organizations have changed: their budgets are looked at anew."""
        self._told |= scopes

    @property
    def waiting(self) -> bool:
        """Whether something that was read is not looked at yet."""
        return self._looks.waiting

    # -- looking

    def detect(self, now_ms: int) -> Iterator[Message]:
        """The messages for the alerts topic now, in their order; they count as published."""
        now = now_of(now_ms)
        if now.phase != self._phase:
            self._begin_phase(now)
        self._take_changed(now)
        self._take_told(now)
        self._take_moved(now)
        self._looks.take_due(now_ms)
        moments: dict[str, Moment] = {}
        for window, scope, used in self._asked(now):
            if not self._looks.is_quiet(window, scope, used):
                moment = moments.get(window) or moments.setdefault(window, now.moment(window))
                yield from self._look(scope, window, used, moment, now)

    def _asked(self, now: Now) -> Iterator[tuple[str, str, Amounts]]:
        """The windows and scopes to be looked at now, with what is used."""
        asked: defaultdict[str, list[str]] = defaultdict(list)
        for window, scope in self._looks.take():
            if self._totals.floor.forgets(window):
                continue
            if now.has_begun(window):
                asked[window].append(scope)
            else:  # any more: the clock was set back
                self._await(window, {scope})
        for window, scopes in asked.items():
            for scope, used in zip(scopes, self._totals.amounts(scopes, window), strict=True):
                yield window, scope, used

    def _take_moved(self, now: Now) -> None:
        moved, self._moved = self._moved, defaultdict(set)
        for window, scopes in moved.items():
            if self._totals.floor.forgets(window):
                continue
            if now.has_begun(window):
                self._looks.moved(window, scopes, self._totals.amounts)
            else:
                self._await(window, scopes)

    def _look(
        self, scope: str, window: str, used: Amounts, moment: Moment, now: Now
    ) -> Iterator[Message]:
        state = self._budgets.states.get(scope)
        if state is None or state.budget is None or scope in self._budgets.awaited:
            return
        watch, before = self._watch(scope, state), self._seen(scope, window, state)
        found = look(watch.detection, watch.ladders(kind_of(window)), before, used, moment)
        self._keep(scope, window, found.seen if found.seen.limits else None)
        self._looks.found(window, scope, found.quiet)
        if found.findings:
            about = self._about(scope, window, state, now)
            for finding in found.findings:
                yield scope.encode(), encode_alert(alert_about(about, finding, now.at))

    def _seen(self, scope: str, window: str, state: BudgetState) -> Seen:
        """What was told of a budget's window; of one that was deleted before it is gone."""
        seen = self.seen.get(window, {}).get(scope, NOTHING_SEEN)
        return Seen(state.made, seen.limits if seen.made == state.made else {})

    def _watch(self, scope: str, state: BudgetState) -> Watch:
        assert state.budget is not None
        told = None if state.alerts is not None else self.defaults.detection(scope)
        version, known, watch = self._watches.get(scope, (-1, None, None))
        if watch is None or version != state.version or known is not told:
            detection = detection_of(state.alerts) if state.alerts is not None else told
            assert detection is not None
            watch = Watch(state.budget, detection)
            self._watches[scope] = (state.version, told, watch)
        return watch

    def _about(self, scope: str, window: str, state: BudgetState, now: Now) -> About:
        assert state.budget is not None
        kind = kind_of(window)
        day = window if kind == "day" else now.day
        month = window if kind == "month" else now.month
        spent = self._totals.joined([scope], (day, month))
        return About(
            scope=scope,
            organization_id=Scope.parse(scope).organization_id,
            window=window,
            window_kind=kind,
            budget=state.budget,
            version=state.version,
            made=state.made,
            daily_spent_nano=spent[day].amounts[0].cost_nano,
            monthly_spent_nano=spent[month].amounts[0].cost_nano,
        )

    # -- what is to be looked at by itself

    def _begin_phase(self, now: Now) -> None:
        """A window began, or is old enough to be projected, or the ownership began."""
        if self._phase is None:  # a deletion may have been cut off from what it took away
            states = self._budgets.states
            scopes = {scope for told in self.seen.values() for scope in told}
            self._changed |= {s for s in scopes if s not in states or states[s].budget is None}
        self._phase = now.phase
        self._looks.begin()
        current = [s for s, state in self._budgets.states.items() if state.budget is not None]
        self._looks.anew(current, now.courses)
        for window, seen in self.seen.items():
            waiting = [scope for scope, told in seen.items() if told.waits]
            if waiting and now.has_begun(window):
                self._looks.anew(waiting, [window])

    def _take_changed(self, now: Now) -> None:
        for scope in self._changed:
            state = self._budgets.states.get(scope)
            if state is not None and state.budget is not None:
                self._looks.changed(scope, now.courses)
                continue
            self._watches.pop(scope, None)
            self._looks.changed(scope, ())
            for window in list(self.seen):
                self._keep(scope, window, None)
        self._changed.clear()

    def _take_told(self, now: Now) -> None:
        """An organization's defaults concern those of its budgets that have none of their own."""
        if self._told:
            states = self._budgets.states.items()
            concerned = [
                scope
                for scope, state in states
                if state.alerts is None
                and state.budget is not None
                and organization_scope(scope) in self._told
            ]
            self._looks.anew_changed(concerned, now.courses)
            self._told.clear()

    def _await(self, window: str, scopes: set[str]) -> None:
        """Remember that a window that has not begun was moved: its records are committed.

        By the clock of an owner before, it may have begun, and things were told of it.
        """
        for scope in scopes:
            state = self._budgets.states.get(scope)
            if state is not None and state.budget is not None:
                seen = self._seen(scope, window, state)
                self._keep(scope, window, msgspec.structs.replace(seen, waits=True))

    # -- writing

    def _keep(self, scope: str, window: str, seen: Seen | None) -> None:
        if self.seen.get(window, {}).get(scope) == seen:
            return
        if seen is None:
            del self.seen[window][scope]
        else:
            self.seen.setdefault(window, {})[scope] = seen
        self._dirty.add((scope, window))

    def forget(self, before_day: int) -> None:
        """Drop what is kept of forgotten windows, and of defaults since before a day."""
        for window in list(filter(self._totals.floor.forgets, self.seen)):
            self._dirty.update((scope, window) for scope in self.seen.pop(window))
        self.defaults.forget(before_day)

    def take_changes(self) -> Iterator[Message]:
        """The changelog records of all that changed; they count as written from then on."""
        for scope, window in self._dirty:
            seen = self.seen.get(window, {}).get(scope)
            yield f"{scope} {window}".encode(), None if seen is None else _encode(seen)
        self._dirty.clear()
        yield from self.defaults.take_changes()
