"""Stamping: what calls of `emit` were given becomes records with source and sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import repeat
from typing import Any

import msgspec

from outlay.draft import Draft, fill_costs, new_ids, to_drafts, to_times
from outlay.judging import decode_usage
from outlay.money import as_usd, to_nano
from outlay.packing import Bundle
from outlay.topics import usage_partition
from outlay.usage import NO_METADATA, UsageRecord, encode_usage, invalid_reason


class Item(msgspec.Struct, frozen=True, gc=False):
    """What one call of `emit` was given, and when, in seconds since the epoch.

    The garbage collector passes it over: a full buffer of plain tuples would have it look through
    all that the program holds, again and again. A cycle through one ends when it is delivered.
    """

    record: object
    extra: tuple[object, ...]
    fields: Any
    at_s: float


OnInvalid = Callable[[Item, Exception], None]
"""Told of each item that is no valid record, and why."""

_NO_TIMESTAMP_MS = -1  # what is dated in the future is judged by the broker's clock, not by ours

_from_timestamp = datetime.fromtimestamp
_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode
_replace = msgspec.structs.replace


class Stamper:
    """Makes records of items, valid ones only, and counts them as this source's.

    `frames` says whether many of them may travel as a frame.
    """

    def __init__(self, source: str, *, frames: bool) -> None:
        self._source = source
        self._frames = frames
        self._sequence = 1

    def stamp(self, items: Sequence[Item], partitions: int, on_invalid: OnInvalid) -> list[Bundle]:
        """The records that items stand for, in order in each of a topic's `partitions`.

        They are made and checked together. Where that fails something among them is wrong, or
        only unusual: then it is done by halves, down to a single item, which is looked at closely.
        An item that is not valid takes no sequence.
        """
        if not items:
            return []
        sequence = self._sequence
        try:
            return self._together(items, partitions)
        except Exception:
            self._sequence = sequence
        if len(items) > 1:
            middle = len(items) // 2
            before = self.stamp(items[:middle], partitions, on_invalid)
            return before + self.stamp(items[middle:], partitions, on_invalid)
        try:
            record, message = self._closely(items[0])
            partition = usage_partition(record.organization_id, record.agent_id, partitions)
            bundle = Bundle(partition, [record], frames=self._frames, message=message)
        except Exception as error:
            on_invalid(items[0], error)
            return []
        if record.source == self._source:
            self._sequence += 1
        return [bundle]

    # -- many together: to the same result, in a fifth of the time

    def _together(self, items: Sequence[Item], partitions: int) -> list[Bundle]:
        """Raises any `Exception` where one of them is not plainly valid; no item is changed."""
        drafts = self._drafts(items)
        lanes: dict[int, list[UsageRecord]] = {}
        organizations = [draft.organization_id for draft in drafts]
        agents = [draft.agent_id for draft in drafts]
        places = map(usage_partition, organizations, agents, repeat(partitions))
        for draft, partition in zip(drafts, places, strict=True):
            if partition in lanes:
                lanes[partition].append(draft)
            else:
                lanes[partition] = [draft]
        return [Bundle(partition, lane, frames=self._frames) for partition, lane in lanes.items()]

    def _drafts(self, items: Sequence[Item]) -> list[Draft]:
        """What `UsageRecord.new` makes of the fields of each, as are those of records."""
        drafts = to_drafts(
            [
                item.fields if item.record is None and not item.extra else _record_fields(item)
                for item in items
            ]
        )
        unusual = fill_costs(drafts)  # those of which more than types and bounds is looked at
        ids = new_ids(len(items))
        times = to_times([item.at_s for item in items])
        source, sequence = self._source, self._sequence
        for draft, new_id, at in zip(drafts, ids, times, strict=True):
            usual = True
            if draft.id is None:
                draft.id = new_id
            else:
                usual = False
            if draft.occurred_at is None:
                draft.occurred_at = at
            else:
                usual = False
            if not draft.source:
                draft.source, draft.sequence = source, sequence
            if draft.source == source:
                sequence += 1
            if not draft.metadata:
                draft.metadata = NO_METADATA
            elif draft.metadata is not NO_METADATA:
                encoded = _to_json(draft.metadata)
                _from_json(encoded)  # what is encoded already may stand in it, and be no JSON
                draft.metadata = msgspec.Raw(encoded)
                usual = False
            if not usual:
                unusual.append(draft)
        self._sequence = sequence
        _check(unusual)
        return drafts

    # -- one by itself

    def _closely(self, item: Item) -> tuple[UsageRecord, bytes]:
        """The record that an item stands for, and its message.

        Raises any `Exception` that says what is wrong with the item.
        """
        record = item.record
        if item.extra or (record is not None and item.fields):
            raise TypeError("emit takes one record, or fields")
        if record is None:
            made = self._new(item.fields, item.at_s)
            return made, encode_usage([made])
        if not isinstance(record, UsageRecord):
            raise TypeError(f"emit takes a UsageRecord, not {type(record).__name__}")
        if not record.source:
            record = _replace(record, source=self._source, sequence=self._sequence)
        message = encode_usage([record])
        _judge(message)  # a Struct checks nothing when it is made
        return record, message

    def _new(self, fields: dict[str, Any], at_s: float) -> UsageRecord:
        made = fields.copy()
        if made.get("occurred_at") is None:
            made["occurred_at"] = _from_timestamp(at_s, UTC)
        if not made.get("source"):
            made["source"] = self._source
            made["sequence"] = self._sequence
        return UsageRecord.new(**made)


def _record_fields(item: Item) -> dict[str, Any]:
    """The fields of the record that a call was given.

    Raises:
        TypeError, ValueError: it is wrong, or its record is not as `UsageRecord.new` makes them.
    """
    record = item.record
    if item.extra or item.fields or not isinstance(record, UsageRecord):
        raise TypeError("emit takes one record, or fields")
    if record.id is None or record.occurred_at is None:
        raise ValueError("a record has its own id and time")
    if as_usd(record.cost_usd) != record.cost_usd:
        raise ValueError("a record's cost is sent as it is")
    if record.metadata is not NO_METADATA:
        _judge(encode_usage([record]))  # nobody has looked whether it is JSON
    return msgspec.structs.asdict(record)


def _judge(message: bytes) -> None:
    """Ask of a record what its readers will.

    Raises:
        ValueError: they would reject it.
    """
    if rejections := decode_usage(message, _NO_TIMESTAMP_MS)[1]:
        raise ValueError(rejections[0].reason)


def _check(records: Sequence[UsageRecord]) -> None:
    """Look at the texts of records whose types are right.

    Raises:
        ValueError: one would be rejected.
    """
    for record in records:
        if (reason := invalid_reason(record, to_nano(record.cost_usd))) is not None:
            raise ValueError(reason)
