"""Record sums: usage that came record by record, added up by whose it is.

An agent's records nearly always come from one team and one user, so they are found by the agent
alone: one look-up a record. What an agent does for others is summed beside it. Of many agents there
is but one record: it is added to the singles of its user at once, and kept as it is until there is
a second.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from itertools import chain
from sys import intern

import numpy as np

from outlay.scope import quote_id, quote_ids
from outlay.usage import UsageRecord
from streams.amounts import Amounts, add, rows, summed
from streams.whose import AgentPrefixes, Whose
from streams.window_table import Rows, numbers


class _Singles:
    """What agents with one record each used for one user of one team."""

    __slots__ = (
        "agent_prefix", "cost_nano", "executions", "input_tokens", "organization_id",
        "output_tokens", "team_id", "user_id",
    )  # fmt: skip

    def __init__(self, whose: Whose, agent_prefix: str) -> None:
        organization_id, team_id, self.user_id = whose
        # Interned: many have these, and comparing with them then takes no trip to memory.
        self.organization_id = intern(organization_id)
        self.team_id = None if team_id is None else intern(team_id)
        self.agent_prefix = agent_prefix
        self.cost_nano = self.executions = self.input_tokens = self.output_tokens = 0


class _Sum:
    """What one agent used for them."""

    __slots__ = (
        "cost_nano", "executions", "input_tokens", "organization_id", "output_tokens", "singles",
        "team_id", "user_id",
    )  # fmt: skip

    def __init__(self, singles: _Singles) -> None:
        self.singles = singles
        # At hand in here, too: each record's are compared with them.
        self.organization_id = singles.organization_id
        self.team_id = singles.team_id
        self.user_id = singles.user_id
        self.cost_nano = self.executions = self.input_tokens = self.output_tokens = 0


class RecordSums:
    """The usage of some records of one day."""

    def __init__(self) -> None:
        self._single: dict[str, tuple[_Singles, int, int, int, int]] = {}  # by agent, its one
        self._several: dict[str, _Sum] = {}  # by agent, of which there are more
        self._others: dict[tuple[_Singles, str], _Sum] = {}  # what either did for others
        self._singles: dict[Whose, _Singles] = {}
        self._prefixes = AgentPrefixes()
        self._users: dict[str | None, _Singles] = {}  # by user, which of them was met last

    def __len__(self) -> int:
        """How many sums there are."""
        return len(self._single) + len(self._several) + len(self._others)

    def add(self, records: Iterable[UsageRecord], costs_nano: Iterable[int]) -> None:
        """Add records with their costs, in nano-dollars."""
        single, several_of, singles_of = self._single, self._several.get, self._users.get
        for record, cost_nano in zip(records, costs_nano, strict=True):
            held = several_of(record.agent_id)
            if held is None:
                agent_id = record.agent_id
                if agent_id not in single:
                    singles = singles_of(record.user_id)
                    if (
                        singles is None
                        or singles.team_id != record.team_id
                        or singles.organization_id != record.organization_id
                    ):
                        singles = self._singles_of(record)
                    executions = record.executions
                    input_tokens, output_tokens = record.input_tokens, record.output_tokens
                    single[agent_id] = singles, cost_nano, executions, input_tokens, output_tokens
                    singles.cost_nano += cost_nano
                    singles.executions += executions
                    singles.input_tokens += input_tokens
                    singles.output_tokens += output_tokens
                    continue
                held = self._second(record)
            elif (
                held.user_id != record.user_id
                or held.team_id != record.team_id
                or held.organization_id != record.organization_id
            ):
                held = self._other(record)
            held.cost_nano += cost_nano
            held.executions += record.executions
            held.input_tokens += record.input_tokens
            held.output_tokens += record.output_tokens

    def _singles_of(self, record: UsageRecord) -> _Singles:
        whose = record.organization_id, record.team_id, record.user_id
        found = self._singles.get(whose)
        if found is None:
            found = self._singles[whose] = _Singles(whose, self._prefixes[whose[0]])
        self._users[record.user_id] = found
        return found

    def _second(self, record: UsageRecord) -> _Sum:
        """Where to add a record whose agent had a single one so far."""
        agent_id = record.agent_id
        singles, cost_nano, executions, input_tokens, output_tokens = self._single[agent_id]
        if (
            singles.user_id != record.user_id
            or singles.team_id != record.team_id
            or singles.organization_id != record.organization_id
        ):
            return self._other(record)
        held = self._several[agent_id] = _Sum(singles)
        held.cost_nano, held.executions = cost_nano, executions
        held.input_tokens, held.output_tokens = input_tokens, output_tokens
        singles.cost_nano -= cost_nano
        singles.executions -= executions
        singles.input_tokens -= input_tokens
        singles.output_tokens -= output_tokens
        del self._single[agent_id]
        return held

    def _other(self, record: UsageRecord) -> _Sum:
        """Where to add a record whose agent was first met with someone else."""
        key = self._singles_of(record), record.agent_id
        held = self._others.get(key)
        if held is None:
            held = self._others[key] = _Sum(key[0])
        return held

    def by_agent(self) -> tuple[list[str], Rows]:
        """What each agent used, by scope key."""
        whose, *used = list(zip(*self._single.values(), strict=True)) or [()] * 5
        prefixes = [singles.agent_prefix for singles in whose]
        prefixes += [held.singles.agent_prefix for held in self._several.values()]
        agent_ids = chain(quote_ids(self._single), quote_ids(self._several))
        agents = list(map(operator.add, prefixes, agent_ids))
        found = [numbers(used), rows([_amounts(held) for held in self._several.values()])]
        if not self._others:  # else some agents come again
            return agents, np.concatenate(found)
        agents += [who.agent_prefix + quote_id(agent_id) for who, agent_id in self._others]
        found.append(rows([_amounts(held) for held in self._others.values()]))
        return summed(agents, np.concatenate(found))

    def by_whose(self) -> tuple[list[Whose], Rows]:
        """The same by whom it was used for."""
        found = {singles: _amounts(singles) for singles in self._singles.values()}
        for held in chain(self._several.values(), self._others.values()):
            add(found[held.singles], _amounts(held))
        return list(self._singles), rows(list(found.values()))


def _amounts(held: _Singles | _Sum) -> Amounts:
    return [held.cost_nano, held.executions, held.input_tokens, held.output_tokens]
