"""API load: wrk posts bodies to a URL from a process of its own, and says how it went."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

COMMAND = "wrk"
SCRIPT = Path(__file__).with_suffix(".lua")
TIMEOUT_S = 10
"""How long a request may take, in seconds, until it is an error."""

END_TIMEOUT_S = 30.0
"""How long wrk may take beyond the time that it was given, in seconds."""


class Load(msgspec.Struct, frozen=True):
    """What became of the requests: `good` were answered 2xx, `marked` of these hold the mark.

    `p50_ms` and `p99_ms` are of the answers, as wrk tells them.
    """

    sent: int
    answered: int
    good: int
    marked: int
    socket_errors: int
    timeouts: int
    elapsed_s: float
    p50_ms: float
    p99_ms: float

    @property
    def per_s(self) -> float:
        """How many requests a second were answered 2xx, from the first sent to the last answer."""
        return self.good / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def errors(self) -> int:
        """How many were answered otherwise, too late, not at all, or lost their connection."""
        # What loses its connection is not answered, either; it is one error, not two.
        lost = max(self.sent - self.answered, self.socket_errors)
        return self.answered - self.good + self.timeouts + lost


def why_absent() -> str | None:
    """What is not installed here; None where it is."""
    return None if shutil.which(COMMAND) else f"no {COMMAND} is installed"


def write_lines(path: Path, bodies: Sequence[bytes]) -> Path:
    """Bodies of JSON without line ends, where `load` finds them."""
    path.write_bytes(b"".join(body + b"\n" for body in bodies))
    return path


def load(
    url: str, lines: Path, *, connections: int, seconds: float, mark: str, key: str = ""
) -> Load:
    """Post the lines of a file in turn over so many connections, and wait for all answers.

    Each connection sends its next request when it has its answer. The first line is the first
    that is sent, each time.

    Raises:
        RuntimeError: wrk failed, or did not end in time; with what it said.
    """
    command = [
        COMMAND, "--threads", "1", "--connections", str(connections),
        "--duration", f"{round(seconds + TIMEOUT_S + 1)}s", "--timeout", f"{TIMEOUT_S}s",
        "--script", str(SCRIPT), url, "--", str(lines), str(seconds), mark,
    ]  # fmt: skip
    # A key on the command line would be for everybody to read.
    env = os.environ | {"BENCH_AUTHORIZATION": f"Bearer {key}"}
    try:
        timeout_s = seconds + TIMEOUT_S + END_TIMEOUT_S
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, env=env)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{COMMAND} did not end within {timeout_s:.0f} s") from None
    return parse(done.stdout + done.stderr)


def parse(said: bytes) -> Load:
    """What the script printed, among what wrk says itself.

    Raises:
        RuntimeError: there is nothing of the script.
    """
    for line in said.splitlines():
        if line.startswith(b"{"):
            return msgspec.json.decode(line, type=Load)
    raise RuntimeError(f"{COMMAND} failed:\n{said.decode(errors='replace')}")
