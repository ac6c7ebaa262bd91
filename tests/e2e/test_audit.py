"""The audit through the real parts: workers that are killed, ClickHouse, and the API."""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.request
import uuid
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from outlay.decision import BudgetRequest, decode_request, encode
from outlay.embedded import Broker
from outlay.stack import Stack
from outlay.topics import partition_of
from streams.audit import decode_audit
from tests.kafka_log import KafkaLog, wait_until

SCOPES = [f"organization:audited/agent:a{n}" for n in range(5)]
REQUESTS = 400
HTTP_TIMEOUT_S = 30.0


def made(seed: int) -> list[BudgetRequest]:
    """Changes of a few budgets, some to be refused, some sent twice under their ids."""
    rng = random.Random(seed)
    requests: list[BudgetRequest] = []
    for n in range(REQUESTS):
        again = requests and rng.random() < 0.1
        requests.append(
            rng.choice(requests[-5:])
            if again
            else BudgetRequest(
                request_id=f"r{n}",
                scope=rng.choice(SCOPES),
                action=rng.choice(("put", "patch", "patch", "delete")),
                changes={"monthly_budget_usd": str(rng.randint(1, 9))},
                expected_version=rng.choice((None, None, None, 0, 3)),
                requested_by=f"key {n % 3}",
            )
        )
    return requests


async def send(stack: Stack, requests: list[BudgetRequest], partitions: int) -> None:
    """Send them, over some seconds."""
    async with AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers, acks="all") as producer:
        for request in requests:
            key = request.scope.encode()
            partition = partition_of(key, partitions)
            await producer.send_and_wait(stack.topics.budgets, encode(request), key, partition)
            await asyncio.sleep(0.02)


async def send_while_workers_die(
    stack: Stack, requests: list[BudgetRequest], partitions: int
) -> None:
    """The worker is killed again and again meanwhile, and started anew."""
    sending = asyncio.create_task(send(stack, requests, partitions))
    while not sending.done():
        await asyncio.sleep(2.5)
        stack.workers[0].kill()
        await asyncio.to_thread(stack.workers[0].start)
    await sending


def entries(stack: Stack) -> list[dict[str, Any]]:
    """Everything that the API tells, page by page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        url = f"{stack.api_url}/api/v1/audit?organization_id=audited&limit=100{cursor}"
        with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S) as response:
            body = json.load(response)
        found += body["items"]
        if body["next_cursor"] is None:
            return found
        cursor = f"&cursor={body['next_cursor']}"


@pytest.mark.crash  # a minute and more: workers are killed over and over
def test_every_decided_request_is_told_once_though_workers_are_killed(
    kafka: Broker, tmp_path: Path
) -> None:
    """The topic may tell one again, but never otherwise; the API tells each once, and no other."""
    app_id = f"audit-{uuid.uuid4().hex[:8]}"
    settings = {
        "OUTLAY_TOPIC_PREFIX": app_id,
        "OUTLAY_APP_ID": app_id,
        "OUTLAY_SESSION_TIMEOUT_S": "6",
        "OUTLAY_HISTORY_FLUSH_INTERVAL_S": "0.3",
    }
    log = KafkaLog(kafka.bootstrap_servers)
    with Stack(tmp_path, broker=kafka, owns_broker=False, settings=settings) as stack:
        stack.wait_ready()
        partitions = len(log.ends(stack.topics.budgets))
        asyncio.run(send_while_workers_die(stack, made(7), partitions))
        asked = first_of_each(log.read(stack.topics.budgets))
        wait_until("the API tells all", lambda: len(entries(stack)) >= len(asked))
        time.sleep(1)  # for what there might be too much of
        told = entries(stack)
        on_topic = defaultdict(set)
        for record in log.read(stack.topics.audit):
            audited = decode_audit(record.value)
            on_topic[audited.partition, audited.offset].add(record.value)
    assert on_topic.keys() == asked.keys()
    assert all(len(values) == 1 for values in on_topic.values())
    places = [(entry["partition"], entry["offset"]) for entry in told]
    assert sorted(places) == sorted(asked)
    times = [datetime.fromisoformat(entry["requested_at"]) for entry in told]
    assert times == sorted(times, reverse=True)
    for place, entry in zip(places, told, strict=True):
        request = asked[place]
        assert (entry["request_id"], entry["scope"]) == (request.request_id, request.scope)
        assert (entry["requested_by"], entry["action"]) == (request.requested_by, request.action)
    follows(told)


def first_of_each(records: list[Any]) -> dict[tuple[int, int], BudgetRequest]:
    """The requests by their places, without those that came again."""
    seen: set[str] = set()
    asked = {}
    for record in records:
        request = decode_request(record.value)
        if request.request_id not in seen:
            seen.add(request.request_id)
            asked[record.partition, record.offset] = request
    return asked


def follows(told: list[dict[str, Any]]) -> None:
    """See that each scope's budget is before a request what the one before it left."""
    left: dict[str, Any] = dict.fromkeys(SCOPES)
    for entry in sorted(told, key=lambda entry: (entry["partition"], entry["offset"])):
        assert entry["before"] == left[entry["scope"]], entry
        assert entry["accepted"] or entry["after"] == entry["before"], entry
        assert entry["accepted"] != bool(entry["reason"]), entry
        assert (entry["version"] == 0) == (entry["after"] is None), entry
        left[entry["scope"]] = entry["after"]
    assert {entry["accepted"] for entry in told} == {True, False}
