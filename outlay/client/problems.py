"""Problems: what an answer of an error says, however little of it is as it should be. Pure."""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import msgspec

from outlay.apikey import without_keys
from outlay.client.calls import Answer, Call
from outlay.client.errors import BY_STATUS, ErrorPart, Problem

TYPE_PREFIX = "urn:outlay:problem:"

TEXT_LENGTH_MAX = 2_000
"""How much is kept of a text of a problem, in characters."""

ERRORS_MAX = 1_000
"""How many wrong parts of a request are kept."""

_STANDARD = frozenset({"type", "status", "title", "detail", "instance", "errors", "request_id"})
_is_seconds = re.compile(r"[0-9]{1,9}", re.ASCII).fullmatch
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def kind_of(answer: Answer) -> str:
    """Which of the API's problems an answer is, without the prefix; empty: none of them."""
    found = _members(answer).get("type")
    if not isinstance(found, str) or not found.startswith(TYPE_PREFIX):
        return ""
    return found.removeprefix(TYPE_PREFIX)


def problem_of(call: Call[Any], answer: Answer) -> Problem:
    """The error that an answer of 400 and above is.

    A body that is no problem, a proxy's page for instance, is not shown: the status has to do.
    """
    members = _members(answer)
    return BY_STATUS.get(answer.status, Problem)(
        type=_text(members.get("type")) or "about:blank",
        status=answer.status,
        title=_text(members.get("title")) or _phrase(answer.status),
        detail=_text(members.get("detail")) or ("" if members else "the answer does not say why"),
        errors=_errors(members.get("errors")),
        members={name: value for name, value in members.items() if name not in _STANDARD},
        retry_after_s=retry_after_s(answer),
        **call.names(answer),
    )


def retry_after_s(answer: Answer) -> float | None:
    """What `Retry-After` says, in seconds; None where it says nothing that makes sense.

    A date counts from the answer's own, so that no clock of this machine takes part.
    """
    text = answer.headers.get("retry-after", "").strip()
    if _is_seconds(text):
        return float(text)
    until, now = _time(text), _time(answer.headers.get("date", ""))
    if until is None or now is None:
        return None
    return max((until - now).total_seconds(), 0.0)


def _time(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return None if at.tzinfo is None else at


def _members(answer: Answer) -> dict[str, Any]:
    """Those of the body, where it is JSON's object, whatever it says to be."""
    if answer.content[:1] != b"{":
        return {}
    try:
        return _decode(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _text(value: object) -> str:
    return without_keys(value)[:TEXT_LENGTH_MAX] if isinstance(value, str) else ""


def _errors(value: object) -> list[ErrorPart]:
    if not isinstance(value, list):
        return []
    return [
        ErrorPart(_text(each.get("location")), _text(each.get("message")))
        for each in value[:ERRORS_MAX]
        if isinstance(each, dict)
    ]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown status"
