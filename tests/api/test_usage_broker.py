"""Usage over HTTP on a real broker: the producer, the partitions, and the broker going away."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import httpx

from api.app import create_app
from outlay.embedded.ports import free_port
from outlay.sending import KafkaSender
from outlay.topics import usage_partition
from schemas.settings import Settings
from tests.api.fakes import FakeBudgets, FakeFeed, FakeHistory
from tests.api.usage_parts import NDJSON, post, record
from tests.library.library_fakes import read_usages

PARTITIONS = 3


@asynccontextmanager
async def _serving(topics, servers=None):
    settings = Settings(
        kafka_bootstrap_servers=servers or topics.bootstrap_servers,
        topic_prefix=topics.names.prefix,
    )
    feed = FakeFeed()
    app = create_app(settings, feed=feed, budgets=FakeBudgets(feed), history=FakeHistory())
    async with app.router.lifespan_context(app):
        app.state.usage.delivery_timeout_s = 20
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


def test_what_is_accepted_is_on_the_topic_once(topic_prefix):
    """Many requests at once, some sent twice with their keys: each record once, at its place."""
    topic_prefix.create(usage=PARTITIONS)
    lines = b"\n".join(json.dumps(record(agent_id=f"a{n}")).encode() for n in range(500))

    async def run():
        async with _serving(topic_prefix) as client:
            ones = [post(client, record(agent_id=f"b{n % 9}")) for n in range(60)]
            many = [post(client, lines, NDJSON, Idempotency_Key=f"k{n % 3}") for n in range(6)]
            return await asyncio.gather(*ones, *many)

    answers = asyncio.run(run())
    assert {answer.status_code for answer in answers} == {202}
    usages, messages = read_usages(topic_prefix)
    ids = Counter(usage.record.id for _, usage in usages)
    accepted = {each["id"] for answer in answers for each in answer.json()["records"]}
    assert set(ids) == accepted
    assert set(ids.values()) == {1}
    assert len(ids) == 60 + 3 * 500
    for partition, usage in usages:
        sent = usage.record
        assert partition == usage_partition(sent.organization_id, sent.agent_id, PARTITIONS)
    assert len(messages) < 60 + 3 * PARTITIONS


def test_a_broker_that_is_not_there_is_said_and_found_when_it_comes(topic_prefix):
    """The same process, and no start anew: first nobody listens there, then the broker does."""
    topic_prefix.create(usage=1)

    async def run():
        async with _serving(topic_prefix, f"127.0.0.1:{free_port()}") as client:
            usage = client._transport.app.state.usage
            usage.delivery_timeout_s = 0.3
            away = await post(client, record(agent_id="lost"))
            servers, topic = topic_prefix.bootstrap_servers, topic_prefix.names.usage
            usage.ingest._sender_factory = lambda: KafkaSender(servers, topic)
            usage.delivery_timeout_s = 20
            return away, await post(client, record(agent_id="found"))

    away, found = asyncio.run(run())
    assert (away.status_code, away.json()["type"]) == (
        503,
        "urn:outlay:problem:broker-unavailable",
    )
    assert found.status_code == 202
    usages, _ = read_usages(topic_prefix)
    assert [usage.record.agent_id for _, usage in usages] == ["found"]
