"""Peer: another way of counting the same records, which runs in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import msgspec

from bench.usage import Sums
from outlay.stack.service import service_env

TIMEOUT_S = 300.0
STDERR_CHARS = 2_000


class Peer(msgspec.Struct):
    """What a peer's process prints: its time from the first record to the last commit, and totals.

    `totals` are rows of scope, window, nano-dollars, executions, input and output tokens.
    """

    records: int
    elapsed_s: float
    cpu_s: float
    totals: list[tuple[str, str, int, int, int, int]] = []

    @property
    def records_per_s(self) -> float:
        """How fast it was."""
        return self.records / self.elapsed_s

    @property
    def cpu_s_per_million(self) -> float:
        """How much processor time a million records take, in seconds."""
        return self.cpu_s / self.records * 1e6

    @property
    def sums(self) -> Sums:
        """The totals as the benchmarks hold them."""
        return {(scope, window): amounts for scope, window, *amounts in self.totals}


def is_installed(package: str) -> bool:
    """Whether a peer can be run here."""
    return importlib.util.find_spec(package) is not None


def run_peer(module: str, servers: str, topic: str, records: int) -> Peer:
    """Run a peer's module on a topic that holds so many records.

    Raises:
        RuntimeError: it failed, or did not end in time; with the end of what it said.
    """
    return msgspec.json.decode(run_child(module, servers, topic, str(records)), type=Peer)


def run_child(module: str, *arguments: str) -> bytes:
    """Run a module in a process of its own; the last line that it prints.

    Raises:
        RuntimeError: it failed, or did not end in time; with the end of what it said.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        # As the workers are: the modules are found from wherever this is run.
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, env=service_env({}))
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(
            f"{module} did not end within {TIMEOUT_S:.0f} s{_end(error.stderr)}"
        ) from None
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}{_end(done.stderr)}")
    return done.stdout.splitlines()[-1]


def _end(said: bytes | None) -> str:
    return "\n" + (said or b"").decode(errors="replace")[-STDERR_CHARS:]


def say(peer: Peer) -> None:
    """In the peer's process: print what it found."""
    print(msgspec.json.encode(peer).decode(), flush=True)
