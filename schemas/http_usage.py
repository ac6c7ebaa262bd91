"""HTTP bodies of `POST /api/v1/usage`: a record's fields, a CloudEvent, and the answer.

A record is the usage message's, by the same types, with three differences: `id` and `occurred_at`
may be left out, the amount is kept as the digits that were sent, so that no float takes part, and
fields that do not exist are refused, since a misspelt count would be a count of nothing.
"""

from __future__ import annotations

import inspect
from datetime import datetime
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from outlay.usage import UsageRecord

EVENT_TYPE = "outlay.usage.v1"
"""The `type` of a CloudEvent whose data are the fields of one record."""

EVENT_TEXT_MAX = 1_024
"""How long `id`, `source` and `type` of an event may be, in characters."""

_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_EventText = Annotated[str, msgspec.Meta(min_length=1, max_length=EVENT_TEXT_MAX)]
_NO_DATA = msgspec.Raw(b"")


class UsageFields(UsageRecord, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A record as a client writes it; what is None is filled in."""

    id: str | None = None  # type: ignore[assignment]
    occurred_at: _Time | None = None  # type: ignore[assignment]
    cost_usd: msgspec.Raw  # type: ignore[assignment]


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A CloudEvent 1.0; extensions and attributes that say nothing about usage are passed over."""

    specversion: str
    id: _EventText
    source: _EventText
    type: _EventText
    time: _Time | None = None
    datacontenttype: str | None = None
    data: msgspec.Raw = _NO_DATA
    data_base64: msgspec.Raw = _NO_DATA


def cost_text(raw: msgspec.Raw) -> str:
    """The digits of an amount that was sent as a number or as a string.

    Raises:
        ValueError: it is neither.
    """
    text = bytes(raw)
    if text[:1] == b'"':
        return msgspec.json.decode(text, type=str)
    if text[:1] in (b"t", b"f", b"n", b"{", b"["):
        raise ValueError("cost_usd must be a number or a decimal string")
    return text.decode()


class AcceptedRecord(BaseModel):
    """Which id the record at `index` of the request has."""

    model_config = ConfigDict(frozen=True)

    index: int
    id: str


class UsageAccepted(BaseModel):
    """The broker has all of these records."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "example": {
                "accepted": 1,
                "records": [{"index": 0, "id": "019aa3c4-6a53-7c1e-8a4b-5d1f0f6f3c21"}],
            }
        },
    )

    accepted: int = Field(description="How many: as many as were sent.")
    records: list[AcceptedRecord]


_EXAMPLE = {
    "organization_id": "acme",
    "team_id": "search",
    "agent_id": "writer-1",
    "cost_usd": "0.012",
    "provider": "openai",
    "model": "gpt-5",
    "input_tokens": 1200,
    "output_tokens": 310,
}
_EVENT_EXAMPLE = {
    "specversion": "1.0",
    "type": EVENT_TYPE,
    "source": "/agents/writer-1",
    "id": "call-8812",
    "time": "2026-11-21T12:00:00Z",
    "data": _EXAMPLE,
}


def _record_schema() -> dict[str, Any]:
    """The fields that a client writes, from those of the record."""
    properties: dict[str, Any] = {}
    for field in msgspec.structs.fields(UsageRecord):
        if field.name not in ("metadata", "cost_usd"):
            properties[field.name] = msgspec.json.schema(field.type)
            if not field.required:
                properties[field.name]["default"] = field.default
    properties["id"] = {
        "anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}],
        "description": "Made here when it is left out.",
    }
    properties["occurred_at"] = {
        "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
        "description": "With its zone; when the request came, when it is left out.",
    }
    properties["cost_usd"] = {
        "anyOf": [{"type": "string", "format": "decimal"}, {"type": "number"}],
        "description": "USD, read as a decimal; more than nine decimals are rounded half-even.",
    }
    properties["metadata"] = {
        "type": "object",
        "description": "Anything; only the history keeps it.",
    }
    return {
        "title": "UsageFields",
        "description": inspect.cleandoc(UsageFields.__doc__ or ""),
        "type": "object",
        "properties": properties,
        "required": ["organization_id", "agent_id", "cost_usd"],
        "additionalProperties": False,
    }


def _event_schema(record: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": EVENT_TEXT_MAX}
    return {
        "title": "UsageEvent",
        "description": "A CloudEvent 1.0 whose data are the fields of one record, without `id`.",
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "type": {"const": EVENT_TYPE},
            "source": text,
            "id": text,
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "data": record,
        },
        "required": ["specversion", "type", "source", "id", "data"],
    }


def request_body(records_max: int) -> dict[str, Any]:
    """The body of the request in OpenAPI: a schema and an example for each form of it."""
    record = _record_schema()
    event = _event_schema(record)
    many = {"type": "array", "items": record, "maxItems": records_max}
    events = {"type": "array", "items": event, "maxItems": records_max}
    lines = {"type": "string", "description": "One JSON record a line."}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": {"anyOf": [record, many]}, "example": _EXAMPLE},
            "application/x-ndjson": {
                "schema": lines,
                "example": '{"organization_id":"acme","agent_id":"writer-1","cost_usd":"0.012"}\n',
            },
            "application/cloudevents+json": {"schema": event, "example": _EVENT_EXAMPLE},
            "application/cloudevents-batch+json": {"schema": events, "example": [_EVENT_EXAMPLE]},
        },
    }
