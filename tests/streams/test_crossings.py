"""Alerts of the totals stage against a model of the rule, over whatever may happen."""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlay import looking
from outlay.alert import Alert
from outlay.looking import Quiet
from streams.crossings import Crossings
from tests.streams.alert_rig import ORGANIZATION, SCOPE, Rig
from tests.streams.crossing_model import Config, CrossingModel, Expected, edges

START = datetime(2026, 2, 26, 21, 0, tzinfo=UTC)
LIMITS = {
    "monthly_budget_usd": ("month", "cost"),
    "daily_budget_usd": ("day", "cost"),
    "daily_execution_limit": ("day", "executions"),
}
THRESHOLDS = (("0.5", "0.75", "0.9", "1"), ("0.25", "0.9", "1.5"), ("1",), ())
DEFAULT = Config(tuple(map(Fraction, THRESHOLDS[0])))
CRASHES = (None, None, None, None, "changelog", "offsets")


class Told:
    """A scope, what it uses, the product's alerts and the model's, step by step."""

    def __init__(self, seed: int) -> None:
        self.rng, self.saving = random.Random(seed), random.Random(seed)
        self.rig = Rig(START)
        self.model = CrossingModel()
        self.used: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.limits: dict[str, Fraction | None] = dict.fromkeys(LIMITS)
        self.own: Config | None = None
        self.organization: Config | None = None
        self.told_of_organization: Config | None = None
        self.moved: set[str] = set()
        self.uncommitted: set[str] = set()
        self.ids: dict[str, Expected] = {}
        for scope in (SCOPE, ORGANIZATION):
            self.rig.ask("put", scope)
        self.change_limit()
        assert not self.rig.flush()

    # -- what happens

    def use(self) -> None:
        """A record, or a correction: of today, of yesterday, or of tomorrow."""
        at = self.rig.now + timedelta(days=self.rng.choice((0, 0, 0, -1, 1)))
        day = at.strftime("%Y-%m-%d")
        cost, count = self.rng.choice((1, 2, 5, 9, 20, -3, -8)), self.rng.randint(0, 4)
        for window in (day, day[:7]):
            self.used[window][0] += cost * 10**8
            self.used[window][1] += count
            self.moved.add(window)
            self.uncommitted.add(window)
        self.rig.use({w: (self.used[w][0], self.used[w][1]) for w in (day, day[:7])})

    def change_limit(self) -> None:
        name = self.rng.choice(list(LIMITS))
        limit = self.rng.choice((None, 0, 1, 2, 4, 8))
        self.rig.ask("patch", **{name: None if limit is None else limit})
        scale = 10**9 if name.endswith("_usd") else 1
        self.limits[name] = None if limit is None else Fraction(limit * scale)

    def change_config(self) -> None:
        config, changes = self._config()
        if self.rng.random() < 0.7:
            self.rig.ask("put_alerts", **changes)
            self.own = config
        else:
            self.rig.ask("delete_alerts")  # refused where there is none
            self.own = None

    def change_organization(self) -> None:
        config, changes = self._config()
        if self.rng.random() < 0.7:
            self.rig.ask("put_alerts", ORGANIZATION, **changes)
            self.organization = config
        else:
            self.rig.ask("delete_alerts", ORGANIZATION)
            self.organization = None

    def _config(self) -> tuple[Config, dict[str, Any]]:
        thresholds = self.rng.choice(THRESHOLDS)
        once, forecast = self.rng.random() < 0.6, self.rng.random() < 0.7
        minutes = self.rng.choice((0, 15, 240))
        changes = {
            "thresholds": list(thresholds),
            "alert_once_per_threshold": once,
            "include_forecast": forecast,
            "cooldown_minutes": minutes,
        }
        pause = timedelta(minutes=minutes)
        return Config(tuple(map(Fraction, thresholds)), once, forecast, pause), changes

    def restart(self) -> None:
        """What was not committed is read again."""
        self.rig.restart()
        self.moved |= self.uncommitted

    def flush(self) -> None:
        """Compare what is told with the model's; a crash takes both back."""
        seconds = self.rng.choice((0, 1, 30, 61, 900, 3_600, 8 * 3_600, 20 * 3_600))
        self.rig.now += timedelta(seconds=seconds)
        crash = self.rng.choice(CRASHES)
        before, moved = copy.deepcopy(self.model), set(self.moved)
        want = self._expected()
        self.told_of_organization = self.organization
        told = self.rig.flush(crash, saves=self.saving.random() < 0.5)
        assert by_limit(map(self._said, told)) == by_limit(want)
        if crash == "changelog":
            self.model = before
            self.moved |= moved
        if crash is not None:
            self.moved |= self.uncommitted
        elif self.rig.state.positions == self.rig.committed:
            self.uncommitted.clear()

    def _expected(self) -> list[Expected]:
        now, config = self.rig.now, self.own or self.told_of_organization or DEFAULT
        day = now.strftime("%Y-%m-%d")
        begun = {w for w in self.moved if edges(w)[0] <= now}
        self.moved -= begun
        found = []
        for window in sorted(begun | {day, day[:7]}):
            for name, (kind_of_window, kind) in LIMITS.items():
                if (len(window) > 7) == (kind_of_window == "day"):
                    used = self.used[window][kind != "cost"]
                    limit = self.limits[name]
                    found += self.model.look(window, kind, used, limit, config, now)
        return found

    def _said(self, alert: Alert) -> Expected:
        what = {"budget.recovered": "recovered", "budget.forecast": "forecast"}
        threshold = None if alert.threshold is None else Fraction(alert.threshold)
        said = Expected(
            what.get(alert.event, "crossed"),
            alert.window,
            alert.limit_kind,
            threshold,
            alert.episode,
            alert.repeat,
            tuple(map(Fraction, alert.step)),
        )
        first = self.ids.setdefault(alert.alert_id, said)
        if said.what != "recovered":  # of a recovery the id counts: what it names may be more
            assert first._replace(step=()) == said._replace(step=())
        return said


