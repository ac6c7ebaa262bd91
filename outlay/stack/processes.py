"""The service's processes: children that are started again when they end by themselves."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from outlay.embedded import ChildProcess
from outlay.stack.errors import StackFailed
from outlay.stack.service import service_command, service_env

RESTARTS_MAX = 5
"""How often a process is started again within `RESTART_WINDOW_S`."""

RESTART_WINDOW_S = 120.0

EXIT_SETTINGS = 2
"""The exit code of a process whose settings cannot be: starting it again would not help."""

STOP_TIMEOUT_S = 30.0
"""From SIGTERM to SIGKILL; a worker gives itself 20 s to flush and to leave its group."""


class Process:
    """One process of the service, `python -m MODULE ARGUMENTS`, with its log in `logs/NAME.log`.

    `kill` and `stop` end it on purpose: it is then down until it is started again. What ends
    without being told to is started again by `tend`.
    """

    def __init__(
        self, name: str, module: str, *arguments: str, env: Mapping[str, str], log_dir: Path
    ) -> None:
        self.name = name
        self.child = ChildProcess(
            name,
            service_command(module, *arguments),
            env=service_env(env),
            log_path=log_dir / f"{name}.log",
            stop_timeout_s=STOP_TIMEOUT_S,
        )
        self.exit_codes: list[int] = []
        """How it ended, each time so far (negative: the signal that ended it)."""
        self.started_at: datetime | None = None
        self._wanted = False
        self._end_noted = False
        self._restarts_s: deque[float] = deque()

    @property
    def pid(self) -> int | None:
        """Its process id; None when it does not run."""
        return self.child.pid

    @property
    def running(self) -> bool:
        """Whether it runs, paused or not."""
        return self.child.running

    @property
    def wanted(self) -> bool:
        """Whether it was started, and not ended on purpose since."""
        return self._wanted

    @property
    def exit_code(self) -> int | None:
        """How it ended the last time; None while it runs, and before it ever did."""
        self._note_end()
        return None if self.running or not self.exit_codes else self.exit_codes[-1]

    def start(self) -> None:
        """Start it; nothing happens when it runs."""
        if self.running:
            return
        self._note_end()
        self.child.start()
        self.started_at = datetime.now(UTC)
        self._wanted, self._end_noted = True, False

    def stop(self) -> int | None:
        """Ask it to end with SIGTERM and wait, up to SIGKILL; its exit code."""
        self._wanted = False
        self.resume()  # a process that stands still cannot end in order
        self.child.stop()
        return self.exit_code

    def kill(self) -> int | None:
        """End it at once with SIGKILL, as a crash would; its exit code."""
        self._wanted = False
        self.child.kill()
        return self.exit_code

    def pause(self) -> None:
        """Have it stand still with SIGSTOP, as a hung machine does; nothing when it is down."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal(signal.SIGCONT)

    def tend(self, say: Callable[[str], None]) -> None:
        """Start it again when it has ended by itself, and say so.

        Raises:
            StackFailed: it did so more than `RESTARTS_MAX` times within `RESTART_WINDOW_S`, or
                because its settings cannot be.
        """
        if not self._wanted or self.running:
            return
        code, now_s = self.exit_code, time.monotonic()
        if code == EXIT_SETTINGS:
            self._wanted = False
            raise StackFailed(
                f"{self.name} ended with exit code {code}: its settings cannot be.\n"
                f"{self.child.log_tail()}"
            )
        while self._restarts_s and now_s - self._restarts_s[0] > RESTART_WINDOW_S:
            self._restarts_s.popleft()
        if len(self._restarts_s) >= RESTARTS_MAX:
            self._wanted = False
            raise StackFailed(
                f"{self.name} ended with exit code {code}; it was started again {RESTARTS_MAX} "
                f"times within {RESTART_WINDOW_S:g} s already.\n{self.child.log_tail()}"
            )
        self._restarts_s.append(now_s)
        self.start()
        say(f"{self.name} ended with exit code {code} and was started again")

    def _note_end(self) -> None:
        code = self.child.poll()
        if code is not None and not self._end_noted:
            self._end_noted = True
            self.exit_codes.append(code)

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is not None:
            os.kill(pid, number)


class Worker(Process):
    """A stream worker, `worker-0`, `worker-1`, …"""

    def __init__(self, index: int, *, env: Mapping[str, str], log_dir: Path) -> None:
        super().__init__(f"worker-{index}", "streams.worker", env=env, log_dir=log_dir)
        self.index = index
