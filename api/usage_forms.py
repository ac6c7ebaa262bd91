"""Forms: a body as JSON, NDJSON or CloudEvents becomes the fields of records, or what is wrong.

What is in order is read in one go. Only where that fails is it looked at record by record, to say
which of them is wrong; either way no more are made than a request may hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple, NoReturn, TypeVar

import msgspec
from starlette.datastructures import Headers

from api import cloudevents
from api.problems import ProblemError
from schemas.http_usage import UsageEvent, UsageFields

RECORDS_MAX = 1_000
"""How many records one request may hold."""

LINE_BYTES_MAX = 65_536
"""The longest line of NDJSON, in bytes."""

_LINES_MAX = 2 * RECORDS_MAX  # blank ones between them included
_MESSAGE_LENGTH_MAX = 300

JSON, NDJSON = "application/json", "application/x-ndjson"
EVENT, EVENTS = "application/cloudevents+json", "application/cloudevents-batch+json"
MEDIA_TYPES = (JSON, NDJSON, EVENT, EVENTS)

_T = TypeVar("_T", UsageFields, UsageEvent)
_BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SPACE = re.compile(r"[ \t\r\n]*")
_PATH = re.compile(r"^(?P<message>.*) - at `\$(?P<path>.*)`$", re.DOTALL)
_STEP = re.compile(r"\[(\d+|\.\.\.)\]")


class Fault(NamedTuple):
    """What is wrong with a record; `where` in it, empty for all of it."""

    where: str
    message: str


@dataclass(frozen=True, slots=True)
class Given:
    """The records of a request, in order; `is_array` says whether an index is part of their place.

    `event_key` identifies the event where the request is one.
    """

    records: list[UsageFields | Fault]
    is_array: bool
    event_key: str | None = None


def form_of(headers: Headers) -> str:
    """The media type of a request's body, one of `MEDIA_TYPES`.

    Raises:
        ProblemError: it is another one, or says another charset than UTF-8.
    """
    media_type, _, parameters = headers.get("content-type", "").partition(";")
    form = media_type.strip().lower()
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", parameters, re.IGNORECASE)
    if form in MEDIA_TYPES and (charset is None or charset[1].lower() in ("utf-8", "us-ascii")):
        return form
    refusal = ProblemError(
        "unsupported-media-type", f"Content-Type is one of {', '.join(MEDIA_TYPES)}, in UTF-8"
    )
    refusal.headers = {"Accept": ", ".join(MEDIA_TYPES)}
    raise refusal


def parse(form: str, headers: Headers, body: bytes) -> Given:
    """The records that a body holds.

    Raises:
        ProblemError: it is no such form as a whole, or holds too many records.
    """
    try:
        body.decode()
    except UnicodeDecodeError:
        raise _bad_body("the body is not UTF-8") from None
    if form == NDJSON:
        return Given(list(_lines(body)), True)
    if form == EVENTS:
        return Given([_of_event(each) for each in _array(body, UsageEvent)], True)
    if form == EVENT:
        return _one_event(_one(body, UsageEvent))
    if cloudevents.is_binary(headers):
        try:
            return _one_event(cloudevents.event_of(headers, body))
        except cloudevents.EventError as error:
            return Given([Fault(error.where, str(error))], False)
    if body.lstrip()[:1] == b"[":
        return Given(list(_array(body, UsageFields)), True)
    return Given([_one(body, UsageFields)], False)


# -- one, several by an array, several by lines


_decoders: dict[type, Callable[[bytes | str], object]] = {
    each: msgspec.json.Decoder(each).decode for each in (UsageFields, UsageEvent)
}
_array_decoders: dict[type, Callable[[bytes], object]] = {
    each: msgspec.json.Decoder(Annotated[list[each], msgspec.Meta(max_length=RECORDS_MAX)]).decode  # type: ignore[valid-type]
    for each in (UsageFields, UsageEvent)
}


def _one(text: bytes | str, kind: type[_T]) -> _T | Fault:
    try:
        return _decoders[kind](text)  # type: ignore[return-value]
    except _BAD_JSON as error:
        return fault_of(error)


def _array(body: bytes, kind: type[_T]) -> list[_T | Fault]:
    try:
        return _array_decoders[kind](body)  # type: ignore[return-value]
    except _BAD_JSON:
        return [_one(text, kind) for text in _items(body)]


def _items(body: bytes) -> Iterator[str]:
    """The texts of an array's items, one after the other, so that the first too many ends it."""
    try:
        text = body.decode()
        scan = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_no_constant)
        at, count = _after_space(text, 0), 0
        if text[at : at + 1] != "[":
            raise ValueError("must be an array")
        at = _after_space(text, at + 1)
        while text[at : at + 1] != "]" or count:
            end = scan.raw_decode(text, at)[1]
            count += 1
            if count > RECORDS_MAX:
                raise _too_many()
            yield text[at:end]
            at = _after_space(text, end)
            if text[at : at + 1] != ",":
                break
            at = _after_space(text, at + 1)
        if text[at : at + 1] != "]" or _after_space(text, at + 1) != len(text):
            raise ValueError("not JSON")
    except RecursionError:
        raise _bad_body("the body nests too deep") from None
    except ValueError as error:
        raise _bad_body(str(error)) from None


def _lines(body: bytes) -> Iterator[UsageFields | Fault]:
    if body.count(b"\n") > _LINES_MAX:
        raise _too_many()
    count = 0
    for line in body.split(b"\n"):
        if not line.strip():
            continue
        count += 1
        if count > RECORDS_MAX:
            raise _too_many()
        if len(line) > LINE_BYTES_MAX:
            yield Fault("", f"the line is over {LINE_BYTES_MAX} bytes")
        else:
            yield _one(line, UsageFields)


# -- events


def _of_event(event: UsageEvent | Fault) -> UsageFields | Fault:
    if isinstance(event, Fault):
        return event
    try:
        return cloudevents.fields_of(event)
    except cloudevents.EventError as error:
        return Fault(error.where, str(error))
    except _BAD_JSON as error:
        fault = fault_of(error)
        return Fault(f"data.{fault.where}".rstrip("."), fault.message)


def _one_event(event: UsageEvent | Fault) -> Given:
    key = None if isinstance(event, Fault) else cloudevents.event_key(event)
    return Given([_of_event(event)], False, key)


# -- what is wrong


def fault_of(error: Exception) -> Fault:
    """What a decoder says, and where in the record."""
    if isinstance(error, RecursionError):
        return Fault("", "it nests too deep")
    found = _PATH.match(str(error))
    if found is None:
        return Fault("", str(error)[:_MESSAGE_LENGTH_MAX])
    where = _STEP.sub(r".\1", found["path"]).strip(".")
    return Fault(where[:_MESSAGE_LENGTH_MAX], found["message"][:_MESSAGE_LENGTH_MAX])


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _too_many() -> ProblemError:
    return ProblemError("body-too-large", f"the body holds over {RECORDS_MAX} records")


def _bad_body(message: str) -> ProblemError:
    errors = [{"location": "body", "message": message}]
    return ProblemError("invalid-request", f"body: {message}", errors=errors)
