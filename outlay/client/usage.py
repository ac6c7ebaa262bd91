"""Usage: reporting what calls have used, `client.usage`."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from outlay.client.amounts import encode
from outlay.client.calls import Answer, Ask, reading
from outlay.client.operations import R, Resource, operation
from outlay.client.writes import idempotency
from outlay.usage import UsageRecord

GZIP_FROM_BYTES = 16_384
"""From how many bytes on a body is packed."""

_GZIP_LEVEL = 6


class AcceptedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Which id the record at `index` of the request has."""

    index: int
    id: str


class UsageAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The broker has all of these records; `replayed`: it had them from an earlier request."""

    accepted: int
    records: tuple[AcceptedRecord, ...]
    replayed: bool = False


_read_accepted = reading(UsageAccepted)


class Usage(Resource[R]):
    """Usage of agents that do not report through Kafka."""

    @operation("POST", "/api/v1/usage")
    def report(
        self,
        records: UsageRecord | Mapping[str, Any] | Iterable[UsageRecord | Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
    ) -> Ask[UsageAccepted]:
        """Report records, 1,000 at most, and return when the broker has all of them.

        A record is a `UsageRecord`, or the arguments of `UsageRecord.new`. All are sent or none:
        `InvalidRequest.errors` names the wrong ones. The request has an `Idempotency-Key`, which
        its retries keep, so each record counts once. Where it raises `NoAnswer` or a problem of
        503, report the same records (with their ids) under the same key of your own later.

        Raises:
            ValueError, TypeError: a record that cannot be; nothing is sent.
        """
        given = [records] if isinstance(records, UsageRecord | Mapping) else records
        content = encode([_record(each) for each in given])
        headers = idempotency(idempotency_key)
        if len(content) >= GZIP_FROM_BYTES:
            content = gzip.compress(content, _GZIP_LEVEL, mtime=0)
            headers["content-encoding"] = "gzip"
        return Ask(read=_accepted, headers=headers, content=content)


def _record(record: UsageRecord | Mapping[str, Any]) -> UsageRecord:
    return record if isinstance(record, UsageRecord) else UsageRecord.new(**record)


def _accepted(answer: Answer) -> UsageAccepted:
    replayed = answer.headers.get("idempotent-replayed") == "true"
    return msgspec.structs.replace(_read_accepted(answer), replayed=replayed)
