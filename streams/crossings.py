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
from outlay.looking import NOTHING_SEEN, Moment, Quiet, Seen, look
from outlay.scope import Scope
from streams import messages
from streams.alert_defaults import DEFAULTS_SUFFIX, ToldDefaults, organization_scope
from streams.batch import SourceRecord
from streams.budgets import Budgets, BudgetState
from streams.flush import Message
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
        self._quiet: dict[str, dict[str, Quiet]] = defaultdict(dict)
        self._due: dict[tuple[str, str], int] = {}
        self._next_due_ms = 0
        self._watches: dict[str, tuple[int, Detection, Watch]] = {}
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

    def changed(self, scope: str) -> None:
        """A scope's budget or alert configuration may have changed."""
        self._changed.add(scope)

    def told_defaults(self, scopes: set[str]) -> None:
        """The defaults of some organizations have changed: their budgets are looked at anew."""
        for scope, state in self._budgets.states.items():
            if state.alerts is None and organization_scope(scope) in scopes:
                self._changed.add(scope)

    # -- looking

    def detect(self, now_ms: int) -> Iterator[Message]:
        """The messages for the alerts topic now, in their order; they count as published."""
        now = now_of(now_ms)
        if now.phase != self._phase:
            self._begin_phase(now)
        self._take_changed(now)
        self._take_due(now_ms)
        moved, self._moved = self._moved, defaultdict(set)
        for window, scopes in moved.items():
            if self._totals.is_forgotten(window):
                continue
            if not now.has_begun(window):
                self._await(window, scopes)
                continue
            yield from self._look_at(window, scopes, now)

    def _look_at(self, window: str, scopes: set[str], now: Now) -> Iterator[Message]:
        moment, quiet = now.moment(window), self._quiet[window]
        amounts = self._totals.amounts
        for scope in scopes:
            used, known = amounts(scope, window), quiet.get(scope)
            if known is None or not known.holds(used):
                yield from self._look(scope, window, used, moment, now)

    def _look(
        self, scope: str, window: str, used: Amounts, moment: Moment, now: Now
    ) -> Iterator[Message]:
        state = self._budgets.states.get(scope)
        if state is None or state.budget is None:
            return
        watch, before = self._watch(scope, state), self._seen(scope, window, state)
        found = look(watch.detection, watch.ladders(kind_of(window)), before, used, moment)
        self._keep(scope, window, found.seen if found.seen.limits else None)
        self._quiet[window][scope] = found.quiet
        self._plan((window, scope), found.quiet.due_ms)
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
        if state.alerts is not None:
            detection = detection_of(state.alerts)
        else:
            detection = self.defaults.detection(scope)
        version, known, watch = self._watches.get(scope, (-1, None, None))
        if watch is None or version != state.version or known != detection:
            watch = Watch(state.budget, detection)
            self._watches[scope] = (state.version, detection, watch)
        return watch

    def _about(self, scope: str, window: str, state: BudgetState, now: Now) -> About:
        assert state.budget is not None
        kind = kind_of(window)
        day = window if kind == "day" else now.day
        month = window if kind == "month" else now.month
        return About(
            scope=scope,
            organization_id=Scope.parse(scope).organization_id,
            window=window,
            window_kind=kind,
            budget=state.budget,
            version=state.version,
            made=state.made,
            daily_spent_nano=self._totals.amounts(scope, day).cost_nano,
            monthly_spent_nano=self._totals.amounts(scope, month).cost_nano,
        )

    # -- what is to be looked at by itself

    def _begin_phase(self, now: Now) -> None:
        """A window began, or is old enough to be projected, or the ownership began."""
        if self._phase is None:  # a deletion may have been cut off from what it took away
            states = self._budgets.states
            scopes = {scope for told in self.seen.values() for scope in told}
            self._changed |= {s for s in scopes if s not in states or states[s].budget is None}
        self._phase = now.phase
        self._quiet.clear()
        self._due.clear()
        current = {s for s, state in self._budgets.states.items() if state.budget is not None}
        for window in now.courses:
            self._moved[window] |= current
        for window, seen in self.seen.items():
            waiting = {scope for scope, told in seen.items() if told.waits}
            if waiting and now.has_begun(window):
                self._moved[window] |= waiting

    def _take_changed(self, now: Now) -> None:
        for scope in self._changed:
            for quiet in self._quiet.values():
                quiet.pop(scope, None)
            state = self._budgets.states.get(scope)
            if state is None or state.budget is None:
                self._watches.pop(scope, None)
                for window in list(self.seen):
                    self._keep(scope, window, None)
            else:
                for window in now.courses:
                    self._moved[window].add(scope)
        self._changed.clear()

    def _await(self, window: str, scopes: set[str]) -> None:
        """Remember that a window that has not begun was moved: its records are committed.

        By the clock of an owner before, it may have begun, and things were told of it.
        """
        for scope in scopes:
            state = self._budgets.states.get(scope)
            if state is not None and state.budget is not None:
                seen = self._seen(scope, window, state)
                self._keep(scope, window, msgspec.structs.replace(seen, waits=True))

    def _plan(self, key: tuple[str, str], due_ms: int | None) -> None:
        if due_ms is None:
            self._due.pop(key, None)
        else:
            self._due[key] = due_ms
            self._next_due_ms = min(self._next_due_ms, due_ms)

    def _take_due(self, now_ms: int) -> None:
        if now_ms < self._next_due_ms or not self._due:
            return
        for window, scope in [key for key, due_ms in self._due.items() if due_ms <= now_ms]:
            del self._due[window, scope]
            self._quiet[window].pop(scope, None)
            self._moved[window].add(scope)
        self._next_due_ms = min(self._due.values(), default=now_ms)

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
        for window in [window for window in self.seen if self._totals.is_forgotten(window)]:
            self._dirty.update((scope, window) for scope in self.seen.pop(window))
        self.defaults.forget(before_day)

    def take_changes(self) -> Iterator[Message]:
        """The changelog records of all that changed; they count as written from then on."""
        for scope, window in self._dirty:
            seen = self.seen.get(window, {}).get(scope)
            yield f"{scope} {window}".encode(), None if seen is None else _encode(seen)
        self._dirty.clear()
        yield from self.defaults.take_changes()
