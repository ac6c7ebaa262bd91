"""Bad input: one dead letter each, with a clear reason, and the stream goes on."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError

from tests.e2e.conftest import Running
from tests.kafka_log import wait_until

PARTITION = 1


def good(organization: str, **fields: Any) -> dict[str, Any]:
    record = {
        "id": str(uuid.uuid4()),
        "occurred_at": datetime.now(UTC).isoformat(),
        "organization_id": organization,
        "agent_id": "a",
        "cost_usd": "0.25",
    }
    return record | fields


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}


NOW = datetime.now(UTC)
BAD_RECORDS: dict[str, tuple[Any, str]] = {
    "no agent": (without(good("x"), "agent_id"), "missing required field `agent_id`"),
    "no id": (without(good("x"), "id"), "missing required field `id`"),
    "no cost": (without(good("x"), "cost_usd"), "missing required field `cost_usd`"),
    "empty agent": (good("x", agent_id=""), "length >= 1"),
    "long agent": (good("x", agent_id="a" * 257), "length <= 256"),
    "agent is a number": (good("x", agent_id=7), "Expected `str`, got `int` - at `$.agent_id`"),
    "tokens are text": (good("x", input_tokens="7"), "Expected `int`, got `str`"),
    "negative tokens": (good("x", output_tokens=-1), "needs kind=correction"),
    "cost is a list": (good("x", cost_usd=[]), "cost_usd"),
    "cost is a word": (good("x", cost_usd="much"), "not an amount of USD"),
    "cost is NaN": (good("x", cost_usd="NaN"), "must be finite"),
    "cost is infinite": (good("x", cost_usd="-Infinity"), "must be finite"),
    "cost is too large": (good("x", cost_usd="1e999999"), "below 1,000,000,000"),
    "negative cost": (good("x", cost_usd="-0.01"), "needs kind=correction"),
    "a long story": (good("x", kind="k" * 300_000), "Invalid enum value"),
    "unknown kind": (good("x", kind="refund"), "Invalid enum value 'refund'"),
    "id is no UUID": (good("x", id="7"), "id must be a UUID"),
    "no zone": (good("x", occurred_at="2026-11-21T12:00:00"), "timezone"),
    "not a time": (good("x", occurred_at="yesterday"), "Invalid RFC3339"),
    "two days ahead": (
        good("x", occurred_at=(NOW + timedelta(days=2)).isoformat()), "ahead of the message's",
    ),
    "metadata is a list": (good("x", metadata=[1]), "metadata must be an object"),
    "a number": (7, "Expected `object`, got `int`"),
    "null": (None, "Expected `object`, got `null`"),
}  # fmt: skip
BAD_MESSAGES: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"hello", "JSON is malformed"),
    "half": (b'{"id": "', "truncated"),
    "bare NaN": (json.dumps(good("x")).replace('"0.25"', "NaN").encode(), "JSON is malformed"),
    "not UTF-8": (b'{"id": "\xff"}', "utf-8"),
    "nothing": (b"", "empty"),
    "deep": (b'{"z":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "nests deeper than 64"),
    "deep in an array": (b"[" + b'{"z":' * 800 + b"1" + b"}" * 800 + b"]", "nests deeper than 64"),
    "too many": (b"[" + b",".join([b"{}"] * 10_001) + b"]", "over 10000"),
}


@pytest.fixture
def organization() -> str:
    return f"bad-{uuid.uuid4().hex[:8]}"


def send(running: Running, values: list[bytes]) -> list[int]:
    """Send messages to one partition; their offsets."""

    async def send_all() -> list[int]:
        async with AIOKafkaProducer(
            bootstrap_servers=running.stack.bootstrap_servers, max_request_size=4 * 2**20
        ) as producer:
            usage = running.stack.topics.usage
            sent = [
                await producer.send_and_wait(usage, value, partition=PARTITION) for value in values
            ]
            return [metadata.offset for metadata in sent]

    return asyncio.run(send_all())


def letters(running: Running) -> dict[tuple[int, int | None], dict[str, Any]]:
    """The dead letters by offset and index; a coordinate may have one only."""
    found: dict[tuple[int, int | None], dict[str, Any]] = {}
    for record in running.kafka.read(running.stack.topics.rejected):
        letter = json.loads(record.value)
        at = (letter["offset"], letter.get("index"))
        assert at not in found, f"two dead letters for {at}"
        assert (letter["topic"], letter["partition"]) == (running.stack.topics.usage, PARTITION)
        found[at] = letter
    return found


def counted(running: Running, organization: str) -> list[int] | None:
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return running.totals(organization).get((f"organization:{organization}", day))


def test_each_bad_record_is_one_dead_letter_and_its_batch_counts(
    running: Running, organization: str
) -> None:
    """By itself, and in the middle of a batch whose other records count."""
    before = running.metric("outlay_stream_rejected_total", "partials")
    fine = json.dumps(good(organization)).encode()
    alone = [json.dumps(bad).encode() for bad, _ in BAD_RECORDS.values()]
    batches = [
        json.dumps([good(organization), bad, good(organization)]).encode()
        for bad, _ in BAD_RECORDS.values()
    ]
    offsets = send(running, [*alone, *batches, fine])
    reasons = [reason for _, reason in BAD_RECORDS.values()]
    expected: dict[tuple[int, int | None], str] = {
        (at, None): why for at, why in zip(offsets, reasons, strict=False)
    }
    in_batches = offsets[len(alone) :]
    expected |= {(at, 1): why for at, why in zip(in_batches, reasons, strict=False)}
    executions = 2 * len(batches) + 1
    wait_until(
        "the good ones count",
        lambda: (counted(running, organization) or [0, 0])[1] == executions,
        30,
    )
    found = letters(running)
    for at, reason in expected.items():
        assert reason in found[at]["reason"], at
    assert found[offsets[0], None]["record"] == alone[0].decode()
    assert found[in_batches[0], 1]["record"] == alone[0].decode()  # not the batch around it
    assert counted(running, organization) == [executions * 250_000_000, executions, 0, 0]
    assert running.metric("outlay_stream_rejected_total", "partials") - before == len(expected)


def test_each_bad_message_is_one_dead_letter_and_the_stream_goes_on(
    running: Running, organization: str
) -> None:
    """Malformed, empty, too deep, too many; an empty array is none of these."""
    values = [value for value, _ in BAD_MESSAGES.values()]
    empty = [b"[]", b" [ ] "]
    offsets = send(running, [*values, *empty, json.dumps(good(organization)).encode()])
    wait_until("the good one counts", lambda: counted(running, organization) is not None, 30)
    found = letters(running)
    for at, (name, (_, reason)) in zip(offsets, BAD_MESSAGES.items(), strict=False):
        assert reason in found[at, None]["reason"], name
    for at in offsets[len(values) :]:
        assert (at, None) not in found


@pytest.fixture
def large_messages(running: Running) -> Iterator[None]:
    """A usage topic whose operator lets larger messages in than outlay reads."""

    def alter(max_bytes: int) -> None:
        async def run() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=running.stack.bootstrap_servers)
            await admin.start()
            try:
                configs = {
                    "max.message.bytes": str(max_bytes),
                    "message.timestamp.type": "LogAppendTime",
                }
                usage = running.stack.topics.usage
                await admin.alter_configs(
                    [ConfigResource(ConfigResourceType.TOPIC, usage, configs)]
                )
            finally:
                await admin.close()

        asyncio.run(run())

    alter(4 * 2**20)
    yield
    alter(2**20 + 65_536)


def two_megabytes(organization: str) -> bytes:
    return json.dumps(good(organization, note="x" * 2 * 2**20)).encode()


def test_a_2_mb_message_is_refused_by_the_topic(running: Running, organization: str) -> None:
    """The producer is told at once."""
    with pytest.raises(MessageSizeTooLargeError):
        send(running, [two_megabytes(organization)])


def test_a_2_mb_message_is_a_dead_letter_where_the_topic_takes_it(
    running: Running, organization: str, large_messages: None
) -> None:
    """Its dead letter holds its beginning, and says so."""
    [large, _] = send(
        running, [two_megabytes(organization), json.dumps(good(organization)).encode()]
    )
    wait_until("the good one counts", lambda: counted(running, organization) is not None, 30)
    letter = letters(running)[large, None]
    assert "over 1048576 bytes" in letter["reason"]
    assert letter["truncated"] is True
    assert len(letter["record"]) == 65_536
    assert (counted(running, organization) or [0, 0])[1] == 1


def test_a_record_older_than_the_retention_is_history_only(
    running: Running, organization: str
) -> None:
    """It is kept for reports and counted as late; no total is touched."""
    before = running.metric("outlay_stream_late_total", "partials")
    old = good(organization, occurred_at=(NOW - timedelta(days=500)).isoformat())
    send(running, [json.dumps([old, good(organization)]).encode()])
    wait_until("the good one counts", lambda: counted(running, organization) is not None, 30)
    wait_until(
        "the history has both",
        lambda: sum(r["records"] for r in running.spend(organization, "agent", days=600)) == 2,
    )
    assert {window for _, window in running.totals(organization)} == {
        NOW.strftime("%Y-%m-%d"), NOW.strftime("%Y-%m"),
    }  # fmt: skip
    assert running.metric("outlay_stream_late_total", "partials") - before == 1


def test_a_correction_takes_back(running: Running, organization: str) -> None:
    """A negative amount counts where its record says that it corrects."""
    correction = good(organization, cost_usd="-0.10", kind="correction", executions=0)
    send(running, [json.dumps(good(organization)).encode(), json.dumps(correction).encode()])
    wait_until(
        "both count",
        lambda: counted(running, organization) == [150_000_000, 1, 0, 0],
        30,
    )


def test_unknown_fields_are_ignored(running: Running, organization: str) -> None:
    """A newer producer does not break an older stream."""
    send(running, [json.dumps(good(organization, color={"a": [1]})).encode()])
    wait_until("it counts", lambda: counted(running, organization) is not None, 30)
