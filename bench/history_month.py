"""A month of usage, made inside ClickHouse, and the time that its spend by team takes to report.

As a process it reads a request from stdin and writes what it found to stdout, both JSON: it makes
the month, or it asks for it, first cold and then warm.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from operator import methodcaller
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from bench.usage import NANO_PER_INPUT_TOKEN, NANO_PER_OUTPUT_TOKEN, ORGANIZATION, TEAMS, USERS
from outlay.window import Window
from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from streams.clickhouse_queries import SpendReport
from streams.history_rows import TABLE
from streams.logs import configure_logging

MONTH = Window("2026-11")
DAYS = 30
WARM_QUERIES = 3

# In the order of the sorting key, which spares the sorting; number is the call's within its day.
_FILL = """INSERT INTO {table} (id, occurred_at, organization_id, team_id, user_id, agent_id,
    provider, model, input_tokens, output_tokens, executions, cost_nano, success, source, sequence,
    kind, metadata, late, kafka_partition, kafka_offset, kafka_index, kafka_timestamp, ingested_at)
SELECT
    reinterpret(bitOr(bitShiftLeft(toUInt128(at_ms), 80),
        bitOr(bitShiftLeft(toUInt128(7), 76), toUInt128(sipHash64(number)))), 'UUID'),
    fromUnixTimestamp64Milli(at_ms, 'UTC'), '{organization}',
    concat('team-', leftPad(toString(agent % {teams}), 3, '0')),
    concat('user-', leftPad(toString(agent % {users}), 4, '0')),
    concat('agent-', leftPad(toString(agent), 7, '0')),
    'openai', 'gpt-4o', input, output, 1, {input_nano} * input + {output_nano} * output, true,
    '01990000-0000-7000-8000-000000000000', number, 'usage', '{{}}', false, agent % 4,
    {day} * {daily} + number + {offset}, 0,
    fromUnixTimestamp64Milli(at_ms, 'UTC'), fromUnixTimestamp64Milli(at_ms, 'UTC')
FROM (SELECT number, intDiv(number, {calls}) AS agent, toInt64(number % 1000 + {day}) AS input,
    toInt64(number % 300) AS output,
    toInt64({start_ms} + intDiv(86400000, {calls}) * (number % {calls}) + number % 97) AS at_ms
    FROM numbers({count}))
SETTINGS min_insert_block_size_rows = {daily}, min_insert_block_size_bytes = 0"""


class Month(msgspec.Struct, frozen=True):
    """So many agents, each of which makes so many calls a day; the last calls are there twice."""

    agents: int
    calls_daily: int

    @property
    def daily(self) -> int:
        """Records of a day."""
        return self.agents * self.calls_daily

    @property
    def rows(self) -> int:
        """Records of the month, each counted once."""
        return DAYS * self.daily

    @property
    def replayed(self) -> int:
        """How many of the last day's records are there twice: what a crash leaves behind."""
        return self.daily // 4

    def statements(self) -> list[str]:
        """What makes the month in an empty table: a part for each day, and one that repeats."""
        parts = [(day, self.daily, 0) for day in range(DAYS)]
        return [
            _FILL.format(
                table=TABLE,
                organization=ORGANIZATION,
                teams=TEAMS,
                users=USERS,
                input_nano=NANO_PER_INPUT_TOKEN,
                output_nano=NANO_PER_OUTPUT_TOKEN,
                day=day,
                daily=self.daily,
                calls=self.calls_daily,
                count=count,
                offset=offset,
                start_ms=int(MONTH.start.timestamp() * 1000) + day * 86_400_000,
            )
            for day, count, offset in [*parts, (DAYS - 1, self.replayed, self.rows)]
        ]

    def teams(self) -> dict[str, list[int]]:
        """What each team has used: counted here, apart from the SQL."""
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for number in range(self.daily):
            held = sums[f"team-{number // self.calls_daily % TEAMS:03d}"]
            held[1] += DAYS
            held[2] += DAYS * (number % 1000) + sum(range(DAYS))
            held[3] += DAYS * (number % 300)
        for held in sums.values():
            held[0] = NANO_PER_INPUT_TOKEN * held[2] + NANO_PER_OUTPUT_TOKEN * held[3]
        return dict(sums)


class Request(msgspec.Struct, frozen=True):
    """Where the month is, and whether to make it."""

    directory: str
    month: Month
    fill: bool


async def _fill(clickhouse: ClickHouse, month: Month) -> dict[str, Any]:
    await clickhouse.migrate()
    await _stop_merges(clickhouse)
    for statement in month.statements():
        await clickhouse.run(methodcaller("command", statement))
    return {}


async def _ask(clickhouse: ClickHouse) -> dict[str, Any]:
    await _stop_merges(clickhouse)
    report = SpendReport(MONTH.start, MONTH.end, "month", "team", ORGANIZATION)
    times_s = []
    for _ in range(1 + WARM_QUERIES):
        began_s = time.monotonic()
        rows = await clickhouse.ask(report)
        times_s.append(time.monotonic() - began_s)
    return {
        "cold_s": times_s[0],
        "warm_s": median(times_s[1:]),
        "teams": {row.group: msgspec.structs.astuple(row.amounts) for row in rows},
    }


async def _stop_merges(clickhouse: ClickHouse) -> None:
    # They would make one row of the repeated ones, and take a core from what is measured.
    await clickhouse.run(methodcaller("command", f"SYSTEM STOP MERGES {TABLE}"))


async def _run(request: Request) -> dict[str, Any]:
    clickhouse = ClickHouse(Settings(data_dir=Path(request.directory), clickhouse_dsn=""))
    try:
        return await (_fill(clickhouse, request.month) if request.fill else _ask(clickhouse))
    finally:
        await clickhouse.close()


def main() -> None:
    """Do what stdin asks for."""
    configure_logging("error")
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    print(msgspec.json.encode(asyncio.run(_run(request))).decode())


if __name__ == "__main__":
    main()
