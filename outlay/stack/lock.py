"""One stack at a time on a data directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from outlay.stack.errors import DataDirInUse


class DataDirLock:
    """A lock file in a data directory; the system lets go of it however its holder ends."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take it, and make the directory; nothing happens when it is held.

        Raises:
            DataDirInUse: another process has it; the message names its process id.
        """
        if self._file is not None:
            return
        self._data_dir.mkdir(parents=True, exist_ok=True)
        file = (self._data_dir / "lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise DataDirInUse(
                f"{self._data_dir} is in use by another `outlay up` or demo (process {holder}): "
                "stop it, or choose another --data-dir"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Let go of it; nothing happens when it is not held."""
        file, self._file = self._file, None
        if file is not None:
            file.close()  # the file stays: a name that is removed could be locked twice
