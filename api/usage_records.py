"""Records of a request: filled in, and judged by the rules that the stream judges by.

All or nothing: where one record is wrong none is sent, so that the client can mend it and send the
same again. With a part of them sent it would have to take that part out first, and count twice
where it forgets to.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import uuid_utils

from api.callers import Caller
from api.cloudevents import NAMESPACE
from api.problems import ProblemError
from api.usage_forms import Fault, Given
from outlay.judging import decode_usage
from outlay.money import as_usd
from outlay.usage import UsageRecord
from schemas.http_usage import UsageFields, cost_text

ERRORS_MAX = 100
"""How many wrong records an answer lists; it counts them all."""

CLOCK_SKEW_MAX_S = 60
"""How far this clock may be ahead of the broker's, in seconds.

A record's date may be ahead of its message's timestamp by a bound, and the broker's clock sets
that. So much of the bound is kept, that what is accepted here is not rejected there.
"""

_encode = msgspec.json.Encoder().encode


class Judged(NamedTuple):
    """A record that counts, with its JSON."""

    record: UsageRecord
    json: bytes


def fingerprint_of(given: Given) -> bytes:
    """The same for the same records in any form, and for no others.

    Amounts and metadata are compared as they were written.
    """
    return hashlib.sha256(_encode(given.records)).digest()


def judged(given: Given, caller: Caller, now: datetime, key: str | None) -> list[Judged]:
    """The records, each with an id and a time.

    Ids that are made here are derived from the caller, the key and the index, where there is a
    key: so they are the same when the request comes again, and the history has them once.

    Raises:
        ProblemError: some records are wrong; `errors` names them by their index.
    """
    latest_ms = int((now.timestamp() - CLOCK_SKEW_MAX_S) * 1_000)
    records: list[Judged] = []
    errors: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for index, fields in enumerate(given.records):
        found: Judged | Fault
        if isinstance(fields, Fault):
            found = fields
        else:
            found = _judge(fields, caller, now, latest_ms, _new_id(caller, key, index))
        if isinstance(found, Judged):
            earlier = seen.setdefault(found.record.id.lower(), index)
            if earlier == index:
                records.append(found)
                continue
            found = Fault("id", f"is that of the record at index {earlier}, too")
        errors.append(_error(index if given.is_array else None, index, found))
    if errors:
        raise _invalid(errors, len(given.records))
    return records


def _judge(
    fields: UsageFields, caller: Caller, now: datetime, latest_ms: int, new_id: str
) -> Judged | Fault:
    if not caller.sees(fields.organization_id):
        # Whether there is such an organization is not looked up, and so is not told.
        return Fault("organization_id", "is not the organization of this key")
    try:
        cost_usd = as_usd(cost_text(fields.cost_usd))
    except ValueError as error:
        return Fault("cost_usd", str(error))
    made = msgspec.structs.replace(
        fields,
        id=new_id if fields.id is None else fields.id,
        occurred_at=now if fields.occurred_at is None else fields.occurred_at,
        cost_usd=msgspec.Raw(f'"{cost_usd}"'),
    )
    message = _encode(made)
    usages, rejections = decode_usage(message, latest_ms)
    if rejections:
        return Fault("", rejections[0].reason)
    return Judged(usages[0].record, message)


def _new_id(caller: Caller, key: str | None, index: int) -> str:
    if key is None:
        return str(uuid_utils.uuid7())
    named = json.dumps([caller.organization_id, caller.key_id or caller.name, key, index])
    return str(uuid.uuid5(NAMESPACE, named))


def _error(place: int | None, index: int, fault: Fault) -> dict[str, Any]:
    if fault.where.startswith("header"):
        location = fault.where
    else:
        parts = ["body", *([] if place is None else [str(place)]), fault.where]
        location = ".".join(part for part in parts if part)
    return {"index": index, "location": location, "message": fault.message}


def _invalid(errors: list[dict[str, Any]], count: int) -> ProblemError:
    first = errors[0]
    detail = (
        f"{len(errors)} of {count} records are wrong, so none is sent;"
        f" {first['location']}: {first['message']}"
    )
    return ProblemError("invalid-request", detail, errors=errors[:ERRORS_MAX], invalid=len(errors))
