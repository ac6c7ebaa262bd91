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
        sums: Sums = defaultdict(lambda: [0, 0, 0, 0])
        for agent, amounts in self._sums.items():
            user, team = _user(agent), _team(agent)
            organization = f"organization:{ORGANIZATION}"
            for scope in (
                organization,
                f"{organization}/team:{team}",
                f"{organization}/user:{user}",
                f"{organization}/team:{team}/user:{user}",
                f"{organization}/agent:agent-{agent:07d}",
            ):
                for window in (day, day[:7]):
                    held = sums[scope, window]
                    for i, amount in enumerate(amounts):
                        held[i] += amount
        return dict(sums)

    def _head(self, agent: int) -> bytes:
        return (
            f'"organization_id":"{ORGANIZATION}","agent_id":"agent-{agent:07d}",'
            f'"team_id":"{_team(agent)}","user_id":"{_user(agent)}"'
        ).encode()


def _user(agent: int) -> str:
    return f"user-{agent % USERS:04d}"


def _team(agent: int) -> str:
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
