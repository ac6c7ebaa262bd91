"""API keys: what one looks like, and what is kept of it. Pure.

A key is `outlay_sk_` and 43 random letters and digits, 256 bits. It is shown once, when it is made.
What is kept is its SHA-256 digest: nobody finds a key of 256 random bits by its digest, so the
digest needs no salt and no slow hash, as those of passwords that people think of do.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from datetime import datetime
from typing import Annotated, Literal, get_args

import msgspec

from outlay.scope import Scope

KEY_PREFIX = "outlay_sk_"
"""What every key starts with, so that people and scanners of code recognise one."""

KEY_RANDOM_LENGTH = 43
"""How many random letters and digits follow: 62 to the 43rd is above 2 to the 256th."""

NAME_LENGTH_MAX = 100
"""The longest name of a key, in characters."""

Role = Literal["viewer", "emitter", "operator", "admin"]
"""What a key is for: reading; reporting usage and asking checks; changing budgets; everything."""

ROLES: tuple[Role, ...] = get_args(Role)

_ALPHABET = string.ascii_letters + string.digits
_ID_BYTES = 6
_is_key = re.compile(f"{KEY_PREFIX}[A-Za-z0-9]{{{KEY_RANDOM_LENGTH}}}", re.ASCII).fullmatch
_keys_in = re.compile(f"{KEY_PREFIX}[A-Za-z0-9]+", re.ASCII)
_is_digest = re.compile("[0-9a-f]{64}", re.ASCII).fullmatch
_is_id = re.compile("[0-9a-z_-]{1,64}", re.ASCII).fullmatch

_Time = Annotated[datetime, msgspec.Meta(tz=True)]


def new_key() -> str:
    """A new key, from the system's source of secrets."""
    return KEY_PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(KEY_RANDOM_LENGTH))


def looks_like_key(text: str) -> bool:
    """Whether a text has the shape of a key."""
    return _is_key(text) is not None


def without_keys(text: str) -> str:
    """A text with what looks like keys, or like parts of them, cut short."""
    return _keys_in.sub(f"{KEY_PREFIX}…", text) if KEY_PREFIX in text else text


def digest_of(key: str) -> str:
    """The SHA-256 digest of a key, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a key; `organization_id` None is all organizations.

    Raises:
        ValueError: a name, an organization, a digest or roles that cannot be.
    """

    id: str
    name: str
    organization_id: str | None
    roles: tuple[Role, ...]
    digest: str
    created_at: _Time
    revoked_at: _Time | None = None

    def __post_init__(self) -> None:
        if not _is_id(self.id):
            raise ValueError("a key's id is 1 to 64 of a-z, 0-9, _ and -")
        if not 1 <= len(self.name) <= NAME_LENGTH_MAX or not self.name.isprintable():
            raise ValueError(f"a key's name has 1 to {NAME_LENGTH_MAX} printable characters")
        if looks_like_key(self.name):
            raise ValueError("a key's name must not be a key")
        if not _is_digest(self.digest):
            raise ValueError("a key's digest is 64 hexadecimal digits")
        if self.organization_id is not None:
            Scope(self.organization_id)
        if not self.roles or not set(self.roles) <= set(ROLES):
            raise ValueError(f"a key has one role or more of {', '.join(ROLES)}")

    @classmethod
    def made(
        cls, key: str, name: str, organization_id: str | None, roles: tuple[Role, ...], at: datetime
    ) -> ApiKey:
        """What is kept of a new key."""
        ordered = tuple(role for role in ROLES if role in roles)
        unknown = set(roles) - set(ordered)
        if unknown:
            raise ValueError(f"there is no role {min(unknown)!r}, only {', '.join(ROLES)}")
        key_id = secrets.token_hex(_ID_BYTES)
        return cls(key_id, name, organization_id, ordered, digest_of(key), at)

    @property
    def in_force(self) -> bool:
        """Whether it was not revoked."""
        return self.revoked_at is None
