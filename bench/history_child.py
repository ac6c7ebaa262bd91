"""The process that takes a usage topic into a history: by the sink, or by bare inserts.

Reads a request from stdin and writes what it found to stdout, both JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from operator import methodcaller
from typing import Any

import msgspec
from aiokafka import TopicPartition

from bench.usage import ORGANIZATION
from outlay.window import Window
from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from streams.clickhouse_queries import SpendReport
from streams.history_lanes import LANES
from streams.history_rows import TABLE, RowBatch, add_until_full
from streams.history_sink import HistorySink
from streams.history_source import Source
from streams.logs import configure_logging


class Request(msgspec.Struct, frozen=True):
    """What to take in, and how: `way` is `sink` or `bare`; `ends` are the topic's."""

    way: str
    settings: dict[str, Any]
    ends: dict[int, int]
    month: str


class _TimedSource(Source):
    """Knows when it was given its partitions, and when everything was committed."""

    def __init__(self, settings: Settings, ends: Mapping[int, int]) -> None:
        super().__init__(settings, settings.topics.usage, f"{settings.app_id}-{LANES[0].group}")
        self.on_end: Callable[[], None] = lambda: None
        self.began_s = self.ended_s = 0.0
        self.began_cpu_s = self.ended_cpu_s = 0.0
        self._ends = ends
        self._committed: dict[int, int] = {}

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by aiokafka."""
        super().on_partitions_assigned(assigned)
        self.began_s, self.began_cpu_s = time.monotonic(), time.process_time()

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        """Commit, and see whether that was all."""
        done = await super().commit(offsets)
        self._committed.update(offsets)
        if done and all(self._committed.get(p, 0) >= end for p, end in self._ends.items()):
            self.ended_s, self.ended_cpu_s = time.monotonic(), time.process_time()
            self.on_end()
        return done


async def _sink(settings: Settings, request: Request) -> tuple[float, float]:
    """Elapsed and CPU seconds from the assignment to the last commit."""
    source = _TimedSource(settings, request.ends)
    sink = HistorySink(settings, source=source)
    source.on_end = sink.stop
    await sink.run()
    return source.ended_s - source.began_s, source.ended_cpu_s - source.began_cpu_s


async def _bare(settings: Settings, request: Request) -> tuple[float, float]:
    """Elapsed and CPU seconds of the inserts alone; their columns are made before."""
    batches = [
        tuple(zip(*batch.columns(time.time_ns() // 1_000_000), strict=True))
        for batch in await _batches(settings, request.ends)
    ]

    def insert(client: Any) -> tuple[float, float]:
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        for names, types, columns in batches:
            client.insert(
                TABLE,
                columns,
                column_names=names,
                column_type_names=types,
                column_oriented=True,
            )
        return time.monotonic() - began_s, time.process_time() - began_cpu_s

    clickhouse = ClickHouse(settings)
    try:
        await clickhouse.migrate()
        return await clickhouse.run(insert)
    finally:
        await clickhouse.close()


async def _batches(settings: Settings, ends: Mapping[int, int]) -> list[RowBatch]:
    """All rows, in the batches that the sink makes of them."""
    source = LANES[0].source(settings)
    await source.open()
    batches = [RowBatch()]
    left = sum(ends.values())
    while left:
        messages = await source.read(0.2)
        left -= len(messages)
        while messages:
            if len(batches[-1]) >= settings.history_batch_rows_max:
                batches.append(RowBatch())
            taken = add_until_full(batches[-1], messages, settings.history_batch_rows_max)
            messages = messages[taken:]
    await source.close()
    return batches


async def _found(settings: Settings, month: str) -> dict[str, Any]:
    """What the history reports; a server forgets it then."""
    clickhouse = ClickHouse(settings)
    window = Window(month)
    report = SpendReport(window.start, window.end, "month", "team", ORGANIZATION)
    try:
        rows = await clickhouse.ask(report)
        total = await clickhouse.total()
        if not settings.history_is_embedded:
            drop = f"DROP DATABASE {settings.clickhouse_database}"
            await clickhouse.run(methodcaller("command", drop))
    finally:
        await clickhouse.close()
    return {
        "records": total.records,
        "teams": {row.group: msgspec.structs.astuple(row.amounts) for row in rows},
    }


def main() -> None:
    """Do what stdin asks for."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    settings = Settings(**request.settings)
    configure_logging("error")
    way = _sink if request.way == "sink" else _bare
    elapsed_s, cpu_s = asyncio.run(way(settings, request))
    found = asyncio.run(_found(settings, request.month))
    print(msgspec.json.encode(found | {"elapsed_s": elapsed_s, "cpu_s": cpu_s}).decode())


if __name__ == "__main__":
    main()
