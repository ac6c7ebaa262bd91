"""Keys: those of the file, in memory, and always those of the file as it is now."""

from __future__ import annotations

import hmac
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from outlay.apikey import ApiKey, digest_of
from outlay.keyfile import KeyFile, KeyFileError

CHECK_INTERVAL_S = 1.0
"""How often the file is looked at: what is made or revoked takes effect within about that."""

_CLOSE_TIMEOUT_S = 5.0
_NO_DIGEST = "0" * 64

_Mark = tuple[int, int, int]  # modification time, size and inode of a file

log = structlog.get_logger("outlay.api")


def _in_force(keys: dict[str, ApiKey]) -> frozenset[str]:
    return frozenset(key.id for key in keys.values() if key.in_force)


class Keyring:
    """The keys of a file; a thread of its own looks whether it has changed.

    So no request waits for a disk, and a key that was revoked is refused though nobody has asked
    meanwhile. A file that goes away takes its keys along. One that cannot be read, or is broken,
    leaves those that were known in force, and is logged: a slip of a hand must not stop a fleet.

    Raises:
        KeyFileError: the file is broken when the ring is made.
        OSError: the file cannot be read when the ring is made.
    """

    def __init__(self, path: Path, *, check_interval_s: float = CHECK_INTERVAL_S) -> None:
        self._file = KeyFile(path)
        self._check_interval_s = check_interval_s
        self._seen = self._mark()
        self._keys = self._read()
        self._ids = _in_force(self._keys)
        self._problem = ""
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def empty(self) -> bool:
        """Whether no key is in force."""
        return not any(key.in_force for key in self._keys.values())

    def find(self, key: str) -> ApiKey | None:
        """What is known of a key, revoked or not; None of one that is not of the file.

        It is found by its digest. How long the table takes tells at most of digests, which are no
        help to find a key: whoever tries keys cannot choose their digests. The comparison takes the
        same time wherever two digests differ, and is made whether or not there is one.
        """
        digest = digest_of(key)
        found = self._keys.get(digest)
        same = hmac.compare_digest(_NO_DIGEST if found is None else found.digest, digest)
        return found if same else None

    def is_in_force(self, key_id: str) -> bool:
        """Whether a key was not revoked; for answers that go on for long."""
        return key_id in self._ids

    def check(self) -> None:
        """Read the file again if it is another one than the last time; what is wrong is logged."""
        try:
            mark = self._mark()
            if mark == self._seen:
                return
            keys = self._read()
        except (KeyFileError, OSError) as error:
            if str(error) != self._problem:  # once, and not each second
                self._problem = str(error)
                log.error("the file of keys cannot be read: those before stay", error=str(error))
            return
        # What was written since the mark was taken makes another mark, and is read the next time.
        self._seen, self._keys, self._problem = mark, keys, ""
        self._ids = _in_force(keys)
        log.info("the file of keys was read again", keys=len(keys))

    def _mark(self) -> _Mark | None:
        try:
            found = self._file.path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> dict[str, ApiKey]:
        return {key.digest: key for key in self._file.read()}

    def _run(self) -> None:
        while not self._closing.wait(self._check_interval_s):
            self.check()

    def __enter__(self) -> Self:
        self._closing.clear()
        self._thread = threading.Thread(target=self._run, name="outlay-api-keys", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        thread, self._thread = self._thread, None
        self._closing.set()
        if thread is not None:
            thread.join(_CLOSE_TIMEOUT_S)
