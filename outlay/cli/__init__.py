"""The command line, `outlay`: where the library and the service are put together."""

from __future__ import annotations

import importlib.util
import sys

_REQUIRED = ("typer", "rich")


def main() -> None:
    """The console script; ends the process with the exit code."""
    missing = [name for name in _REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"outlay: the command line needs {' and '.join(missing)}: pip install 'outlay[service]'"
        )
    from outlay.cli.commands import app

    app(prog_name="outlay")
