"""Whose: whom usage is summed for, before it is added to any scope."""

from __future__ import annotations

from outlay.scope import agent_key

Whose = tuple[str, str | None, str | None]
"""The ids of organization, team and user."""


class AgentPrefixes(dict[str, str]):
    """By organization, what the keys of its agents begin with."""

    def __missing__(self, organization_id: str) -> str:
        prefix = self[organization_id] = agent_key(organization_id, "")
        return prefix
