"""Usage: what an agent reports about its calls, and which reports count.

One function decides what counts, `decode_usage`; the totals and the history both ask it, so that
they cannot disagree about a record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import uuid_utils

from outlay.money import Money, to_nano, to_usd
from outlay.scope import ID_LENGTH_MAX

AHEAD_MAX_S = 86_400
"""How far ahead of its message's timestamp a record may be dated, in seconds."""

MESSAGE_BYTES_MAX = 1_048_576
"""The largest usage message that is read, in bytes; a larger one is a dead letter."""

RECORDS_PER_MESSAGE_MAX = 10_000
"""How many records one message may hold."""

METADATA_BYTES_MAX = 16_384
"""The largest `metadata` of a record, in bytes of JSON."""

NESTING_MAX = 64
"""How deep a message may nest arrays and objects, its own included."""

TOKENS_MAX = 10**12
"""The largest token count of a record, in magnitude."""

EXECUTIONS_MAX = 10**9
"""The largest execution count of a record, in magnitude."""

SEQUENCE_MAX = 2**63 - 1

_TIMESTAMP_MS_MAX = 253_370_764_800_000  # the year 9999, beyond which a `datetime` has no day more

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_LENGTH_MAX)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Tokens = Annotated[int, msgspec.Meta(ge=-TOKENS_MAX, le=TOKENS_MAX)]
_Executions = Annotated[int, msgspec.Meta(ge=-EXECUTIONS_MAX, le=EXECUTIONS_MAX)]
_Sequence = Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MAX)]
_NO_METADATA = msgspec.Raw(b"{}")


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One report of usage, as it travels; make one with `UsageRecord.new`.

    `id` is a UUID (version 7 when made here), `occurred_at` has a zone. `cost_usd` is in USD, a
    plain decimal string when made here; JSON numbers of other producers are read, too.
    `executions` is the number of calls that it stands for. `source` and `sequence` say which
    emitter made it, and as its how manieth. A `correction` may be negative, a `usage` may not.
    `metadata` is a JSON object that only the history keeps.
    """

    id: str
    occurred_at: _Time
    organization_id: _Id
    agent_id: _Id
    cost_usd: str | int | float
    team_id: _Id | None = None
    user_id: _Id | None = None
    provider: _Id | None = None
    model: _Id | None = None
    input_tokens: _Tokens = 0
    output_tokens: _Tokens = 0
    success: bool = True
    executions: _Executions = 1
    source: Annotated[str, msgspec.Meta(max_length=ID_LENGTH_MAX)] = ""
    sequence: _Sequence = 0
    kind: Literal["usage", "correction"] = "usage"
    metadata: msgspec.Raw = _NO_METADATA

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
            metadata=msgspec.Raw(_encoder.encode(metadata)) if metadata else _NO_METADATA,
        )
        _check_types(record)
        if (reason := _reason(record, cost_nano)) is not None:
            raise ValueError(reason)
        return record


class Usage(NamedTuple):
    """A record that counts, with its cost in nano-dollars."""

    record: UsageRecord
    cost_nano: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the record at `index` of a message (None: the whole message) does not count."""

    index: int | None
    reason: str


_encoder = msgspec.json.Encoder()
_decode_one = msgspec.json.Decoder(UsageRecord).decode
_decode_many = msgspec.json.Decoder(list[UsageRecord]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_is_uuid = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
).fullmatch
_BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)


def encode_usage(records: list[UsageRecord]) -> bytes:
    """A usage message with these records: an object for one, an array for several."""
    return _encoder.encode(records[0] if len(records) == 1 else records)


def decode_usage(value: bytes | None, timestamp_ms: int) -> tuple[list[Usage], list[Rejection]]:
    """What counts of a usage message, and what does not and why. Never raises.

    An empty array holds nothing and is no error. `timestamp_ms` is the message's own, against
    which a date in the future is judged, so that every reader judges alike.
    """
    if not value:
        return [], [Rejection(None, "the message is empty")]
    if len(value) > MESSAGE_BYTES_MAX:
        return [], [Rejection(None, f"the message is over {MESSAGE_BYTES_MAX} bytes")]
    latest = _latest(timestamp_ms)
    is_array = value.lstrip()[:1] == b"["
    try:
        records = _decode_many(value) if is_array else [_decode_one(value)]
    except _BAD_JSON as error:
        return _decode_apart(value, latest) if is_array else ([], [_rejection(error, None)])
    if (refusal := _refuse_whole(value, len(records))) is not None:
        return [], [refusal]
    usages: list[Usage] = []
    rejections: list[Rejection] = []
    for index, record in enumerate(records):
        _judge(record, latest, index if is_array else None, usages, rejections)
    return usages, rejections


