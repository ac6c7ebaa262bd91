"""Scope: who a total or a budget is for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import quote, unquote

ID_LENGTH_MAX = 256
"""The longest id of an organization, team, user or agent, in characters."""

SCOPE_KEYS_CACHE_MAX = 65_536
"""How many callers' scope keys are kept ready, in (organization, team, user, agent) tuples."""

ScopeKind = Literal["organization", "team", "user", "member", "agent"]

_AGENT_PART = "/agent:"
_PARTS = ("organization", "team", "user", "agent")
_is_plain = re.compile(r"[A-Za-z0-9_.~-]*", re.ASCII).fullmatch  # what needs no percent-encoding


@dataclass(frozen=True, slots=True)
class Scope:
    """An organization, or a team, a user, a member (a user within a team) or an agent of one.

        >>> Scope("acme", team_id="search", user_id="u7").key
        'organization:acme/team:search/user:u7'
        >>> Scope.parse("organization:acme/agent:a%2F1")
        Scope(organization_id='acme', team_id=None, user_id=None, agent_id='a/1')

    Raises:
        ValueError: an empty or overlong id, or an agent combined with a team or a user: agents
            are totalled by themselves.
    """

    organization_id: str
    team_id: str | None = None
    user_id: str | None = None
    agent_id: str | None = None

    def __post_init__(self) -> None:
        for name, value in zip(_PARTS, self._ids(), strict=True):
            if value is not None and not 1 <= len(value) <= ID_LENGTH_MAX:
                raise ValueError(f"{name}_id must have 1 to {ID_LENGTH_MAX} characters")
        if self.agent_id is not None and (self.team_id is not None or self.user_id is not None):
            raise ValueError("an agent is a scope of its own: give no team_id and no user_id")

    def _ids(self) -> tuple[str | None, ...]:
        return self.organization_id, self.team_id, self.user_id, self.agent_id

    @property
    def kind(self) -> ScopeKind:
        """Which of the five kinds this is."""
        if self.agent_id is not None:
            return "agent"
        if self.team_id is not None:
            return "team" if self.user_id is None else "member"
        return "organization" if self.user_id is None else "user"

    @property
    def key(self) -> str:
        """The canonical key, ids percent-encoded: `organization:acme/team:search/user:u7`."""
        return "/".join(
            f"{name}:{quote_id(value)}"
            for name, value in zip(_PARTS, self._ids(), strict=True)
            if value is not None
        )

    @classmethod
    def parse(cls, key: str) -> Scope:
        """The scope of a canonical key.

        Raises:
            ValueError: not a canonical key.
        """
        ids: dict[str, str] = {}
        for part in key.split("/"):
            name, colon, value = part.partition(":")
            if not colon or name not in _PARTS or f"{name}_id" in ids:
                raise ValueError(f"not a scope: {key!r}")
            ids[f"{name}_id"] = unquote(value)
        if "organization_id" not in ids:
            raise ValueError(f"not a scope: {key!r} names no organization")
        scope = cls(**ids)
        if scope.key != key:
            raise ValueError(f"not a canonical scope: {key!r}, write {scope.key!r}")
        return scope

    def __str__(self) -> str:
        return self.key


@lru_cache(maxsize=SCOPE_KEYS_CACHE_MAX)
def scope_keys(
    organization_id: str, team_id: str | None, user_id: str | None, agent_id: str | None
) -> tuple[str, ...]:
    """The keys of all scopes that such a call counts in, widest first; two to five of them."""
    keys = wide_scope_keys(organization_id, team_id, user_id)
    return keys if agent_id is None else (*keys, agent_key(organization_id, agent_id))


@lru_cache(maxsize=SCOPE_KEYS_CACHE_MAX)
def wide_scope_keys(
    organization_id: str, team_id: str | None, user_id: str | None
) -> tuple[str, ...]:
    """The same without the agent."""
    organization = f"organization:{quote_id(organization_id)}"
    keys = [organization]
    if team_id is not None:
        keys.append(f"{organization}/team:{quote_id(team_id)}")
    if user_id is not None:
        user = f"user:{quote_id(user_id)}"
        keys.append(f"{organization}/{user}")
        if team_id is not None:
            keys.append(f"{keys[1]}/{user}")
    return tuple(keys)


def forget_scope_keys() -> None:
    """Let go of the keys that are kept ready."""
    scope_keys.cache_clear()
    wide_scope_keys.cache_clear()


def agent_key(organization_id: str, agent_id: str) -> str:
    """The key of an agent's scope."""
    return _agent_prefix(organization_id) + quote_id(agent_id)


@lru_cache(maxsize=SCOPE_KEYS_CACHE_MAX)
def _agent_prefix(organization_id: str) -> str:
    return f"organization:{quote_id(organization_id)}{_AGENT_PART}"


def is_agent_key(key: str) -> bool:
    """Whether a scope's key is an agent's; ids are percent-encoded, so that none looks like it."""
    return _AGENT_PART in key


def quote_id(value: str) -> str:
    """An id as it stands in a key: percent-encoded, as text of ASCII without space or slash."""
    return value if _is_plain(value) else quote(value, safe="")


def quote_ids(values: Collection[str]) -> Iterable[str]:
    """Many ids as they stand in keys, in their order: that all are plain is seen at once."""
    return values if _is_plain("".join(values)) else map(quote_id, values)
