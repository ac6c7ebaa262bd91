"""The file of API keys: read by every API process, changed by `outlay keys`.

It is replaced as a whole, so a reader finds the old keys or the new ones, and writers wait for
each other at a lock beside it. Revoked keys stay in it: the list shows them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from outlay.apikey import ApiKey, Role, looks_like_key, new_key

FILE_NAME = "keys.json"
"""What the file is called in a data directory."""

KEYS_MAX = 10_000
"""How many keys a file holds, revoked ones with them."""

FILE_BYTES_MAX = 16 * 1024 * 1024
LOCK_TIMEOUT_S = 10.0
"""How long a writer waits for another one, in seconds."""

_LOCK_POLL_S = 0.02


class KeyFileError(ValueError):
    """The file is not one of keys, or a change of it that cannot be; says nothing of digests."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    keys: tuple[ApiKey, ...]


_decoder = msgspec.json.Decoder(_File)


def parse(content: bytes) -> tuple[ApiKey, ...]:
    """The keys that a file's content says, in the order in which they were made.

    Raises:
        KeyFileError: it is not the content of such a file.
    """
    if len(content) > FILE_BYTES_MAX:
        raise KeyFileError(f"not a file of keys: it has over {FILE_BYTES_MAX} bytes")
    try:
        keys = _decoder.decode(content).keys
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise KeyFileError(f"not a file of keys: {error}") from None
    if len(keys) > KEYS_MAX:
        raise KeyFileError(f"it has over {KEYS_MAX} keys")
    for field in ("id", "digest"):
        if len({getattr(key, field) for key in keys}) < len(keys):
            raise KeyFileError(f"two keys have the same {field}")
    return keys


def render(keys: tuple[ApiKey, ...]) -> bytes:
    """The file's content."""
    return msgspec.json.format(msgspec.json.encode(_File(1, keys)), indent=2) + b"\n"


class KeyFile:
    """A file of keys; each method reads it anew.

    Raises:
        KeyFileError: what is at the path is not such a file.
        OSError: it cannot be read, or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[ApiKey, ...]:
        """All keys; none where there is no file."""
        try:
            with self.path.open("rb") as file:
                return parse(file.read(FILE_BYTES_MAX + 1))
        except FileNotFoundError:
            return ()
        except KeyFileError as error:
            raise KeyFileError(f"{self.path}: {error}") from None

    def create(
        self, name: str, organization_id: str | None, roles: tuple[Role, ...]
    ) -> tuple[ApiKey, str]:
        """Make a key: what is kept of it, and the key itself, which nobody can show again.

        Raises:
            ValueError: a name, organization or role that cannot be, or a name that is taken.
        """
        with self._locked():
            return self._create(self.read(), name, organization_id, roles)

    def first_admin(self, name: str) -> str | None:
        """Make a key for everything where no key is in force; None where one is."""
        with self._locked():
            keys = self.read()
            if any(key.in_force for key in keys):
                return None
            return self._create(keys, name, None, ("admin",))[1]

    def revoke(self, id_or_name: str) -> ApiKey:
        """Revoke the key in force that has an id, or a name.

        Raises:
            KeyFileError: none has.
        """
        with self._locked():
            keys = self.read()
            found = [key for key in keys if key.in_force and id_or_name in (key.id, key.name)]
            # A name may be another key's id: the id goes before.
            found.sort(key=lambda key: key.id != id_or_name)
            if not found:
                raise KeyFileError(f"no key in force has the id or name {_shown(id_or_name)}")
            revoked = msgspec.structs.replace(found[0], revoked_at=_now())
            self._write(tuple(revoked if key.id == revoked.id else key for key in keys))
            return revoked

    def _create(
        self,
        keys: tuple[ApiKey, ...],
        name: str,
        organization_id: str | None,
        roles: tuple[Role, ...],
    ) -> tuple[ApiKey, str]:
        if any(key.in_force and key.name == name for key in keys):
            raise KeyFileError(f"a key in force is called {name!r}: revoke it, or choose another")
        if len(keys) >= KEYS_MAX:
            raise KeyFileError(f"the file has {KEYS_MAX} keys already")
        secret = new_key()
        made = ApiKey.made(secret, name, organization_id, roles, _now())
        self._write((*keys, made))
        return made, secret

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock, which the system lets go of however its holder ends."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(self.path.name + ".lock")
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline_s = time.monotonic() + LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline_s:
                        raise KeyFileError(f"somebody else holds {beside}") from None
                    time.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(descriptor)

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        """Replace the file, which only its owner may read, and its group where it could before."""
        path = self.path.resolve()  # where it is a link, that stays one
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(descriptor, "wb") as file:  # made with mode 0600
                file.write(render(keys))
                file.flush()
                self._keep_access(file.fileno(), path)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync_folder(path.parent)

    @staticmethod
    def _keep_access(descriptor: int, path: Path) -> None:
        # So that the API can still read it: else a key that is revoked would stay in force there.
        if not path.exists():
            return
        before = path.stat()
        if os.geteuid() == 0:
            os.fchown(descriptor, before.st_uid, before.st_gid)
        elif os.fstat(descriptor).st_gid != before.st_gid:
            with contextlib.suppress(PermissionError):  # not a group of ours
                os.fchown(descriptor, -1, before.st_gid)
        # What everybody could read was a slip, and no choice of a group.
        chosen = not before.st_mode & 0o007
        if chosen and os.fstat(descriptor).st_gid == before.st_gid:
            os.fchmod(descriptor, 0o600 | before.st_mode & 0o040)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _shown(text: str) -> str:
    return "that was given" if looks_like_key(text) else repr(text)