def by_limit(told: Any) -> dict[tuple[str, str], list[Expected]]:
    """What is told of each limit of each window, in its order."""
    found: dict[tuple[str, str], list[Expected]] = defaultdict(list)
    for each in told:
        found[each.window, each.kind].append(each)
    return dict(found)


ACTIONS: tuple[Callable[[Told], None], ...] = (
    *(Told.use,) * 5,
    *(Told.flush,) * 5,
    Told.change_limit,
    Told.change_config,
    Told.change_organization,
    Told.restart,
)


def run(seed: int, length: int) -> Told:
    told = Told(seed)
    for _ in range(length):
        told.rng.choice(ACTIONS)(told)
    told.flush()
    return told


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_alerts_are_those_of_the_rule_whatever_happens(seed: int, length: int) -> None:
    """Random usage, late and early, corrections, limits, configurations, restarts, crashes."""
    run(seed, length)


@pytest.mark.parametrize("seed", range(25))
def test_long_runs_tell_what_the_rule_says(seed: int) -> None:
    """Over months; and much is told."""
    told = run(seed, 400)
    assert {said.what for said in told.ids.values()} >= {"crossed", "recovered"}


# -- tests of the tests: the model must notice


def breaks() -> bool:
    """Whether one of the first runs differs from the model."""
    for seed in range(12):
        try:
            run(seed, 150)
        except AssertionError:
            return True
    return False


def test_without_what_was_told_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new owner would tell everything again."""
    monkeypatch.setattr(Crossings, "load", lambda self, records: None)
    assert breaks()


def test_a_quiet_range_that_is_too_wide_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What crosses would not be looked at."""
    monkeypatch.setattr(Quiet, "holds", lambda self, amounts: True)
    assert breaks()


def test_without_what_is_due_by_itself_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing would be repeated, and a projection that falls with time would not recover."""
    monkeypatch.setattr(looking, "_dues", lambda *args: iter(()))
    assert breaks()


def test_without_windows_that_wait_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before its window began would be forgotten by a restart."""
    assert not is_lost_over_two_days()
    monkeypatch.setattr(Crossings, "_await", lambda self, window, scopes: None)
    assert is_lost_over_two_days()


def is_lost_over_two_days() -> bool:
    """Whether tomorrow's crossing is lost when nobody runs tomorrow."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=1)
    rig.flush()
    rig.use({"2026-02-27": (0, 5)})
    rig.flush()
    rig.now += timedelta(days=2)
    rig.restart()
    return not [a for a in rig.flush() if a.window == "2026-02-27"]
