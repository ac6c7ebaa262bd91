"""Sums: usage added up by whose it is, before it is added to any scope's total.

An agent's records nearly always come from one team and one user, so the sums are found by the agent
alone: one look-up a record. What an agent does for others is summed beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import add
from sys import intern

from outlay.scope import agent_key, quote_id, quote_ids, wide_scope_keys
from outlay.usage import UsageRecord
from outlay.window import day_ordinal, window_names
from streams.frame_sums import FrameSums, PlainFrames

Amounts = list[int]
"""Nano-dollars, executions, input tokens, output tokens."""


class _Sum:
    """What one agent used for one user of one team, in one day."""

    __slots__ = (
        "cost_nano", "executions", "input_tokens", "organization_id", "output_tokens", "team_id",
        "user_id",
    )  # fmt: skip

    def __init__(self, record: UsageRecord) -> None:
        # Interned: comparing with them then takes no trip to memory.
        self.organization_id = intern(record.organization_id)
        self.team_id = None if record.team_id is None else intern(record.team_id)
        self.user_id = None if record.user_id is None else intern(record.user_id)
        self.cost_nano = self.executions = self.input_tokens = self.output_tokens = 0


class Sums:
    """The usage of some messages."""

    def __init__(self) -> None:
        self._days: dict[int, dict[str, _Sum]] = {}
        self._others: dict[int, dict[tuple[str, str | None, str | None, str], _Sum]] = {}
        self._frames: dict[int, FrameSums] = {}
        self.size = 0
        """How many sums there are."""

    def add(self, records: Iterable[UsageRecord], costs_nano: Iterable[int], day: int) -> None:
        """Add records of one day."""
        agents = self._days.setdefault(day, {})
        get = agents.get
        for record, cost_nano in zip(records, costs_nano, strict=True):
            held = get(record.agent_id)
            if (
                held is None
                or held.user_id != record.user_id
                or held.team_id != record.team_id
                or held.organization_id != record.organization_id
            ):
                held = self._other(agents, record, day)
            held.cost_nano += cost_nano
            held.executions += record.executions
            held.input_tokens += record.input_tokens
            held.output_tokens += record.output_tokens

    def add_frames(self, frames: PlainFrames) -> bool:
        """Add the records of frames; False when they are to be added one by one instead."""
        sums = self._frames.get(frames.day)
        if sums is None:
            sums = FrameSums()
        before = len(sums)
        if not sums.add(frames):
            return False
        self._frames[frames.day] = sums
        self.size += len(sums) - before
        return True

    def add_apart(
        self, records: Iterable[UsageRecord], costs_nano: Iterable[int]
    ) -> dict[int, int]:
        """Add records of several days; returns how many there are of each."""
        days: dict[int, int] = {}
        for record, cost_nano in zip(records, costs_nano, strict=True):
            day = day_ordinal(record.occurred_at)
            days[day] = days.get(day, 0) + 1
            self.add((record,), (cost_nano,), day)
        return days

    def _other(self, agents: dict[str, _Sum], record: UsageRecord, day: int) -> _Sum:
        if record.agent_id not in agents:
            self.size += 1
            held = agents[record.agent_id] = _Sum(record)
            return held
        key = (record.organization_id, record.team_id, record.user_id, record.agent_id)
        others = self._others.setdefault(day, {})
        found = others.get(key)
        if found is None:
            self.size += 1
            found = others[key] = _Sum(record)
        return found

    def by_window(self) -> dict[str, dict[str, Amounts]]:
        """The sums by window name and scope key, each once."""
        windows: dict[str, dict[str, Amounts]] = {}
        merged: set[str] = set()
        for day in self._days.keys() | self._frames.keys():
            scopes = self._by_scope(day)
            for window in window_names(day):
                held = windows.setdefault(window, scopes)
                if held is scopes:
                    continue  # the only one so far: of the day and of the month alike
                if window not in merged:
                    merged.add(window)
                    held = windows[window] = {scope: a.copy() for scope, a in held.items()}
                for scope, amounts in scopes.items():
                    _add(held, scope, amounts)
        return windows

    def alike(self) -> Iterator[tuple[list[str], dict[str, Amounts]]]:
        """The same by scope key, with the names of the windows that have just these sums."""
        found: dict[int, tuple[list[str], dict[str, Amounts]]] = {}
        for window, scopes in self.by_window().items():
            found.setdefault(id(scopes), ([], scopes))[0].append(window)
        yield from found.values()

    def _by_scope(self, day: int) -> dict[str, Amounts]:
        scopes: dict[str, Amounts] = {}
        shared: defaultdict[tuple[str, str | None, str | None], list[Amounts]] = defaultdict(list)
        prefixes = _AgentPrefixes()
        for organization_id, team_id, user_id, agent_id, amounts in self._spent(day):
            shared[organization_id, team_id, user_id].append(amounts)
            key = prefixes[organization_id] + agent_id
            held = scopes.setdefault(key, amounts)
            if held is not amounts:  # it works for several
                scopes[key] = list(map(add, held, amounts))
        wide: defaultdict[str, list[Amounts]] = defaultdict(list)
        for whose, parts in shared.items():
            amounts = _added_up(parts)
            for scope in wide_scope_keys(*whose):
                wide[scope].append(amounts)
        for scope, parts in wide.items():
            scopes[scope] = _added_up(parts)
        return scopes

    def _spent(self, day: int) -> Iterator[tuple[str, str | None, str | None, str, Amounts]]:
        """Who used what: organization, team, user, the agent as it stands in a key."""
        agents, others = self._days.get(day, {}), self._others.get(day, {})
        apart = ((quote_id(key[3]), held) for key, held in others.items())
        for agent_id, held in chain(zip(quote_ids(agents), agents.values(), strict=True), apart):
            amounts = [held.cost_nano, held.executions, held.input_tokens, held.output_tokens]
            yield held.organization_id, held.team_id, held.user_id, agent_id, amounts
        frames = list(self._frames.get(day, ()))
        agent_ids = quote_ids([spender[3] for spender, _ in frames])
        for agent_id, (spender, amounts) in zip(agent_ids, frames, strict=True):
            organization_id, team_id, user_id, _ = spender
            yield organization_id, team_id, user_id, agent_id, amounts


class _AgentPrefixes(dict[str, str]):
    """By organization, what the keys of its agents begin with."""

    def __missing__(self, organization_id: str) -> str:
        prefix = self[organization_id] = agent_key(organization_id, "")
        return prefix


def _added_up(parts: list[Amounts]) -> Amounts:
    if len(parts) == 1:
        return parts[0]
    return [sum(each) for each in zip(*parts, strict=True)]


def _add(sums: dict[str, Amounts], key: str, amounts: Amounts) -> None:
    held = sums.get(key)
    if held is None:
        sums[key] = amounts.copy()
    else:
        held[0] += amounts[0]
        held[1] += amounts[1]
        held[2] += amounts[2]
        held[3] += amounts[3]
