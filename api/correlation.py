"""Correlation: the id of a request, which ties its answer, its log lines and the audit together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uuid_utils
from structlog import contextvars

from outlay.apikey import without_keys

if TYPE_CHECKING:
    from api.callers import Caller

REQUEST_ID_HEADER = "X-Request-ID"

REQUEST_ID_LENGTH_MAX = 80
"""The longest id that is taken from a caller, in characters: a budget request's id holds it."""

ACCOUNT = "outlay.account"
"""Where the scope of a request has its `Account`."""

_REQUEST_ID, _TRACEPARENT = b"x-request-id", b"traceparent"
_NO_TRACE, _NO_PARENT = "0" * 32, "0" * 16

_is_sane = re.compile(
    rf"[A-Za-z0-9][A-Za-z0-9._:=/+-]{{0,{REQUEST_ID_LENGTH_MAX - 1}}}", re.ASCII
).fullmatch
# https://www.w3.org/TR/trace-context/#traceparent-header: later versions may have more fields.
_traceparent = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})"
    r"-[0-9a-f]{2}(?P<more>-.*)?"
).fullmatch


@dataclass(slots=True)
class Account:
    """What is told of a request when it is answered: its id, who asked, and the answer."""

    request_id: str
    caller: Caller | None = None
    status: int = 500
    size_bytes: int = 0


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The id that a request comes with, or a new one.

    It is the `X-Request-ID`, if that is short and plain and holds no API key; else the trace of a
    `traceparent`; else a new UUIDv7. A header that comes twice is none.
    """
    found: dict[bytes, str | None] = {}
    for name, value in headers:
        if name in (_REQUEST_ID, _TRACEPARENT):
            found[name] = None if name in found else value.decode("latin-1")
    given = found.get(_REQUEST_ID)
    if given is not None and _is_sane(given) and without_keys(given) == given:
        return given
    return _trace(found.get(_TRACEPARENT)) or str(uuid_utils.uuid7())


def _trace(header: str | None) -> str | None:
    parts = _traceparent(header or "")
    if parts is None or parts["trace"] == _NO_TRACE or parts["parent"] == _NO_PARENT:
        return None
    return None if parts["version"] == "00" and parts["more"] else parts["trace"]


def begin(scope: Any) -> Account:
    """Account for a request from now on: its id is in each line that is logged in this context."""
    account = scope[ACCOUNT] = Account(request_id_of(scope["headers"]))
    contextvars.clear_contextvars()
    contextvars.bind_contextvars(request_id=account.request_id)
    return account


def note_caller(scope: Any, caller: Caller) -> None:
    """Say who asks."""
    account: Account | None = scope.get(ACCOUNT)
    if account is not None:
        account.caller = caller


def current_request_id() -> str | None:
    """The id of the request that is being answered here; None outside of any."""
    found: str | None = contextvars.get_contextvars().get("request_id")
    return found
