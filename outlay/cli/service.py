"""Running one part of the service in the foreground."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from outlay.stack.service import service_command, service_env


def run_module(module: str, *arguments: str) -> NoReturn:
    """Become `python -m MODULE ARGUMENTS`: its signals, its output and its exit code are its own.

    Raises:
        ServiceNotInstalled: the module, or what it needs, is not here.
    """
    command = service_command(module, *arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, service_env({}))
