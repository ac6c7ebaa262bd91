"""Running `outlay` as a user does, in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

COMMAND = (sys.executable, "-m", "outlay.cli")
READY_TIMEOUT_S = 150
END_TIMEOUT_S = 90


def environment(**changes):
    """This process's, without what chooses a broker; a change of None takes a variable away."""
    plain = {"OUTLAY_BROKER": None, "OUTLAY_KAFKA_BOOTSTRAP_SERVERS": None, "COLUMNS": "200"}
    merged = os.environ | plain | changes
    return {name: value for name, value in merged.items() if value is not None}


def outlay(*arguments, timeout_s=END_TIMEOUT_S, **changes):
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
        env=environment(**changes),
    )


class Up:
    """A running `outlay up`; its output is in `text`."""

    def __init__(self, process, log):
        self._process = process
        self._log = log

    @property
    def text(self):
        return self._log.read_text()

    def told(self, name):
        """The last word of the line that begins with a name: an address."""
        return next(line for line in self.text.splitlines() if name in line).split()[-1]

    def end(self, number):
        """Send a signal and wait; the exit code."""
        self._process.send_signal(number)
        return self._process.wait(END_TIMEOUT_S)


@contextmanager
def up(tmp_path, *arguments, **changes):
    """Start `outlay up` and wait until it says that it is ready."""
    log = tmp_path / f"up-{time.monotonic_ns()}.out"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*COMMAND, "up", *arguments],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(**changes),
        )
    try:
        running, deadline = Up(process, log), time.monotonic() + READY_TIMEOUT_S
        while "ready" not in running.text:
            assert process.poll() is None, running.text
            assert time.monotonic() < deadline, running.text
            time.sleep(0.1)
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
