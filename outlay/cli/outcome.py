"""What a command ends with: an exit code, and one clear line when it could not be carried out."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from outlay.embedded import EmbeddedError
from outlay.errors import OutlayError
from outlay.stack import StackError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def carry_out(command: Callable[[], int]) -> NoReturn:
    """Run a command and end the process with its exit code.

    SIGTERM interrupts it as Ctrl-C does. What it raises on purpose becomes a line on standard
    error and `EXIT_FAILED`, or `EXIT_USAGE` for a value that cannot be; so does what the system
    refuses, such as a file that cannot be written.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = command()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except (StackError, EmbeddedError, OutlayError, OSError) as error:
        code = _say(error, EXIT_FAILED)
    except ValueError as error:
        code = _say(error, EXIT_USAGE)
    sys.exit(code)


def log_to(path: Path) -> None:
    """Have this process's own log lines, warnings and above, go to a file and not to the screen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        filename=path,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)-8s %(name)s %(message)s",
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(error: Exception, code: int) -> int:
    print(f"outlay: {str(error) or repr(error)}", file=sys.stderr)
    return code
