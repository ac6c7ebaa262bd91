"""CloudEvents 1.0: an event of type `outlay.usage.v1` carries the fields of one usage record.

`source` and `id` identify an event. A record's id is a UUID: an event's id that is one is kept, any
other becomes the UUID of version 5 of both, the same one whenever the event comes.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.datastructures import Headers

from outlay.scope import ID_LENGTH_MAX
from schemas.http_usage import EVENT_TYPE, UsageEvent, UsageFields

NAMESPACE = uuid.UUID("5f2c7f5a-8a41-5d0b-9e55-0d6d3f1c2b7e")
"""Of the UUIDs that stand for events and for records of keyed requests."""

HEADER_PREFIX = "ce-"
_HEADERS = ("specversion", "id", "source", "type", "time")
_QUOTED = re.compile(r'\\(["\\])')

_decode_data = msgspec.json.Decoder(UsageFields).decode


class EventError(ValueError):
    """What is wrong with an event, and where in it."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(message)
        self.where = where


def is_binary(headers: Headers) -> bool:
    """Whether a request is an event in binary form: its attributes are headers."""
    return any(HEADER_PREFIX + name in headers for name in _HEADERS)


def event_of(headers: Headers, body: bytes) -> UsageEvent:
    """The event of a request in binary form, whose data is the body.

    Raises:
        EventError: an attribute is missing, or is not what it must be.
    """
    given: dict[str, Any] = {
        name: _header_text(headers[HEADER_PREFIX + name])
        for name in _HEADERS
        if HEADER_PREFIX + name in headers
    }
    try:
        event = msgspec.convert(given, UsageEvent)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        name = path.rstrip("`")
        raise EventError(f"header.{HEADER_PREFIX}{name}" if name else "header", message) from None
    return msgspec.structs.replace(event, data=msgspec.Raw(body))


def fields_of(event: UsageEvent) -> UsageFields:
    """The record that an event carries, with the event's id, time and source.

    Raises:
        EventError: it is no such event, or its data says again what the event says.
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: its data are no fields of a record.
    """
    _check(event)
    fields = _decode_data(event.data)
    if fields.id is not None:
        raise EventError("data.id", "the event's id is the record's")
    if fields.occurred_at is not None and event.time is not None:
        raise EventError("data.occurred_at", "the event's time says it already")
    return msgspec.structs.replace(
        fields,
        id=record_id(event),
        occurred_at=fields.occurred_at if event.time is None else event.time,
        source=fields.source or (event.source if len(event.source) <= ID_LENGTH_MAX else ""),
    )


def _check(event: UsageEvent) -> None:
    if event.specversion != "1.0":
        raise EventError("specversion", "must be 1.0")
    if event.type != EVENT_TYPE:
        raise EventError("type", f"must be {EVENT_TYPE}")
    if event.datacontenttype is not None and not _is_json(event.datacontenttype):
        raise EventError("datacontenttype", "must be application/json")
    if bytes(event.data_base64):
        raise EventError("data_base64", "the data must be JSON, in data")
    if not bytes(event.data):
        raise EventError("data", "must be the fields of a record")


def record_id(event: UsageEvent) -> str:
    """The UUID of the record that an event carries."""
    try:
        given = uuid.UUID(event.id)
    except ValueError:
        return str(uuid.uuid5(NAMESPACE, event_key(event)))
    plain = str(given)  # uuid.UUID reads other spellings, too
    return plain if plain == event.id.lower() else str(uuid.uuid5(NAMESPACE, event_key(event)))


def event_key(event: UsageEvent) -> str:
    """What identifies an event, as one text."""
    return json.dumps([event.source, event.id])


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _header_text(value: str) -> str:
    """The text of a header: in quotes or not, and percent-encoded where it is not plain."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = _QUOTED.sub(r"\1", value[1:-1])
    return unquote(value)
