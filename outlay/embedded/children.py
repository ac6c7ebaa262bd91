"""Child processes that are started, watched and stopped in bounds; they die with their parent."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from outlay.embedded.errors import ChildFailed
from outlay.embedded.spawner import in_spawner_thread

STOP_TIMEOUT_S = 15.0  # from SIGTERM to SIGKILL
KILL_TIMEOUT_S = 10.0  # the kernel's time to end a process after SIGKILL
POLL_INTERVAL_S = 0.05
LOG_TAIL_LINES = 30
LOG_TAIL_BYTES_MAX = 16_384
LOG_BYTES_MAX = 16 * 1024 * 1024  # a larger log is set aside at the next start, one is kept

_LAUNCHER = Path(__file__).with_name("launch.py")


class ChildProcess:
    """One child process, in a session of its own, writing its output to a log file.

    A session of its own, so that Ctrl-C in a terminal reaches the parent alone, which then stops
    its children in the right order. On Linux the child is killed when the parent dies, however it
    dies (see `outlay.embedded.launch`); elsewhere a child outlives a parent killed by SIGKILL.

    Safe to start from any thread and from within an event loop, where it blocks for some
    milliseconds; not meant to be shared between threads. It can be started again after it ended.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_timeout_s: float = STOP_TIMEOUT_S,
        more_logs: Sequence[Path] = (),
    ) -> None:
        """Describe the child; nothing is started yet.

        `name` stands in error messages. `env` is the whole environment (None: this process's).
        Output is appended to `log_path`; `more_logs` are files that the child writes itself and
        that belong into an error's log tail.
        """
        self.name = name
        self.argv = tuple(argv)
        self.log_path = log_path
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self._stop_timeout_s = stop_timeout_s
        self._logs = (*more_logs, log_path)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the running child; None when it is not running."""
        return self._process.pid if self._process is not None and self.poll() is None else None

    @property
    def running(self) -> bool:
        """Whether the child is started and has not ended."""
        return self.pid is not None

    def start(self) -> None:
        """Start the child; nothing happens when it runs.

        Raises `ChildFailed` when the command does not exist or cannot be started.
        """
        if self.running:
            return
        if shutil.which(self.argv[0]) is None:
            raise ChildFailed(f"{self.name}: no such command: {self.argv[0]}")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        _set_large_log_aside(self.log_path)
        try:
            self._process = in_spawner_thread(self._spawn)
        except OSError as error:
            raise ChildFailed(f"{self.name}: cannot be started: {error}") from error

    def _spawn(self) -> subprocess.Popen[bytes]:
        launcher = (sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()))
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                (*launcher, *self.argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it); None while it runs or unstarted."""
        return None if self._process is None else self._process.poll()

    def wait_until(
        self,
        ready: Callable[[], bool],
        timeout_s: float,
        *,
        poll_interval_s: float = POLL_INTERVAL_S,
    ) -> None:
        """Return when `ready()` is true.

        Raises `ChildFailed`, with the end of its log, as soon as the child has ended, or after
        `timeout_s`; then the child is left running. What `ready` raises passes through.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if self._process is None:
                raise ChildFailed(f"{self.name} was never started")
            code = self.poll()
            if code is not None:
                raise ChildFailed(f"{self.name} ended with {_said(code)}.\n{self.log_tail()}")
            if ready() and self.poll() is None:  # otherwise it was somebody else who is ready
                return
            if time.monotonic() >= deadline:
                raise ChildFailed(
                    f"{self.name} was not ready within {timeout_s:g} s.\n{self.log_tail()}"
                )
            time.sleep(poll_interval_s)

    def stop(self) -> int | None:
        """End the child with SIGTERM, then with SIGKILL after its bound; its exit code.

        Nothing happens when it has ended; None when it was never started.
        """
        if self._process is None:
            return None
        if self.running:
            self._process.terminate()
            try:
                return self._process.wait(self._stop_timeout_s)
            except subprocess.TimeoutExpired:
                return self.kill()
        return self._process.returncode

    def kill(self) -> int | None:
        """End the child at once with SIGKILL and wait for its end; its exit code."""
        if self._process is None:
            return None
        self._process.kill()
        return self._process.wait(KILL_TIMEOUT_S)

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of each of its logs, each under the log's path; for error messages."""
        return "\n".join(
            f"--- {path}\n{text}" for path in self._logs if (text := _tail(path, lines))
        )


def _tail(path: Path, lines: int) -> str:
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES_MAX))
            text = log.read(LOG_TAIL_BYTES_MAX).decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _set_large_log_aside(path: Path) -> None:
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_name(f"{path.name}.1"))


def _said(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
