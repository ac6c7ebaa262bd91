"""Redis server: one on loopback, keeping nothing, for as long as it is needed."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from outlay.embedded import ChildProcess
from outlay.embedded.ports import LOOPBACK, free_port

COMMAND = "redis-server"
START_TIMEOUT_S = 10.0


def why_absent() -> str | None:
    """What is not installed here; None where all is."""
    if shutil.which(COMMAND) is None:
        return f"no {COMMAND} is installed"
    if find_spec("redis") is None:
        return "the Python package redis is not installed"
    return None


@contextmanager
def redis_server(directory: Path) -> Iterator[int]:
    """The port of a server that is started here and stopped at the end."""
    port = free_port()
    server = ChildProcess(
        COMMAND,
        [COMMAND, "--bind", LOOPBACK, "--port", str(port), "--save", "", "--appendonly", "no"],
        log_path=directory / "redis.log",
        cwd=directory,
    )
    server.start()
    try:
        server.wait_until(lambda: _listens(port), START_TIMEOUT_S)
        yield port
    finally:
        server.stop()


def _listens(port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection((LOOPBACK, port), 1.0)):
        return True
    return False
