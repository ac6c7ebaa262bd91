"""Child processes start, are watched, end within bounds, and never outlive their parent."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from outlay.embedded import ChildFailed, ChildProcess

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('deaf', flush=True); time.sleep(60)",
)
END_TIMEOUT_S = 5.0


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def becomes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + END_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def ended(pid: int) -> bool:
    """Whether no such process runs; an orphan that nobody has buried yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_output_goes_to_the_log(tmp_path: Path) -> None:
    """Both streams, with the environment that was given, appended over starts."""
    code = "import os, sys; print(os.environ['WHO']); print('err', file=sys.stderr)"
    env = {**os.environ, "WHO": "me"}
    child = ChildProcess("echo", python(code), log_path=tmp_path / "logs" / "log", env=env)
    for _ in range(2):
        child.start()
        assert becomes_true(lambda: not child.running)
        assert child.poll() == 0
    assert sorted(child.log_path.read_text().split()) == ["err", "err", "me", "me"]


def test_stop_ends_it_by_sigterm(tmp_path: Path) -> None:
    """The exit code says which signal it was; stopping twice is no error."""
    child = ChildProcess("sleep", SLEEP, log_path=tmp_path / "log")
    assert child.stop() is None
    child.start()
    pid = child.pid
    child.start()  # nothing happens: it runs
    assert child.pid == pid
    assert child.stop() == -signal.SIGTERM
    assert child.stop() == -signal.SIGTERM
    assert child.pid is None


def test_stop_insists_after_its_bound(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is ended by SIGKILL."""
    log = tmp_path / "log"
    child = ChildProcess("stubborn", STUBBORN, log_path=log, stop_timeout_s=0.2)
    child.start()
    child.wait_until(lambda: "deaf" in log.read_text(), END_TIMEOUT_S)
    assert child.stop() == -signal.SIGKILL


def test_waiting_fails_early_with_the_log(tmp_path: Path) -> None:
    """A child that dies is noticed at once, and its last words are told."""
    child = ChildProcess("dying", python("raise SystemExit('woe')"), log_path=tmp_path / "log")
    child.start()
    before = time.monotonic()
    with pytest.raises(ChildFailed, match=r"(?s)dying ended with exit code 1.*woe"):
        child.wait_until(lambda: False, 60)
    assert time.monotonic() - before < END_TIMEOUT_S


def test_waiting_has_a_bound(tmp_path: Path) -> None:
    """A child that never becomes ready is left to the caller, after the bound."""
    child = ChildProcess("sleep", SLEEP, log_path=tmp_path / "log")
    child.start()
    with pytest.raises(ChildFailed, match=r"not ready within 0\.1 s"):
        child.wait_until(lambda: False, 0.1)
    assert child.running
    child.stop()


def test_unknown_command_is_told_at_the_start(tmp_path: Path) -> None:
    """Not only by an exit code later."""
    child = ChildProcess("none", ("no-such-command-here",), log_path=tmp_path / "log")
    with pytest.raises(ChildFailed, match="no-such-command-here"):
        child.start()


def test_large_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that has grown over its bound starts anew, and one older log is kept."""
    monkeypatch.setattr("outlay.embedded.children.LOG_BYTES_MAX", 10)
    log = tmp_path / "log"
    log.write_text("x" * 11)
    child = ChildProcess("sleep", SLEEP, log_path=log)
    child.start()
    child.stop()
    assert log.read_text() == ""
    assert (tmp_path / "log.1").read_text() == "x" * 11


def test_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """Linux ends a child with its parent *thread*: a thread that comes and goes must not matter."""
    child = ChildProcess("sleep", SLEEP, log_path=tmp_path / "log")

    def start_in_thread() -> None:
        starter = threading.Thread(target=child.start)
        starter.start()
        starter.join()

    start_in_thread()
    time.sleep(0.3)
    assert child.running
    assert child.stop() == -signal.SIGTERM
    asyncio.run(asyncio.to_thread(child.start))
    time.sleep(0.3)
    assert child.running
    child.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM])
def test_child_dies_with_its_parent(tmp_path: Path, deadly: signal.Signals) -> None:
    """However the parent ends, the child does not linger, even one that ignores SIGTERM."""
    code = (
        "import sys, time; from pathlib import Path; from outlay.embedded import ChildProcess\n"
        f"child = ChildProcess('c', {STUBBORN!r}, log_path=Path({str(tmp_path / 'log')!r}))\n"
        "child.start(); print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        log = tmp_path / "log"
        assert becomes_true(lambda: "deaf" in log.read_text())
        parent.send_signal(deadly)
        parent.wait(END_TIMEOUT_S)
    assert becomes_true(lambda: ended(pid))
