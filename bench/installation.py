"""Installation: topics and workers of outlay on a broker, and when they are done with a load."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

import psutil

from bench import kafka
from bench.usage import Sample, Sums
from outlay.decision import decode_watermark
from outlay.embedded import Broker
from outlay.stack import Stack, Worker
from schemas.settings import Settings
from streams.stages import Changelogs
from streams.topics import ensure_topics, topic_specs

DONE_TIMEOUT_S = 900.0
POLL_INTERVAL_S = 0.02

_BEGAN = re.compile(r'^timestamp=(\S+) .*event="?began"?', re.MULTILINE)
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
        self.workers: list[Worker] = []
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
            workers=self._count,
            api=False,
            settings=names | self._given,
        )
        fields = {
            name.removeprefix("OUTLAY_").lower(): value for name, value in stack.settings.items()
        }
        self.settings = Settings(**fields)  # type: ignore[arg-type] # pydantic reads the texts
        self.workers, self._log_dir = stack.workers, stack.log_dir

    def load(self, samples: Iterable[Sample], *, pack: int = 1) -> None:
        """Make the topics where they are absent, and put records into the usage topic."""

        async def run() -> None:
            await ensure_topics(self.settings)
            await kafka.load(self.servers, self.settings.topics.usage, samples, pack=pack)
            self.usage_ends = await kafka.ends(self.servers, self.settings.topics.usage)

        asyncio.run(run())

    def forget(self) -> None:
        """Delete all topics but the usage topic: as if no worker had ever run."""

        async def run() -> None:
            specs = topic_specs(self.settings)
            names = [s.name for s in specs if s.name != self.settings.topics.usage]
            async with kafka.admin(self.servers) as admin:
                await admin.delete_topics(names)
            self._new_group()
            await ensure_topics(self.settings)

        asyncio.run(run())

    def totals(self) -> Sums:
        """What a worker that starts now would recover as totals."""
        changelog = Changelogs(self.settings.app_id).totals
        newest = {
            (message.partition, message.key): message.value
            for message in asyncio.run(kafka.read(self.servers, changelog))
        }
        sums: Sums = {}
        for (_, key), value in newest.items():
            parts = key.decode().split(" ")
            if len(parts) == 3 and value is not None:
                held = sums.setdefault((parts[0], parts[1]), [0, 0, 0, 0])
                for i, amount in enumerate(value.strip(b"[]").split(b",")[1:]):
                    held[i] += int(amount)
        return sums

    # -- workers

    def start(self) -> None:
        """Start the workers."""
        for worker in self.workers:
            worker.start()

    def stop(self) -> None:
        """Stop them."""
        for worker in self.workers:
            worker.stop()

    def cpu_s(self) -> list[float]:
        """How much processor time each worker has taken, in seconds."""
        times = [psutil.Process(worker.pid).cpu_times() for worker in self.workers]
        return [each.user + each.system for each in times]

    def rss_bytes(self) -> list[int]:
        """How much memory each worker holds."""
        return [psutil.Process(worker.pid).memory_info().rss for worker in self.workers]

    def log(self, worker: Worker) -> str:
        """What a worker has said."""
        path = self._log_dir / f"{worker.name}.log"
        return path.read_text() if path.exists() else ""

    def began_s(self) -> float:
        """When the first partition of the workers' last start began to count; waits for it."""

        def times() -> list[str]:
            return [at for worker in self.workers for at in _BEGAN.findall(self.log(worker))]

        self.wait("a worker begins", lambda: bool(times()))
        return min(datetime.fromisoformat(at).timestamp() for at in times())

    def wait(self, what: str, ready: Callable[[], bool], timeout_s: float = DONE_TIMEOUT_S) -> None:
        """Poll until something is so.

        Raises:
            RuntimeError: not within the time, or a worker has ended; with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            self._check_workers()
            if time.monotonic() > deadline:
                raise RuntimeError(f"not within {timeout_s:.0f} s: {what}{self._tails()}")
            time.sleep(POLL_INTERVAL_S)

    def wait_done(self, timeout_s: float = DONE_TIMEOUT_S) -> float:
        """Wait until all usage is durable and decided; returns when it was (`time.time()`).

        Durable: the usage offsets are committed, with the changelog before them. Decided: the
        watermark of each decisions partition covers it, and with it the totals' changelog.
        """

        async def run() -> float:
            async with asyncio.timeout(timeout_s):
                watch = asyncio.create_task(self._watch_workers())
                done = asyncio.gather(self._committed(), self._decided())
                await asyncio.wait([watch, done], return_when=asyncio.FIRST_COMPLETED)
                if not done.done():
                    done.cancel()
                    watch.result()
                watch.cancel()
                return max(await done)

        try:
            return asyncio.run(run())
        except TimeoutError:
            raise RuntimeError(f"not done within {timeout_s:.0f} s{self._tails()}") from None

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
            self._check_workers()
            await asyncio.sleep(0.5)

    def _check_workers(self) -> None:
        for worker in self.workers:
            if worker.wanted and not worker.running:
                raise RuntimeError(f"{worker.name} has ended{self._tails()}")

    def _tails(self) -> str:
        return "".join(f"\n{w.name}: {self.log(w)[-2_000:]}" for w in self.workers)
