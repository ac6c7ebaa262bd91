"""Fetching: batches straight from what aiokafka has fetched.

aiokafka hands out one Python object a message, made in a generator: that costs as much as decoding
it. Here the messages are taken as its C code parses them, whole fetches at a time where these are
not much larger than they travelled, and with them the offsets that no message has: control
messages, and what compaction took away.

Of a source topic every message is handed over, whatever became of its transaction: what is counted
depends on the log alone. Of any other, a changelog, those of aborted transactions are left out: the
log cleaner may take them away at any time, and nothing may rest on them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch
from faust.types import TP

from streams.batch import Batch, SourceRecord

BATCH_BYTES_MAX = 4 * 1_048_576
"""How much of a fetch makes a batch, in bytes once it is decompressed; what the producer sent
together stays together."""

RECORD_BYTES = 150
"""What a message takes beside its key and its value, in bytes."""


async def fetch(
    fetcher: Any,
    partitions: Collection[TP],
    source_topics: Collection[str],
    timeout_s: float,
) -> dict[TP, Batch]:
    """What has been fetched of some partitions; waits for something up to `timeout_s` seconds.

    Positions move on past what is handed over. Raises what a fetch has met. Of topics that are no
    source topics nothing comes while the fetcher reads uncommitted messages.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        # What belongs to the last assignment must not be handed out under the next.
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
        batches = _drain(fetcher, partitions, source_topics)
        left_s = deadline_s - time.monotonic()
        if batches or left_s <= 0:
            return batches
        waiter = fetcher._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=left_s)
        if not done:
            waiter.cancel()
            return {}
        if fetcher._closed:
            return {}
        waiter.result()  # raises when the group's coordination has failed for good


def _drain(
    fetcher: Any, partitions: Collection[TP], source_topics: Collection[str]
) -> dict[TP, Batch]:
    batches: dict[TP, Batch] = {}
    for tp, fetched in list(fetcher._records.items()):
        if tp not in partitions:
            if not fetcher._subscriptions.is_assigned(tp):
                del fetcher._records[tp]
            continue
        is_error = type(fetched) is not FetchResult
        if is_error and batches:
            continue  # it is raised the next time: what is here comes first
        del fetcher._records[tp]  # also where it fails on the way: half of it must not come again
        more = False
        if is_error:
            fetcher._notify(fetcher._wait_consume_future)
            fetched.check_raise()
        elif fetched.check_assignment(tp) and fetched.has_more():
            whole = tp.topic in source_topics
            # Else nobody knows what of it was aborted: it is dropped here, and fetched anew.
            if whole or fetched._partition_records._isolation_level == READ_COMMITTED:
                batch, more = _take(tp, fetched, whole=whole)
                if batch.end > batch.start:
                    batches[tp] = batch
        if more:
            fetcher._records[tp] = fetched
        else:
            fetcher._notify(fetcher._wait_consume_future)
    return batches


def _take(tp: TP, fetched: Any, *, whole: bool) -> tuple[Batch, bool]:
    """The next messages of one fetch of a partition, and whether there are more of it.

    Without `whole`, those of aborted transactions are left out; their offsets are covered.
    """
    source = fetched._partition_records
    if source._check_crcs:
        raise RuntimeError("fetching checks no CRCs")
    start = end = source.next_fetch_offset
    records: list[SourceRecord] = []
    size_bytes = 0
    while size_bytes < BATCH_BYTES_MAX and source._records.has_next():
        batch = source._records.next_batch()
        if not isinstance(batch, DefaultRecordBatch):
            raise RuntimeError(f"{tp} holds messages of a format from before Kafka 0.11")
        is_left_out = not whole and _is_aborted(source, batch)
        if not (is_left_out or batch.is_control_batch):
            found = list(batch)
            if batch.base_offset < end:  # the fetch began in the middle of it
                found = [record for record in found if record.offset >= end]
            records += found
            if batch.compression_type:  # else the fetch itself is no larger
                size_bytes += sum(map(_size_bytes, found))
        end = max(end, batch.next_offset)
    source.next_fetch_offset = end
    fetched._update_position()
    # Its generator, which was never started, refers back to it: as a cycle the two would keep what
    # the broker sent until the garbage collector comes.
    source._records_iterator = None
    highwater = fetched._assignment.state_value(tp).highwater
    batch = Batch(tp.topic, tp.partition, records, start, end, max((highwater or 0) - end, 0))
    return batch, source._records.has_next()


def _is_aborted(source: Any, batch: Any) -> bool:
    """Whether a batch is of an aborted transaction; to be asked of each in a fetch, in order.

    The broker tells with a fetch which producers' transactions were aborted, and where each of
    these began, also if before the fetch. It ends with the producer's next marker.
    """
    source._consume_aborted_up_to(batch.base_offset)
    if batch.is_control_batch:
        # aiokafka's own `_contains_abort_marker` fails where the log cleaner took the marker away
        # and left its batch, empty: it does so with a producer's last one.
        marker = next(batch, None)
        if marker is not None and ControlRecord.parse(marker.key) == ABORT_MARKER:
            source._aborted_producers.discard(batch.producer_id)
    return batch.is_transactional and batch.producer_id in source._aborted_producers


def _size_bytes(record: SourceRecord) -> int:
    return RECORD_BYTES + len(record.key or b"") + len(record.value or b"")
