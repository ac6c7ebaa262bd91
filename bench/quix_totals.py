"""Quix totals: the same totals with Quix Streams.

Records are grouped by organization, which all their scopes belong to, and a stateful function
adds each to the ten sums of its scopes and windows; the state is in RocksDB with its changelog.
That is the faster of two ways: to expand a record to ten updates, and to group these by
scope and window, sends each of them through the broker.

`python -m bench.quix_totals SERVERS TOPIC RECORDS` prints a `Peer` as JSON.
"""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

from quixstreams import Application, State

from bench.peer import Peer, say
from outlay.money import to_nano


class Course:
    """The application, and what it has counted."""

    def __init__(self, servers: str, topic: str, records: int, state_dir: str) -> None:
        self.records = records
        self.counted = 0
        self.began_s = self.began_cpu_s = 0.0
        self.totals: dict[str, list[int]] = {}
        self.app = Application(
            broker_address=servers,
            consumer_group=f"{topic}-quix-{time.time_ns()}",
            auto_offset_reset="earliest",
            state_dir=state_dir,
            loglevel="WARNING",
        )
        usage = self.app.topic(topic, value_deserializer="json")
        frame = self.app.dataframe(usage)
        frame = frame.update(self.begin)
        frame = frame.group_by("organization_id")
        frame.update(self.count, stateful=True)

    def begin(self, record: dict[str, Any]) -> None:
        """Take the time of the first record."""
        if not self.began_s:
            self.began_s, self.began_cpu_s = time.perf_counter(), time.process_time()

    def count(self, record: dict[str, Any], state: State) -> None:
        """Add a record to its totals."""
        day = record["occurred_at"][:10]
        cost_nano = to_nano(record["cost_usd"])
        for scope in scopes_of(record):
            for window in (day, day[:7]):
                key = f"{scope} {window}"
                sums = state.get(key) or [0, 0, 0, 0]
                sums[0] += cost_nano
                sums[1] += 1
                sums[2] += record["input_tokens"]
                sums[3] += record["output_tokens"]
                state.set(key, sums)
                self.totals[key] = sums
        self.counted += 1
        if self.counted == self.records:
            self.app.stop()

    def run(self) -> Peer:
        """Count all records, until its last checkpoint is committed."""
        self.app.run()
        elapsed_s = time.perf_counter() - self.began_s
        cpu_s = time.process_time() - self.began_cpu_s
        rows = []
        for key, (cost_nano, executions, input_tokens, output_tokens) in self.totals.items():
            scope, window = key.split(" ")
            rows.append((scope, window, cost_nano, executions, input_tokens, output_tokens))
        return Peer(self.records, elapsed_s, cpu_s, rows)


def scopes_of(record: dict[str, Any]) -> tuple[str, ...]:
    """The five scopes that a record counts in."""
    organization = f"organization:{record['organization_id']}"
    team, user = record["team_id"], record["user_id"]
    return (
        organization,
        f"{organization}/team:{team}",
        f"{organization}/user:{user}",
        f"{organization}/team:{team}/user:{user}",
        f"{organization}/agent:{record['agent_id']}",
    )


def main(servers: str, topic: str, records: int) -> None:
    """Run it."""
    with tempfile.TemporaryDirectory(prefix="outlay-quix-") as state_dir:
        say(Course(servers, topic, records, state_dir).run())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
