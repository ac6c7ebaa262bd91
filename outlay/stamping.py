"""Stamping: what one call of `emit` was given becomes a record with source and sequence."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from outlay.judging import decode_usage
from outlay.usage import UsageRecord, encode_usage

Item = tuple[object, tuple[object, ...], Any, float]
"""What one call of `emit` was given, record, extra and fields, and when (seconds since the epoch).

A plain tuple: a named one would take a tenth of the call."""

_NO_TIMESTAMP_MS = -1  # what is dated in the future is judged by the broker's clock, not by ours


class Stamper:
    """Makes records of items, valid ones only, and counts them as this source's."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._sequence = 1

    def stamp(self, item: Item) -> tuple[UsageRecord, bytes]:
        """The record that an item stands for, and its JSON.

        Raises any `Exception` that says what is wrong with the item; it takes no sequence then.
        """
        given, extra, fields, at_s = item
        if extra or (given is not None and fields):
            raise TypeError("emit takes one record, or fields")
        if given is None:
            record = self._of_fields(fields, at_s)
            part = encode_usage([record])
        elif isinstance(given, UsageRecord):
            record = given
            if not record.source:
                record = msgspec.structs.replace(
                    record, source=self._source, sequence=self._sequence
                )
            part = encode_usage([record])
            # A Struct checks nothing when it is made.
            if rejections := decode_usage(part, _NO_TIMESTAMP_MS)[1]:
                raise ValueError(rejections[0].reason)
        else:
            raise TypeError(f"emit takes a UsageRecord, not {type(given).__name__}")
        if record.source == self._source:
            self._sequence += 1
        return record, part

    def _of_fields(self, fields: dict[str, Any], at_s: float) -> UsageRecord:
        fields.setdefault("occurred_at", datetime.fromtimestamp(at_s, UTC))
        if not fields.get("source"):
            fields["source"] = self._source
            fields["sequence"] = self._sequence
        return UsageRecord.new(**fields)
