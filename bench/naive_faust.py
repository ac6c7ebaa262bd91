"""Naive Faust: the same totals as a user of Faust writes them down first.

One event at a time and a `+=` on a table for each scope and window, ten an event, each with a
message to the table's changelog; the table is in memory. What it keeps by partition is read back
by partition, so its totals are right in one process that is never restarted, and cost the same.

`python -m bench.naive_faust SERVERS TOPIC RECORDS` prints a `Peer` as JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import faust

from bench.peer import Peer, say
from outlay.money import to_nano

PARTITIONS = 4
STOP_TIMEOUT_S = 10.0


class Event(faust.Record):
    """What is read of a usage record."""

    occurred_at: str
    organization_id: str
    agent_id: str
    team_id: str
    user_id: str
    cost_usd: str
    input_tokens: int
    output_tokens: int

    @property
    def scopes(self) -> tuple[str, ...]:
        organization = f"organization:{self.organization_id}"
        return (
            organization,
            f"{organization}/team:{self.team_id}",
            f"{organization}/user:{self.user_id}",
            f"{organization}/team:{self.team_id}/user:{self.user_id}",
            f"{organization}/agent:{self.agent_id}",
        )


class Sum(faust.Record):
    """The amounts of a scope in a window."""

    cost_nano: int = 0
    executions: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Sum) -> Sum:
        return Sum(
            cost_nano=self.cost_nano + other.cost_nano,
            executions=self.executions + other.executions,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )


class _App(faust.App):
    def _create_directories(self) -> None:
        pass  # the table is in memory, and nobody would take them away


class Course:
    """The application, and when its first event came and its last one was counted."""

    def __init__(self, servers: str, topic: str, records: int) -> None:
        self.records = records
        self.counted = asyncio.Event()
        self.began_s = self.began_cpu_s = 0.0
        self.app = _App(
            f"{topic}-faust-{time.time_ns()}",
            broker=f"kafka://{servers}",
            store="memory://",
            web_enabled=False,
            topic_partitions=PARTITIONS,
        )
        usage = self.app.topic(topic, partitions=PARTITIONS, value_type=Event)
        self.totals = self.app.Table("totals", default=Sum, value_type=Sum, partitions=PARTITIONS)
        self.app.agent(usage, name="count")(self.count)

    async def count(self, events: Any) -> None:
        """The agent."""
        totals = self.totals
        async for number, event in events.enumerate(start=1):
            if number == 1:
                self.began_s, self.began_cpu_s = time.perf_counter(), time.process_time()
            amounts = Sum(
                cost_nano=to_nano(event.cost_usd),
                executions=1,
                input_tokens=event.input_tokens,
                output_tokens=event.output_tokens,
            )
            for scope in event.scopes:
                totals[f"{scope} {event.occurred_at[:10]}"] += amounts
                totals[f"{scope} {event.occurred_at[:7]}"] += amounts
            if number == self.records:
                self.counted.set()

    async def run(self) -> None:
        """Count all records until the changelog is acknowledged and the offsets are committed."""
        starting = asyncio.create_task(self.app.start())
        await self.counted.wait()
        await asyncio.sleep(0)  # the stream acknowledges the last event
        await self.app.producer.flush()
        await self.app.consumer.commit()
        elapsed_s = time.perf_counter() - self.began_s
        cpu_s = time.process_time() - self.began_cpu_s
        rows = []
        for key, total in self.totals.items():
            scope, window = key.split(" ")
            amounts = (total.cost_nano, total.executions, total.input_tokens, total.output_tokens)
            rows.append((scope, window, *amounts))
        say(Peer(self.records, elapsed_s, cpu_s, rows))
        starting.cancel()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await self.app.stop()


async def main(servers: str, topic: str, records: int) -> None:
    """Run it."""
    await Course(servers, topic, records).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
