"""Stamping: what calls of `emit` were given becomes records with source and sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import uuid_utils

from outlay.judging import decode_usage
from outlay.money import as_usd, to_nano
from outlay.packing import Bundle
from outlay.topics import usage_partition
from outlay.usage import NO_METADATA, UsageRecord, encode_usage, invalid_reason, to_reports

Item = tuple[object, tuple[object, ...], Any, float]
"""What one call of `emit` was given, record, extra and fields, and when (seconds since the epoch).

A plain tuple: a named one would take a tenth of the call."""

OnInvalid = Callable[[Item, Exception], None]
"""Told of each item that is no valid record, and why."""

_NO_TIMESTAMP_MS = -1  # what is dated in the future is judged by the broker's clock, not by ours
_LOW_BITS_MASK = 2**47 - 1  # of the 48 at a UUID's end, with room to count on

_from_timestamp = datetime.fromtimestamp
_to_json = msgspec.json.Encoder().encode
_replace = msgspec.structs.replace


class Stamper:
    """Makes records of items, valid ones only, and counts them as this source's."""

    def __init__(self, source: str) -> None:
        self._source = source
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
        except Exception as error:
            on_invalid(items[0], error)
            return []
        if record.source == self._source:
            self._sequence += 1
        return [Bundle(partition, [record], message)]

    # -- many together: to the same result, in a third of the time

    def _together(self, items: Sequence[Item], partitions: int) -> list[Bundle]:
        """Raises any `Exception` where one of them is not plainly valid; no item is changed."""
        lanes: dict[int, list[dict[str, Any]]] = {}
        unusual: set[str] = set()
        for new_id, (given, extra, fields, at_s) in zip(_new_ids(len(items)), items, strict=True):
            if extra:
                raise TypeError("emit takes one record, or fields")
            if given is None:
                made = self._made_of_fields(fields, at_s, new_id, unusual)
            else:
                made = self._made_of_record(given, fields, unusual)
            if made["source"] == self._source:
                self._sequence += 1
            partition = usage_partition(made["organization_id"], made["agent_id"], partitions)
            if partition in lanes:
                lanes[partition].append(made)
            else:
                lanes[partition] = [made]
        bundles = []
        for partition, lane in lanes.items():
            records = to_reports(lane)
            bundles.append(Bundle(partition, records, encode_usage(records)))
            if unusual:
                _check([record for record in records if record.id in unusual])
        return bundles

    def _made_of_fields(
        self, fields: dict[str, Any], at_s: float, new_id: str, unusual: set[str]
    ) -> dict[str, Any]:
        """What `UsageRecord.new` makes of them; its checks are still to be passed.

        Its id is added to `unusual` when more than types and bounds is to be looked at.
        """
        made = fields.copy()
        made["cost_usd"] = cost_usd = as_usd(made["cost_usd"])
        usual = cost_usd[0] != "-"
        if made.get("id") is None:
            made["id"] = new_id
        else:
            usual = False
        if made.get("occurred_at") is None:
            made["occurred_at"] = _from_timestamp(at_s, UTC)
        elif isinstance(made["occurred_at"], datetime):
            usual = False
        else:
            raise TypeError("occurred_at must be a datetime")
        if not made.get("source"):
            made["source"] = self._source
            made["sequence"] = self._sequence
        if "metadata" in made:
            if made["metadata"]:
                made["metadata"] = msgspec.Raw(_to_json(made["metadata"]))
                usual = False
            else:
                del made["metadata"]
        if not usual:
            unusual.add(made["id"])
        return made

    def _made_of_record(
        self, given: object, fields: dict[str, Any], unusual: set[str]
    ) -> dict[str, Any]:
        if not isinstance(given, UsageRecord) or fields:
            raise TypeError("emit takes one record, or fields")
        made = msgspec.structs.asdict(given)
        if not given.source:
            made["source"] = self._source
            made["sequence"] = self._sequence
        if given.metadata is NO_METADATA:
            del made["metadata"]
        else:
            _judge(encode_usage([given]))
        unusual.add(given.id)
        return made

    # -- one by itself

    def _closely(self, item: Item) -> tuple[UsageRecord, bytes]:
        """The record that an item stands for, and its message.

        Raises any `Exception` that says what is wrong with the item.
        """
        given, extra, fields, at_s = item
        if extra or (given is not None and fields):
            raise TypeError("emit takes one record, or fields")
        if given is None:
            record = self._new(fields, at_s)
            return record, encode_usage([record])
        if not isinstance(given, UsageRecord):
            raise TypeError(f"emit takes a UsageRecord, not {type(given).__name__}")
        record = given
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


def _new_ids(count: int) -> Iterator[str]:
    """So many UUIDs of version 7: a new one, counted on from a random place."""
    first = str(uuid_utils.uuid7())
    head, low = first[:24], int(first[24:], 16) & _LOW_BITS_MASK
    return (f"{head}{n:012x}" for n in range(low, low + count))


def _judge(message: bytes) -> None:
    """Ask of a record what its readers will.

    Raises:
        ValueError: they would reject it.
    """
    if rejections := decode_usage(message, _NO_TIMESTAMP_MS)[1]:
        raise ValueError(rejections[0].reason)


def _check(records: list[UsageRecord]) -> None:
    """Look at the texts of records whose types are right.

    Raises:
        ValueError: one would be rejected.
    """
    for record in records:
        if (reason := invalid_reason(record, to_nano(record.cost_usd))) is not None:
            raise ValueError(reason)
