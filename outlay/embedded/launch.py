"""Run a command that dies with its parent: ``python -I -S launch.py PARENT_PID ARGV...``.

This file is run as a script, as the first thing in a new child process. On Linux it asks the kernel
to kill this process when the parent goes, then becomes the command by `execvp`: the process id
stays, and the request survives the exec. A script and not a `preexec_fn`, because Python code
between fork and exec may deadlock where the parent has threads. It imports nothing but the standard
library, so it costs about 20 ms.

Elsewhere than on Linux it only becomes the command: there a child outlives a parent that is killed.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
EXIT_NOT_STARTED = 127  # as a shell says "command not found"


def die_with_parent(parent_pid: int) -> None:
    """Have this process killed as soon as the parent's *thread* that started it ends (Linux only).

    SIGKILL, not SIGTERM: the parent is gone, so nobody is left to insist when a child does not end,
    and the next start must not find its ports and data directory still held.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the request was made
        os._exit(EXIT_NOT_STARTED)


def main(argv: list[str]) -> None:
    """Become the command ``argv[1:]``, a child of the process ``argv[0]``; never returns."""
    die_with_parent(int(argv[0]))
    try:
        os.execvp(argv[1], argv[1:])
    except OSError as error:
        sys.exit(f"cannot run {argv[1]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
