"""Addresses: where the API is, and how ids and parameters are written into URLs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from urllib.parse import quote, urlencode, urlsplit

from outlay.scope import Scope

_ORIGINAL_PATH_SAFE = "/:@!$&'()*+,;="


def base_address(url: str) -> str:
    """The URL that paths are put behind: a base path is kept, slashes at its end are not.

    >>> base_address("https://gateway.example/outlay/")
    'https://gateway.example/outlay'

    Raises:
        ValueError: no URL of http or https, or one with credentials, a query or a fragment.
    """
    parts = urlsplit(url)
    # Not shown: what is wrong may be that it holds a secret.
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the address of the API is a URL, http://host:port or https://…")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the address of the API holds no credentials: give the key as key=…")
    if parts.query or parts.fragment or any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError("the address of the API holds no query, no fragment and no spaces")
    if any(segment in (".", "..") for segment in parts.path.split("/")):
        raise ValueError("the address of the API holds no . and no .. as parts of its path")
    _ = parts.port  # raises ValueError where it is no number
    return url.rstrip("/")


def target(template: str, path: Mapping[str, str], query: Mapping[str, str | int | None]) -> str:
    """A path with its placeholders filled in, and its query."""
    filled = template.format_map(path)
    given = [(name, str(value)) for name, value in query.items() if value is not None]
    return f"{filled}?{urlencode(given, quote_via=quote, safe='')}" if given else filled


def segment(value: str) -> str:
    """A text as one segment of a path; dots are encoded where they would mean another place.

    >>> segment("a/b c"), segment("..")
    ('a%2Fb%20c', '%2E%2E')
    """
    return value.replace(".", "%2E") if value in (".", "..") else quote(value, safe="")


def agent_segment(agent_id: str) -> str:
    """An agent's id as a segment.

    Raises:
        ValueError: an id that cannot be.
    """
    return segment(Scope("any", agent_id=agent_id).agent_id or "")


def original_path(path: str) -> str:
    """The path of somebody's request, whose slashes stay."""
    return "/".join(
        each.replace(".", "%2E") if each in (".", "..") else quote(each, safe=_ORIGINAL_PATH_SAFE)
        for each in path.removeprefix("/").split("/")
    )


def scope_key(scope: Scope | str) -> str:
    """The canonical key of a scope, which is a path, too.

    Raises:
        ValueError: not a canonical key.
    """
    return scope.key if isinstance(scope, Scope) else Scope.parse(scope).key


def time_text(at: datetime | date | str | None) -> str | None:
    """A time for a query; a date is its first moment in UTC.

    Raises:
        ValueError: a time without a zone.
    """
    if isinstance(at, datetime) and at.utcoffset() is None:
        raise ValueError("a time needs its zone")
    return at if at is None or isinstance(at, str) else at.isoformat()
