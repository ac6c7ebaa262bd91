"""Usage: what an agent reports about its calls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
import uuid_utils

from outlay.money import Money, to_nano, to_usd
from outlay.nesting import NESTING_MAX, depth_exceeds
from outlay.scope import ID_LENGTH_MAX

METADATA_BYTES_MAX = 16_384
"""The largest `metadata` of a record, in bytes of JSON."""

METADATA_NESTING_MAX = NESTING_MAX - 2
"""How deep `metadata` may nest: it stands in a record, and that in an array. Deeper, it would
take a whole message of others with it."""

TOKENS_MAX = 10**12
"""The largest token count of a record, in magnitude."""

EXECUTIONS_MAX = 10**9
"""The largest execution count of a record, in magnitude."""

SEQUENCE_MAX = 2**63 - 1

# What fields may hold; each record of other kinds that narrows them takes them from here.
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_LENGTH_MAX)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Source = Annotated[str, msgspec.Meta(max_length=ID_LENGTH_MAX)]
TokensUsed = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]
ExecutionsUsed = Annotated[int, msgspec.Meta(ge=0, le=EXECUTIONS_MAX)]
_Tokens = Annotated[int, msgspec.Meta(ge=-TOKENS_MAX, le=TOKENS_MAX)]
_Executions = Annotated[int, msgspec.Meta(ge=-EXECUTIONS_MAX, le=EXECUTIONS_MAX)]
_Sequence = Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MAX)]
NO_METADATA = msgspec.Raw(b"{}")


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One report of usage, as it travels; make one with `UsageRecord.new`.

    `id` is a UUID (version 7 when made here), `occurred_at` has a zone. `cost_usd` is in USD, a
    plain decimal string when made here; JSON numbers of other producers are read, too.
    `executions` is the number of calls that it stands for. `source` and `sequence` say which
    emitter made it, and as its how manieth. A `correction` may be negative, a `usage` may not.
    `metadata` is a JSON object that only the history keeps.
    """

    id: str
    occurred_at: Time
    organization_id: Id
    agent_id: Id
    cost_usd: str | int | float
    team_id: Id | None = None
    user_id: Id | None = None
    provider: Id | None = None
    model: Id | None = None
    input_tokens: _Tokens = 0
    output_tokens: _Tokens = 0
    success: bool = True
    executions: _Executions = 1
    source: Source = ""
    sequence: _Sequence = 0
    kind: Literal["usage", "correction"] = "usage"
    metadata: msgspec.Raw = NO_METADATA

    @classmethod
    def new(
        cls,
        *,
        organization_id: str,
        agent_id: str,
        cost_usd: Money,
        team_id: str | None = None,
        user_id: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        input_tokens: int = 0,
        output_tokens: int = 0,
        success: bool = True,
        executions: int = 1,
        kind: Literal["usage", "correction"] = "usage",
        occurred_at: datetime | None = None,
        id: str | None = None,
        source: str = "",
        sequence: int = 0,
        metadata: Mapping[str, Any] | None = None,
    ) -> UsageRecord:
        """A record of usage at `occurred_at` (now, when not given), with the cost rounded here.

        Raises:
            ValueError, TypeError: what the stream would reject, said at once.
        """
        cost_nano = to_nano(cost_usd)
        record = cls(
            id=str(uuid_utils.uuid7()) if id is None else id,
            occurred_at=datetime.now(UTC) if occurred_at is None else occurred_at,
            organization_id=organization_id,
            agent_id=agent_id,
            cost_usd=to_usd(cost_nano),
            team_id=team_id,
            user_id=user_id,
            provider=provider,
            model=model,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            success=success,
            executions=executions,
            source=source,
            sequence=sequence,
            kind=kind,
            metadata=msgspec.Raw(_encoder.encode(metadata)) if metadata else NO_METADATA,
        )
        _check_types(record)
        if (reason := invalid_reason(record, cost_nano)) is not None:
            raise ValueError(reason)
        return record


_encoder = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(UsageRecord).decode
_decode_any = msgspec.json.Decoder(UsageRecord | list[UsageRecord]).decode
_is_uuid = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
).fullmatch


def encode_usage(records: list[UsageRecord]) -> bytes:
    """A usage message with these records: an object for one, an array for several."""
    return _encoder.encode(records[0] if len(records) == 1 else records)


def decode_records(message: bytes) -> list[UsageRecord]:
    """The records of a message that `encode_usage` made, as they were."""
    found = _decode_any(message)
    return found if isinstance(found, list) else [found]


def invalid_reason(record: UsageRecord, cost_nano: int) -> str | None:
    """Why a well-formed record does not count, by itself."""
    if not _is_uuid(record.id):
        return "id must be a UUID"
    if record.kind == "usage" and not (
        cost_nano >= 0
        and record.input_tokens >= 0
        and record.output_tokens >= 0
        and record.executions >= 0
    ):
        return "a negative amount needs kind=correction"
    if not 1 < record.occurred_at.year < 9999:  # its UTC date exists then, whatever the zone
        return "occurred_at is outside the calendar"
    if record.metadata is not NO_METADATA:
        return _metadata_reason(bytes(record.metadata))
    return None


def _metadata_reason(raw: bytes) -> str | None:
    if raw[:1] != b"{":
        return "metadata must be an object"
    if len(raw) > METADATA_BYTES_MAX:
        return f"metadata is over {METADATA_BYTES_MAX} bytes"
    if depth_exceeds(raw, METADATA_NESTING_MAX):
        return f"metadata nests deeper than {METADATA_NESTING_MAX} levels"
    return None


def _check_types(record: UsageRecord) -> None:
    """A Struct checks types when it is decoded only; a record made in Python is checked here."""
    for value in (record.team_id, record.user_id, record.provider, record.model):
        if value is not None and not isinstance(value, str):  # JSON would make null of a NaN
            raise ValueError(f"a name must be a string or None, not {value!r}")
    try:
        _decode(_encoder.encode(record))
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
