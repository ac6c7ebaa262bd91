"""What the demo's agents do, and when: a generated fleet, or a trace. Pure and deterministic."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from math import log
from random import Random
from typing import NamedTuple, Protocol

from outlay.scope import scope_keys
from outlay.trace import Prices, Roster, Trace, Who

CALLS_PER_AGENT_S = 2.0
"""How many calls an agent of the fleet attempts a second."""

INPUT_TOKENS_MEAN = 1_200
OUTPUT_TOKENS_MEAN = 400
TOKENS_SPREAD_MAX = 4.0
"""No call has more tokens than this many times the mean."""


class PlannedCall(NamedTuple):
    """One call that an agent will attempt `due_s` seconds after the start.

    What it costs is known after it only. `prompt_nano`, what its input alone costs, is what an
    agent can tell beforehand. `occurred_at` is None for the time at which it is made.
    """

    due_s: float
    who: Who
    model: str
    input_tokens: int
    output_tokens: int
    cost_nano: int
    prompt_nano: int
    occurred_at: datetime | None = None


class Workload(Protocol):
    """What a fleet does."""

    @property
    def roster(self) -> Roster:
        """Who there is."""

    def calls(self, part: int, parts: int) -> Iterator[PlannedCall]:
        """The calls of every `parts`-th agent from the `part`-th on, in the order of `due_s`."""

    def expected_nano(self, organization_id: str) -> Mapping[str, int]:
        """About what each scope would spend if nothing were blocked, by the scope's key."""


PRICE_LIST: Mapping[str, Prices] = {
    "demo-large": Prices(Decimal("5.00"), Decimal("25.00")),
    "demo-medium": Prices(Decimal("2.50"), Decimal("10.00")),
    "demo-small": Prices(Decimal("0.15"), Decimal("0.60")),
}
"""Invented models, with prices of the order that is usual."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Agents that call at random times with random numbers of tokens, the same for each seed."""

    roster: Roster
    duration_s: float
    seed: int = 0

    def calls(self, part: int, parts: int) -> Iterator[PlannedCall]:
        """The calls of some agents, in the order of their times, until the duration is over."""
        numbers = range(part, self.roster.agents, parts)
        return heapq.merge(*(self._agent(number) for number in numbers))

    def _agent(self, number: int) -> Iterator[PlannedCall]:
        random = Random(f"{self.seed}/{number}")
        who, model = self.roster.agent(number), _model(number)
        prices = PRICE_LIST[model]
        due_s = random.random() / CALLS_PER_AGENT_S
        while due_s < self.duration_s:
            tokens = _tokens(random, INPUT_TOKENS_MEAN), _tokens(random, OUTPUT_TOKENS_MEAN)
            cost_nano, prompt_nano = prices.cost_nano(*tokens), prices.cost_nano(tokens[0], 0)
            yield PlannedCall(due_s, who, model, *tokens, cost_nano, prompt_nano)
            due_s += (0.5 + random.random()) / CALLS_PER_AGENT_S

    def expected_nano(self, organization_id: str) -> Mapping[str, int]:
        """The sums of what is planned, exactly."""
        return _sums(organization_id, self.calls(0, 1))


@dataclass(frozen=True, slots=True)
class Replay:
    """A trace, its times shifted so that it ends at `now`, replayed within `duration_s`."""

    trace: Trace
    roster: Roster
    duration_s: float
    now: datetime
    prices: Prices = field(default_factory=Prices)

    def calls(self, part: int, parts: int) -> Iterator[PlannedCall]:
        """The trace's calls of some agents, at an even pace."""
        shift = self.trace.shift_within_day(self.now)
        numbers = range(part, self.roster.agents, parts)
        agents = {self.roster.agent(number).agent_id for number in numbers}
        for call in self.trace.calls():
            who = self.roster.caller(call.number)
            if who.agent_id in agents:
                tokens = call.input_tokens, call.output_tokens
                yield PlannedCall(
                    self.duration_s * call.number / self.trace.count,
                    who,
                    "trace",
                    *tokens,
                    self.prices.cost_nano(*tokens),
                    self.prices.cost_nano(call.input_tokens, 0),
                    call.at + shift,
                )

    def expected_nano(self, organization_id: str) -> Mapping[str, int]:
        """What the trace's calls cost."""
        return _sums(organization_id, self.calls(0, 1))


def _model(number: int) -> str:
    names = tuple(PRICE_LIST)
    return names[number % len(names)]


def _tokens(random: Random, mean: int) -> int:
    """Exponentially distributed, from 1 on, and cut where it would be far off."""
    return 1 + int(mean * min(-log(1.0 - random.random()), TOKENS_SPREAD_MAX))


def _sums(organization_id: str, calls: Iterator[PlannedCall]) -> Mapping[str, int]:
    sums: defaultdict[str, int] = defaultdict(int)
    for call in calls:
        who = call.who
        for key in scope_keys(organization_id, who.team_id, who.user_id, who.agent_id):
            sums[key] += call.cost_nano
    return sums
