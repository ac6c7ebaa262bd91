"""Callers: who asks, for which organizations, and what they may."""

# No `from __future__ import annotations`: FastAPI could not resolve those of `Needs.__call__`.

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from api.correlation import note_caller
from api.problems import ProblemError
from outlay.apikey import KEY_PREFIX
from outlay.apikey import Role as Role

GRANTS: dict[Role, frozenset[Role]] = {
    "viewer": frozenset({"viewer"}),
    "emitter": frozenset({"emitter"}),
    "operator": frozenset({"viewer", "operator"}),
    "admin": frozenset({"viewer", "emitter", "operator", "admin"}),
}
"""What each role may do beside its own."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key's name, its organization (None: all of them), its roles, and its id."""

    name: str
    organization_id: str | None
    roles: frozenset[Role]
    key_id: str | None = None
    """Which key it is, for the audit; None where there are no keys."""

    def told(self) -> dict[str, str | None]:
        """Who it is, for a log line: never the key."""
        return {
            "key": self.key_id,
            "key_name": self.name,
            "organization": self.organization_id,
        }

    def may(self, role: Role) -> bool:
        """Whether one of the roles grants this one."""
        return any(role in GRANTS[each] for each in self.roles)

    def sees(self, organization_id: str) -> bool:
        """Whether an organization is the caller's own."""
        return self.organization_id in (None, organization_id)

    def check(self, organization_id: str, path: str) -> None:
        """See that an organization is the caller's own.

        Raises:
            ProblemError: it is not: then there is nothing at the path, as for what does not exist.
        """
        if not self.sees(organization_id):
            raise ProblemError("not-found", f"there is no {path}")

    def organization(self, asked: str | None, path: str) -> str:
        """The organization that a request is about: the one asked for, or the caller's own.

        Raises:
            ProblemError: it is not the caller's own, or the caller has all and names none.
        """
        organization_id = self.organization_id if asked is None else asked
        if organization_id is None:
            location, message = "query.organization_id", "Field required"
            errors = [{"location": location, "message": message}]
            raise ProblemError("invalid-request", f"{location}: {message}", errors=errors)
        self.check(organization_id, path)
        return organization_id


ANYONE = Caller("anyone", None, frozenset({"admin"}))
"""Whoever asks an API that runs without keys."""

Authenticate = Callable[[Request], Caller]
"""Finds the caller of a request, or raises a `ProblemError`; an app has it in its state."""


class Needs(SecurityBase):
    """A dependency: the caller, who may do what one of the roles may.

    OpenAPI describes it as an HTTP bearer scheme.
    """

    def __init__(self, roles: frozenset[Role]) -> None:
        self.roles = roles
        self.scheme_name = "key"
        self.model = HTTPBearer(
            bearerFormat=f"{KEY_PREFIX}…", description="A key from `outlay keys create`."
        )

    async def __call__(self, request: Request) -> Caller:
        """The caller.

        Raises:
            ProblemError: there is no key in force in the request, or it has none of the roles.
        """
        authenticate: Authenticate = request.app.state.authenticate
        caller = authenticate(request)
        note_caller(request.scope, caller)
        # What is another's is not there, whatever the caller may do with what is its own.
        for organization_id in request.query_params.getlist("organization_id"):
            caller.check(organization_id, request.url.path)
        if not any(caller.may(role) for role in self.roles):
            _check_scope(caller, request)
            wanted = " or ".join(sorted(self.roles))
            raise ProblemError("forbidden", f"this key may not: it needs the role {wanted}")
        return caller


def _check_scope(caller: Caller, request: Request) -> None:
    """Say of another's scope in the path that it is not there, before what a caller may not do."""
    scope, own = request.path_params.get("scope"), caller.organization_id
    if scope is not None and own is not None:
        name = f"organization:{own}"
        if scope != name and not scope.startswith(f"{name}/"):
            raise ProblemError("not-found", f"there is no {request.url.path}")


def needs(*roles: Role) -> Needs:
    """A dependency: the caller, who may do what one of these roles may."""
    return Needs(frozenset(roles))
