"""Scope: where in an organization a budget applies, as the governance classes name it."""

from __future__ import annotations

from dataclasses import dataclass

from outlay.governance.amounts import identifier

DEFAULT_ORGANIZATION_ID = "default"
"""The organization of a budget that names no scope."""


@dataclass(frozen=True, slots=True)
class BudgetScope:
    """An organization, and as far as given the team, the user and the agent within it.

    Raises:
        ValueError: an id that is empty, too long or no string.
    """

    organization_id: str
    team_id: str | None = None
    user_id: str | None = None
    agent_id: str | None = None

    def __post_init__(self) -> None:
        identifier("organization_id", self.organization_id)
        for name in ("team_id", "user_id", "agent_id"):
            if getattr(self, name) is not None:
                identifier(name, getattr(self, name))

    def to_key(self) -> str:
        """The parts that are set, from the widest: `org:acme:team:search:user:u7:agent:a1`.

        A colon or a percent sign within an id is percent-encoded: no two scopes share a key.

            >>> BudgetScope("acme", agent_id="a:1").to_key()
            'org:acme:agent:a%3A1'
        """
        parts = {
            "org": self.organization_id,
            "team": self.team_id,
            "user": self.user_id,
            "agent": self.agent_id,
        }
        return ":".join(f"{name}:{_quote(part)}" for name, part in parts.items() if part)


def _quote(part: str) -> str:
    return part.replace("%", "%25").replace(":", "%3A")


def check_place(agent_id: object, scope: object) -> None:
    """Whether usage and budgets can be kept under these.

    Raises:
        ValueError: an empty id, or what is no scope.
    """
    identifier("agent_id", agent_id)
    if not isinstance(scope, BudgetScope):
        raise ValueError(f"scope must be a BudgetScope, not {scope!r}")


DEFAULT_SCOPE = BudgetScope(DEFAULT_ORGANIZATION_ID)
"""Where the usage of a budget without a scope is recorded."""
