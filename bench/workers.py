"""Workers: the worker processes of an installation, and what can be seen of them from outside."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import psutil

from outlay.embedded.ports import LOOPBACK, free_port
from outlay.stack import Worker

POLL_INTERVAL_S = 0.02
WAIT_TIMEOUT_S = 300.0
SCRAPE_TIMEOUT_S = 2.0
LOG_TAIL_CHARS = 2_000

_BEGAN = re.compile(r'^timestamp=(\S+) .*event="?began"?', re.MULTILINE)
_OWNED = re.compile(r'^outlay_stream_partitions\{stage="(\w+)"\} ([0-9.]+)', re.MULTILINE)
_POSITION = re.compile(
    r'^outlay_stream_position\{partition="(\d+)",topic="([^"]+)"\} ([0-9.e+]+)', re.MULTILINE
)


class Workers:
    """So many workers with the same settings; their logs begin anew with each start."""

    def __init__(self, count: int, settings: Mapping[str, str], log_dir: Path) -> None:
        self._ports = [free_port() for _ in range(count)]
        self._workers = [
            Worker(index, env={**settings, "OUTLAY_METRICS_PORT": str(port)}, log_dir=log_dir)
            for index, port in enumerate(self._ports)
        ]
        self._log_dir = log_dir
        self._said: dict[str, int] = {}

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers)

    def start(self) -> None:
        """Start them."""
        for worker in self._workers:
            self._said[worker.name] = len(self._whole_log(worker))
            worker.start()

    def stop(self) -> None:
        """Stop them; nothing happens to those that do not run."""
        for worker in self._workers:
            worker.stop()

    # -- what they take

    def cpu_s(self) -> list[float]:
        """How much processor time each has taken, in seconds."""
        times = [psutil.Process(worker.pid).cpu_times() for worker in self._workers]
        return [each.user + each.system for each in times]

    def rss_bytes(self) -> list[int]:
        """How much memory each holds, in bytes."""
        return [psutil.Process(worker.pid).memory_info().rss for worker in self._workers]

    # -- what they say

    def log(self, worker: Worker) -> str:
        """What a worker has said since its last start."""
        return self._whole_log(worker)[self._said.get(worker.name, 0) :]

    def _whole_log(self, worker: Worker) -> str:
        path = self._log_dir / f"{worker.name}.log"
        return path.read_text() if path.exists() else ""

    def began_s(self) -> list[float]:
        """When each partition began to count (`time.time()`), in order; waits for the first."""

        def times() -> list[str]:
            return [at for worker in self._workers for at in _BEGAN.findall(self.log(worker))]

        self.wait("a worker begins", lambda: bool(times()))
        return sorted(datetime.fromisoformat(at).timestamp() for at in times())

    def owned(self, worker: Worker) -> dict[str, int]:
        """How many partitions a worker owns by its metrics, by stage; empty before it answers."""
        found = _OWNED.findall(self._metrics(worker))
        return {stage: int(float(count)) for stage, count in found}

    def positions(self, topic: str) -> dict[int, int]:
        """The next offset that is applied, by partition; of those that some worker counts."""
        found = [found for w in self._workers for found in _POSITION.findall(self._metrics(w))]
        return {int(partition): int(float(at)) for partition, name, at in found if name == topic}

    def _metrics(self, worker: Worker) -> str:
        url = f"http://{LOOPBACK}:{self._ports[worker.index]}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=SCRAPE_TIMEOUT_S) as response:
                text: str = response.read().decode()
                return text
        except OSError:
            return ""

    # -- waiting

    def wait(self, what: str, ready: Callable[[], bool], timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Poll until something is so.

        Raises:
            RuntimeError: not within the time, or a worker has ended; with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"not within {timeout_s:.0f} s: {what}{self.tails()}")
            time.sleep(POLL_INTERVAL_S)

    def check(self) -> None:
        """Raise RuntimeError when one has ended by itself."""
        for worker in self._workers:
            if worker.wanted and not worker.running:
                raise RuntimeError(f"{worker.name} has ended{self.tails()}")

    def tails(self) -> str:
        """The ends of their logs, for an error's text."""
        return "".join(f"\n{worker.name}: {self._tail(worker)}" for worker in self._workers)

    def _tail(self, worker: Worker) -> str:
        log = self.log(worker)
        # Why it ended is said before all that ending leads to.
        reasons = [line for line in log.splitlines() if "level=critical" in line]
        return "\n".join([*reasons, log[-LOG_TAIL_CHARS:]])
