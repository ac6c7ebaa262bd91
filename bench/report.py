"""Report: what one benchmark measured, what of it is a goal, and whether it was correct."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

_PACKAGES = (
    "outlay", "aiokafka", "faust-streaming", "msgspec", "clickhouse-connect", "chdb",
    "quixstreams", "redis",
)  # fmt: skip


class Goal(msgspec.Struct, frozen=True):
    """A figure that was promised: `goal` says the bound, as `>= 0.6`."""

    name: str
    value: float
    goal: str
    met: bool


class Result(msgspec.Struct, frozen=True):
    """What `--json` writes. `results` are medians over the rounds, with their unit in the name."""

    bench: str
    machine: str
    versions: dict[str, str]
    rounds: int
    results: dict[str, float]
    ratios: dict[str, float]
    goals: list[Goal]
    correct: bool
    wrong: list[str]
    """What was found to be incorrect."""
    skipped: dict[str, str]
    """What was not measured, and why."""
    notes: list[str]


@dataclass
class Report:
    """Collects the result of one benchmark while it runs."""

    bench: str
    rounds: int
    say: Callable[[str], None]
    samples: dict[str, list[float]] = field(default_factory=dict)
    _ratios: dict[str, float] = field(default_factory=dict)
    _goals: list[Goal] = field(default_factory=list)
    _wrong: list[str] = field(default_factory=list)
    _skipped: dict[str, str] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)

    def measure(self, variants: Mapping[str, Callable[[], float]], *, warmups: int = 1) -> None:
        """Run each variant once a round, in turn, so that all meet the same weather.

        A variant returns its figure; its name carries the unit. Warm-ups are thrown away, with
        what variants add besides.
        """
        kept = {name: list(values) for name, values in self.samples.items()}
        for number in range(-warmups, self.rounds):
            if number == 0:
                self.samples = kept
            for name, variant in variants.items():
                value = variant()
                when = "warm-up" if number < 0 else f"round {number + 1} of {self.rounds}"
                self.say(f"{self.bench}: {name} {show(value)} ({when})")
                if number >= 0:
                    self.add(name, value)

    def add(self, name: str, value: float) -> None:
        """One round's figure."""
        self.samples.setdefault(name, []).append(value)

    def value(self, name: str) -> float:
        """The median of a figure over the rounds so far."""
        return median(self.samples[name])

    def ratio(self, name: str, value: str, baseline: str) -> float | None:
        """The ratio of two figures of this run; None where one was not measured."""
        if value not in self.samples or baseline not in self.samples:
            return None
        self._ratios[name] = self.value(value) / self.value(baseline)
        return self._ratios[name]

    def goal(
        self,
        name: str,
        value: float | None,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Hold a figure against its bound; None: it was not measured, and is no goal here."""
        if value is None:
            return
        if at_least is not None:
            self._goals.append(Goal(name, value, f">= {show(at_least)}", value >= at_least))
        if at_most is not None:
            self._goals.append(Goal(name, value, f"<= {show(at_most)}", value <= at_most))

    def expect(self, what: str, found: Any, expected: Any) -> None:
        """Check a fact; what is not as expected makes the benchmark fail."""
        if found != expected:
            self._wrong.append(f"{what}: {_cut(found)}, expected {_cut(expected)}")

    def skip(self, name: str, why: str) -> None:
        """Say what is not measured here."""
        self._skipped[name] = why
        self.say(f"{self.bench}: {name} is skipped: {why}")

    def note(self, text: str) -> None:
        """A sentence beside the figures."""
        self._notes.append(text)

    def result(self) -> Result:
        """All of it."""
        return Result(
            bench=self.bench,
            machine=machine(),
            versions=versions(),
            rounds=self.rounds,
            results={name: median(values) for name, values in self.samples.items()},
            ratios=self._ratios,
            goals=self._goals,
            correct=not self._wrong,
            wrong=self._wrong,
            skipped=self._skipped,
            notes=self._notes,
        )


def show(value: float) -> str:
    """A figure for people: three significant digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def machine() -> str:
    """What it ran on, in a line."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}"


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter here, where they are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