def split_usage(value: bytes) -> list[bytes]:
    """The records of a message that holds an array, each as its bytes.

    Raises:
        ValueError: it holds none that can be told apart.
    """
    return [bytes(item) for item in _decode_items(value)]


def _decode_apart(value: bytes, latest: datetime) -> tuple[list[Usage], list[Rejection]]:
    """The same for an array that holds something bad: each record by itself."""
    try:
        items = _decode_items(value)
    except _BAD_JSON as error:
        return [], [_rejection(error, None)]
    if (refusal := _refuse_whole(value, len(items))) is not None:
        return [], [refusal]
    usages: list[Usage] = []
    rejections: list[Rejection] = []
    for index, item in enumerate(items):
        try:
            record = _decode_one(item)
        except _BAD_JSON as error:
            rejections.append(_rejection(error, index))
        else:
            _judge(record, latest, index, usages, rejections)
    return usages, rejections


def _judge(
    record: UsageRecord,
    latest: datetime,
    index: int | None,
    usages: list[Usage],
    rejections: list[Rejection],
) -> None:
    try:
        cost_nano = to_nano(record.cost_usd)
        reason = _reason(record, cost_nano)
        if reason is None and record.occurred_at > latest:
            reason = f"occurred_at is more than {AHEAD_MAX_S} s ahead of the message's timestamp"
    except ValueError as error:
        reason = str(error)
    if reason is None:
        usages.append(Usage(record, cost_nano))
    else:
        rejections.append(Rejection(index, reason))


def _reason(record: UsageRecord, cost_nano: int) -> str | None:
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
    if record.metadata is not _NO_METADATA:
        return _metadata_reason(bytes(record.metadata))
    return None


def _metadata_reason(raw: bytes) -> str | None:
    if raw[:1] != b"{":
        return "metadata must be an object"
    if len(raw) > METADATA_BYTES_MAX:
        return f"metadata is over {METADATA_BYTES_MAX} bytes"
    if _depth_exceeds(raw, NESTING_MAX):
        return f"metadata nests deeper than {NESTING_MAX} levels"
    return None


def _check_types(record: UsageRecord) -> None:
    """A Struct checks types when it is decoded only; a record made in Python is checked here."""
    try:
        _decode_one(_encoder.encode(record))
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None


def _latest(timestamp_ms: int) -> datetime:
    if not 0 <= timestamp_ms <= _TIMESTAMP_MS_MAX:  # a producer that set none, or nonsense
        return datetime.max.replace(tzinfo=UTC)
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC) + timedelta(seconds=AHEAD_MAX_S)


def _rejection(error: Exception, index: int | None) -> Rejection:
    if isinstance(error, RecursionError):
        return Rejection(None, _TOO_DEEP)
    return Rejection(index, str(error))


def _refuse_whole(value: bytes, count: int) -> Rejection | None:
    """What a message as a whole may not be, by rules of ours.

    Where the decoder itself gives up on nesting depends on how deep the caller's stack is, and
    two readers must agree. So what could come near is looked at exactly: more brackets than
    a record and its metadata have by themselves.
    """
    if count > RECORDS_PER_MESSAGE_MAX:
        return Rejection(None, f"the message holds {count} records, over {RECORDS_PER_MESSAGE_MAX}")
    plain = 1 + count + min(count, _PLAIN_METADATA_MAX)
    if value.count(b"{") + value.count(b"[") > plain + NESTING_MAX and _depth_exceeds(
        value, NESTING_MAX
    ):
        return Rejection(None, _TOO_DEEP)
    return None


_TOO_DEEP = f"the message nests deeper than {NESTING_MAX} levels"
_PLAIN_METADATA_MAX = 500  # brackets that are taken for flat metadata; half of what a stack bears
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def _depth_exceeds(value: bytes, bound: int) -> bool:
    if value.count(b"{") + value.count(b"[") <= bound:
        return False
    depth = 0
    for token in _TOKEN.finditer(value):
        byte = token[0]
        if byte in (b"[", b"{"):
            depth += 1
            if depth > bound:
                return True
        elif byte in (b"]", b"}"):
            depth -= 1
    return False
