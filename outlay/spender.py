"""Spender: whose usage a record is, as one key.

The ids of organization, team, user and agent, percent-encoded, between slashes:
`acme/search/u7/writer`. A team or a user that is not named is empty. No key holds a space.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

from outlay.scope import ID_LENGTH_MAX, quote_id

SPENDER_KEYS_CACHE_MAX = 65_536
"""How many spenders' keys are kept ready."""

_KEY_LENGTH_MAX = 4 * 12 * ID_LENGTH_MAX + 3  # ids of four bytes a character, percent-encoded

Spender = tuple[str, str | None, str | None, str]
"""The ids of organization, team, user and agent."""

_ID = f"[A-Za-z0-9_.~-]{{1,{ID_LENGTH_MAX}}}"
_is_plain = re.compile(f"{_ID}/(?:{_ID})?/(?:{_ID})?/{_ID}", re.ASCII).fullmatch


@lru_cache(maxsize=SPENDER_KEYS_CACHE_MAX)
def spender_key(
    organization_id: str, team_id: str | None, user_id: str | None, agent_id: str
) -> str:
    """The key of a spender.

    >>> spender_key("acme", None, "u7", "writer 1")
    'acme//u7/writer%201'
    """
    ids = (organization_id, team_id or "", user_id or "", agent_id)
    return "/".join(map(quote_id, ids))


def parse_spender(key: str) -> Spender:
    """The spender of a key.

        >>> parse_spender("acme//u7/writer%201")
        ('acme', None, 'u7', 'writer 1')

    Raises:
        ValueError: no record of usage is of such a spender, or its key is written otherwise.
    """
    if len(key) > _KEY_LENGTH_MAX:  # before anything is made of it
        raise ValueError(f"not a spender's key: it has {len(key)} characters")
    parts = key.split("/")
    if not _is_plain(key):
        parts = [unquote(part) for part in parts]
        if (
            len(parts) != 4
            or not (parts[0] and parts[3])
            or max(map(len, parts)) > ID_LENGTH_MAX
            or "/".join(map(quote_id, parts)) != key
        ):
            raise ValueError(f"not a spender's key: {key[: 4 * ID_LENGTH_MAX]!r}")
    organization_id, team_id, user_id, agent_id = parts
    return organization_id, team_id or None, user_id or None, agent_id
