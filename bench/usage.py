"""Usage: the records that the benchmarks count, and an independent sum of them."""

from __future__ import annotations

import bisect
import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from outlay.topics import usage_partition
from outlay.trace import Trace

ORGANIZATION = "acme"
PARTITIONS = 4
DIFFERENCES_MAX = 3
"""How many scopes and windows that differ are named."""

TEAMS = 100
USERS = 1_000

NANO_PER_INPUT_TOKEN = 2_500
NANO_PER_OUTPUT_TOKEN = 10_000
"""USD 2.50 and 10.00 per million tokens."""

QUANTILES = (
    # (share of the requests up to here, input tokens, output tokens) of a public trace of 19,366
    # requests to a conversation service, for machines that do not have it.
    (0.00, 2, 7), (0.10, 207, 54), (0.25, 396, 85), (0.50, 1_020, 129),
    (0.75, 1_189, 395), (0.90, 2_735, 424), (0.99, 4_142, 601), (1.00, 14_050, 1_000),
)  # fmt: skip

Sums = dict[tuple[str, str], list[int]]
"""By scope key and window name: nano-dollars, executions, input and output tokens."""


class Sample(NamedTuple):
    """One record: its partition, its agent's number and amounts, and its JSON."""

    partition: int
    agent: int
    cost_nano: int
    input_tokens: int
    output_tokens: int
    json: bytes


class Usage:
    """Records of a fleet of `agents`, the same for the same seed, dated now.

    Who makes a call follows from its number by CRC-32, so that calls are spread unevenly; an agent
    belongs to one user, and a user to one team. `everyone` lets the first records go over
    all agents in turn instead, so that each is active.
    """

    def __init__(
        self,
        agents: int,
        *,
        partitions: int = PARTITIONS,
        trace: Path | None = None,
        seed: int = 7,
        everyone: bool = False,
    ) -> None:
        self.agents = agents
        self._everyone = everyone
        self._rng = random.Random(seed)
        self._calls = _calls(trace, self._rng)
        self._at = datetime.now(UTC).replace(microsecond=123_456)
        self._number = 0
        self._sums: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        self._heads = [self._head(agent) for agent in range(agents)]
        self._partitions = [
            usage_partition(ORGANIZATION, f"agent-{agent:07d}", partitions)
            for agent in range(agents)
        ]

    def take(self, count: int) -> list[Sample]:
        """The next records."""
        return list(islice(self, count))

    def __iter__(self) -> Iterator[Sample]:
        at = self._at.isoformat().replace("+00:00", "Z").encode()
        source = b"01990000-0000-7000-8000-000000000000"
        while True:
            number = self._number
            self._number += 1
            agent = number % self.agents if self._everyone else _spread(number) % self.agents
            input_tokens, output_tokens = self._calls[number % len(self._calls)]
            cost_nano = NANO_PER_INPUT_TOKEN * input_tokens + NANO_PER_OUTPUT_TOKEN * output_tokens
            sums = self._sums[agent]
            sums[0] += cost_nano
            sums[1] += 1
            sums[2] += input_tokens
            sums[3] += output_tokens
            cost = b"%d.%09d" % divmod(cost_nano, 10**9)
            bits = self._rng.getrandbits(48)
            json = (
                b'{"id":"01990000-%04x-7%03x-8%03x-%012x","occurred_at":"%b",%b,"cost_usd":"%b",'
                b'"provider":"openai","model":"gpt-4o","input_tokens":%d,"output_tokens":%d,'
                b'"source":"%b","sequence":%d}'
            ) % (
                number >> 24 & 0xFFFF, number >> 12 & 0xFFF, number & 0xFFF, bits,
                at, self._heads[agent], cost.rstrip(b"0").ljust(4, b"0"),
                input_tokens, output_tokens, source, number + 1,
            )  # fmt: skip
            yield Sample(
                self._partitions[agent], agent, cost_nano, input_tokens, output_tokens, json
            )

    @property
    def sums(self) -> Sums:
        """What the records taken so far come to, counted from the numbers they were made of."""
        day = self._at.date().isoformat()
        sums: Sums = {}
        users: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for agent, amounts in self._sums.items():
            _add(users[agent % USERS], amounts)
            for window in (day, day[:7]):
                sums[_agent_scope(agent), window] = amounts.copy()
        for user, amounts in users.items():
            for scope in _shared_scopes(user):
                for window in (day, day[:7]):
                    _add(sums.setdefault((scope, window), [0, 0, 0, 0]), amounts)
        return sums

    @property
    def scopes(self) -> int:
        """How many scopes the records taken so far are of."""
        users = {agent % USERS for agent in self._sums}
        return len(self._sums) + len({s for user in users for s in _shared_scopes(user)})

    @property
    def rows(self) -> int:
        """How many rows the tables have for them: a (scope, window) has one per partition.

        One in the partials, and one in the totals where it is not an agent's, which have no budget.
        """
        users = {(agent % USERS, self._partitions[agent]) for agent in self._sums}
        shared = {(s, partition) for user, partition in users for s in _shared_scopes(user)}
        return 2 * (len(self._sums) + 2 * len(shared))  # a day and a month

    def _head(self, agent: int) -> bytes:
        return (
            f'"organization_id":"{ORGANIZATION}","agent_id":"agent-{agent:07d}",'
            f'"team_id":"{team_of(agent)}","user_id":"{user_of(agent)}"'
        ).encode()


def add_sums(sums: Sums, more: Sums) -> None:
    """Add to sums what others come to."""
    for key, amounts in more.items():
        _add(sums.setdefault(key, [0, 0, 0, 0]), amounts)


def _add(held: list[int], amounts: list[int]) -> None:
    for i, amount in enumerate(amounts):
        held[i] += amount


def differences(found: Sums, expected: Sums) -> dict[tuple[str, str], tuple[object, object]]:
    """Some of what is not the same in both, each as (found, expected); empty when all is."""
    if found == expected:
        return {}
    keys = [key for key in found | expected if found.get(key) != expected.get(key)]
    return {key: (found.get(key), expected.get(key)) for key in keys[:DIFFERENCES_MAX]}


def _agent_scope(agent: int) -> str:
    return f"organization:{ORGANIZATION}/agent:agent-{agent:07d}"


def _shared_scopes(agent: int) -> tuple[str, ...]:
    """Those that all agents of a user share."""
    organization, user, team = f"organization:{ORGANIZATION}", user_of(agent), team_of(agent)
    return (
        organization,
        f"{organization}/team:{team}",
        f"{organization}/user:{user}",
        f"{organization}/team:{team}/user:{user}",
    )


def user_of(agent: int) -> str:
    """Whose agent it is, by its number."""
    return f"user-{agent % USERS:04d}"


def team_of(agent: int) -> str:
    """The team of its user."""
    return f"team-{agent % USERS % TEAMS:03d}"


def _spread(number: int) -> int:
    return crc32(number.to_bytes(8, "big"))


def _calls(trace: Path | None, rng: random.Random) -> list[tuple[int, int]]:
    """Input and output tokens of calls, of the trace or with its quantiles."""
    if trace is not None:
        return [(call.input_tokens, call.output_tokens) for call in Trace(trace).calls()]
    return [(_draw(rng, 1), _draw(rng, 2)) for _ in range(20_000)]


def _draw(rng: random.Random, column: int) -> int:
    share = rng.random()
    after = min(bisect.bisect_right([row[0] for row in QUANTILES], share), len(QUANTILES) - 1)
    low, high = QUANTILES[after - 1], QUANTILES[after]
    position = (share - low[0]) / (high[0] - low[0])
    return round(low[column] + position * (high[column] - low[column]))
