"""Installation: topics and workers of outlay on a broker, and when they are done with a load."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench import kafka
from bench.usage import Sample, Sums
from bench.workers import POLL_INTERVAL_S, Workers
from outlay.decision import decode_watermark
from outlay.embedded import Broker
from outlay.scope import is_agent_key
from outlay.stack import Stack
from outlay.stack.readiness import WorkersReady
from schemas.settings import Settings
from streams.stages import Changelogs
from streams.topics import ensure_topics, topic_specs

COLUMNS = ("offset", "cost_nano", "executions", "input_tokens", "output_tokens")
DONE_TIMEOUT_S = 900.0
WATCH_INTERVAL_S = 0.5

_numbers = itertools.count(1)


class Installation:
    """One set of topics; `settings` are those of the workers, by environment variable."""

    def __init__(
        self,
        broker: Broker,
        directory: Path,
        *,
        workers: int = 1,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.name = f"bench-{time.time_ns() // 1_000_000}-{next(_numbers)}"
        self.directory = directory / self.name
        self.servers = broker.bootstrap_servers
        self.usage_ends: dict[int, int] = {}
        self._count = workers
        self._broker = broker
        self._given = dict(settings or {})
        self._groups = itertools.count(1)
        self._new_group()

    def _new_group(self) -> None:
        app_id = f"{self.name}-{next(self._groups)}"
        names = {"OUTLAY_TOPIC_PREFIX": self.name, "OUTLAY_APP_ID": app_id}
        stack = Stack(
            self.directory / app_id,
            broker=self._broker,
            owns_broker=False,
            workers=0,
            api=False,
            settings=names | self._given,
        )
        fields = {
            name.removeprefix("OUTLAY_").lower(): value for name, value in stack.settings.items()
        }
        self.settings = Settings(**fields)  # type: ignore[arg-type] # pydantic reads the texts
        self.workers = Workers(self._count, stack.settings, stack.log_dir)

    def load(
        self, samples: Iterable[Sample], *, pack: int = 1, packing: kafka.Packing = kafka.array_of
    ) -> None:
        """Make the topics where they are absent, and put records into the usage topic."""

        async def run() -> None:
            await ensure_topics(self.settings)
            usage = self.settings.topics.usage
            await kafka.load(self.servers, usage, samples, pack=pack, packing=packing)
            self.usage_ends = await kafka.ends(self.servers, usage)

        asyncio.run(run())

    def forget(self, *, workers: int | None = None) -> None:
        """Delete all topics but the usage topic: as if no worker had ever run.

        There are as many workers as before from then on, or `workers`.
        """
        self._count = workers or self._count

        async def run() -> None:
            specs = topic_specs(self.settings)
            names = [s.name for s in specs if s.name != self.settings.topics.usage]
            await kafka.delete_topics(self.servers, names)
            self._new_group()
            await ensure_topics(self.settings)

        asyncio.run(run())

    def delete(self) -> None:
        """Delete all topics: what was measured is no longer needed."""
        names = [spec.name for spec in topic_specs(self.settings)]
        asyncio.run(kafka.delete_topics(self.servers, names))

    # -- what the broker holds

    def totals(self) -> Sums:
        """What a worker that starts now would recover as totals.

        Of agents, which have no budgets here, they are those of the usage partitions; of all other
        scopes they were told to the totals.
        """
        changelogs = Changelogs(self.settings.app_id)
        parts: dict[tuple[bytes, str, str], tuple[int, ...]] = {}
        for changelog, of_agents in ((changelogs.partials, True), (changelogs.totals, False)):
            for partition, scope, window, entry in self._entries(changelog):
                part = partition, scope, window
                is_newer = part not in parts or parts[part][0] <= entry[0]
                if is_agent_key(scope) == of_agents and is_newer:
                    parts[part] = entry
        sums: Sums = {}
        for (_, scope, window), entry in parts.items():
            held = sums.setdefault((scope, window), [0, 0, 0, 0])
            for i, amount in enumerate(entry[1:]):
                held[i] += amount
        return sums

    def _entries(self, changelog: str) -> Iterator[tuple[bytes, str, str, tuple[int, ...]]]:
        """The entries of a changelog's blocks: usage partition, scope, window and numbers."""
        for (_, key), value in asyncio.run(kafka.newest(self.servers, changelog)).items():
            if value is None or key.count(b" ") != 2:
                continue
            partition = key.split(b" ")[1]
            block = msgspec.json.decode(value)
            for window, columns in block["windows"].items():
                entries = zip(*(columns[name] for name in COLUMNS), strict=True)
                for scope, entry in zip(block["scopes"], entries, strict=True):
                    yield partition, scope, window, entry

    # -- waiting

    def wait_done(self, timeout_s: float = DONE_TIMEOUT_S) -> float:
        """Wait until all usage is durable and decided; returns when it was (`time.time()`).

        Durable: the usage offsets are committed, with the partials and their changelog before them.
        Decided: the watermark of each decisions partition covers it.

        Raises:
            RuntimeError: not within the time, or a worker has ended; with the end of its log.
        """

        async def run() -> float:
            async with asyncio.timeout(timeout_s):
                watch = asyncio.create_task(self._watch_workers())
                done = asyncio.gather(self._committed(), self._decided())
                both: list[asyncio.Future[Any]] = [watch, done]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if not done.done():
                    done.cancel()
                    await asyncio.gather(done, return_exceptions=True)
                    watch.result()
                watch.cancel()
                return max(await done)

        try:
            return asyncio.run(run())
        except TimeoutError:
            tails = self.workers.tails()
            raise RuntimeError(f"not done within {timeout_s:.0f} s{tails}") from None

    def wait_ready(self, timeout_s: float = DONE_TIMEOUT_S) -> float:
        """Wait until the workers that were started decide on every partition; when they did.

        As `outlay.stack` sees it: a watermark of theirs is on each partition of the decisions.
        """
        since = max(worker.started_at for worker in self.workers if worker.started_at)
        ready = WorkersReady(self.servers, self.settings.topics, since)
        try:
            self.workers.wait("the workers are ready", ready.poll, timeout_s)
            return time.time()
        finally:
            ready.close()

    async def _committed(self) -> float:
        topic = self.settings.topics.usage
        async with kafka.admin(self.servers) as admin:
            while True:
                now_s = time.time()
                at = await kafka.committed(admin, self.settings.app_id, topic)
                if all(at.get(p, 0) >= end for p, end in self.usage_ends.items()):
                    return now_s
                await asyncio.sleep(POLL_INTERVAL_S)

    async def _decided(self) -> float:
        topic = self.settings.topics.decisions
        async with kafka.consumer(self.servers, topic) as (client, partitions):
            client.assign(partitions)
            await client.seek_to_beginning(*partitions)
            missing = set(partitions)
            while missing:
                for tp, messages in (await client.getmany(timeout_ms=200)).items():
                    marks = [m.value for m in messages if m.key == b"watermark"]
                    if marks and self._covers(marks[-1]):
                        missing.discard(tp)
            return time.time()

    def _covers(self, value: bytes) -> bool:
        reached = decode_watermark(value).offsets
        return all(reached.get(p, -1) >= end - 1 for p, end in self.usage_ends.items())

    async def _watch_workers(self) -> None:
        while True:
            self.workers.check()
            await asyncio.sleep(WATCH_INTERVAL_S)
