"""Scopes in paths: the canonical key as it is, `/budgets/organization:acme/team:search`.

Each part is one segment of the path and percent-encoded by itself, so that an id may hold a slash,
a colon or a percent sign. Servers decode a path before they route it, and then a slash of an id
looks like one between two parts; so the path is read as it was sent.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, unquote

from fastapi import Path, Request
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope as ASGIScope

from api.problems import ProblemError
from api.services import PREFIX
from outlay.scope import Scope

BUDGETS_PATH = f"{PREFIX}/budgets"
"""Where the budgets of all scopes are."""

_PARTS = ("organization", "team", "user", "agent")
_FORM = (
    "write organization:ID, and behind it /team:ID, /user:ID, /team:ID/user:ID or /agent:ID,"
    " ids percent-encoded"
)

ScopePath = Annotated[
    str,
    Path(
        description=f"The scope: {_FORM}.",
        examples=["organization:acme", "organization:acme/team:search/user:u7"],
    ),
]
"""The parameter of a route; what it holds is decoded once too often: ask `path_scope`."""


class SentPathRoute(APIRoute):
    """A route whose fixed end, such as `/explain`, is one only where it was sent as it is.

    An id may end like it, `agent:a%2Fexplain`, and that is decoded before a path is routed.
    """

    def matches(self, scope: ASGIScope) -> tuple[Match, ASGIScope]:
        """Match by the path, and the end of it by what was sent."""
        raw, end = scope.get("raw_path"), self.path.rpartition("}")[2]
        if raw and not raw.endswith(end.encode()):
            return Match.NONE, {}
        return super().matches(scope)


def budget_path(scope: Scope) -> str:
    """Where the budget of a scope is."""
    return f"{BUDGETS_PATH}/{scope.key}"


def path_scope(request: Request, end: str = "") -> Scope:
    """The scope that a request's path names, between `BUDGETS_PATH` and `end`.

    Raises:
        ProblemError: it names none.
    """
    try:
        return parse_scope_path(_sent(request).removesuffix(end))
    except ValueError as error:
        message = _FORM if isinstance(error, UnicodeError) else str(error)
        errors = [{"location": "path.scope", "message": message}]
        raise ProblemError("invalid-request", f"path.scope: {message}", errors=errors) from None


def _sent(request: Request) -> str:
    """What stands behind `BUDGETS_PATH`, not decoded."""
    start = f"{BUDGETS_PATH}/"
    raw = request.scope.get("raw_path") or b""
    _, found, rest = raw.decode("latin-1").partition(start)
    if found:
        return rest
    # A server that does not say, or a prefix that was encoded, too: slashes of ids are lost.
    return quote(request.scope["path"].partition(start)[2])


def parse_scope_path(path: str) -> Scope:
    """The scope that such a path means.

    >>> parse_scope_path("organization%3Aacme/agent:a%2F1").key
    'organization:acme/agent:a%2F1'

    Raises:
        ValueError: it means none, or its parts are in another order than the key's.
    """
    ids: dict[str, str] = {}
    for segment in path.split("/"):
        name, colon, value = unquote(segment, errors="strict").partition(":")
        if not colon or name not in _PARTS or f"{name}_id" in ids:
            raise ValueError(_FORM)
        ids[f"{name}_id"] = value
    if next(iter(ids)) != "organization_id":
        raise ValueError(_FORM)
    scope = Scope(**ids)
    if [f"{name}_id" for name in _PARTS if f"{name}_id" in ids] != list(ids):
        raise ValueError(f"the parts are in another order, write {scope.key}")
    return scope
