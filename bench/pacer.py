"""Pacer: a process that emits records at a pace, as an agent does, and says where they arrived.

`python -m bench.pacer SERVERS PREFIX AGENTS SEED RATE RECORDS` prints a `Paced` as JSON. Times
are of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import sys
import time
from typing import NamedTuple

import msgspec
import uuid_utils

from bench.usage import ORGANIZATION, Usage, team_of, user_of
from outlay import Delivered, TopicNames, UsageEmitter
from outlay.emitter import UsageFields
from outlay.money import to_usd

TICK_S = 0.002
SAMPLES_PER_S = 1_000
WARM_S = 1.0
"""How long it emits before the first sample: connections are made, and queues fill."""


class Arrival(NamedTuple):
    """One sampled record: when it was emitted and acknowledged, in seconds, and where it is."""

    emitted_s: float
    delivered_s: float
    partition: int
    offset: int


class Paced(msgspec.Struct):
    """How many records arrived, how many a second were emitted, and the samples among them."""

    delivered: int
    emitted_per_s: float
    arrivals: list[Arrival]


class Pacer:
    """Emits the records of a fleet; one in so many is a sample."""

    def __init__(self, servers: str, prefix: str) -> None:
        self.arrivals: list[Arrival] = []
        self._emitted_s: dict[str, float] = {}
        self._emitter = UsageEmitter(
            servers, topics=TopicNames(prefix), on_delivered=self._delivered
        )

    def _delivered(self, details: Delivered) -> None:
        now_s = time.monotonic()
        for record in details.records:
            emitted_s = self._emitted_s.pop(record.id, None)
            if emitted_s is not None:
                self.arrivals.append(Arrival(emitted_s, now_s, details.partition, details.offset))

    def run(self, calls: list[UsageFields], rate: int) -> Paced:
        """Emit these at so many a second, and return when they are delivered."""
        every = max(rate // SAMPLES_PER_S, 1)
        first = round(rate * WARM_S)
        ids = [str(uuid_utils.uuid7()) for _ in range(len(calls) // every + 1)]
        started_s = time.monotonic()
        done = 0
        while done < len(calls):
            due = min(int((time.monotonic() - started_s) * rate) + 1, len(calls))
            for number in range(done, due):
                call = calls[number]
                if number >= first and number % every == 0:
                    call["id"] = sample = ids[number // every]
                    self._emitted_s[sample] = time.monotonic()
                while not self._emitter.emit(**call):  # the buffer is full
                    time.sleep(TICK_S)
            done = due
            time.sleep(TICK_S)
        elapsed_s = time.monotonic() - started_s
        self._emitter.close()
        return Paced(self._emitter.stats.sent, done / elapsed_s, self.arrivals)


def fields(usage: Usage, count: int) -> list[UsageFields]:
    """The next records of a fleet, as calls of `emit`."""
    return [
        {
            "organization_id": ORGANIZATION,
            "agent_id": f"agent-{sample.agent:07d}",
            "team_id": team_of(sample.agent),
            "user_id": user_of(sample.agent),
            "cost_usd": to_usd(sample.cost_nano),
            "input_tokens": sample.input_tokens,
            "output_tokens": sample.output_tokens,
        }
        for sample in usage.take(count)
    ]


def main(arguments: list[str]) -> None:
    """Emit, and print what became of it."""
    servers, prefix, *numbers = arguments
    agents, seed, rate, count = map(int, numbers)
    calls = fields(Usage(agents, seed=seed), count)
    print(msgspec.json.encode(Pacer(servers, prefix).run(calls, rate)).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
