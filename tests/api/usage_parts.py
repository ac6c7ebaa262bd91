"""What the tests of usage over HTTP share: the app on a topic in memory, and what arrived there."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx

from api.app import create_app
from api.callers import Caller
from outlay.judging import decode_usage
from outlay.topics import usage_partition
from schemas.settings import Settings
from tests.api.fakes import NOW, FakeBudgets, FakeFeed, FakeHistory
from tests.library.library_fakes import FakeSender

URL = "/api/v1/usage"
NDJSON = "application/x-ndjson"
EVENT, EVENTS = "application/cloudevents+json", "application/cloudevents-batch+json"
ANYBODY = Caller("all", None, frozenset({"emitter"}), "k0")
WAIT_S = 5.0

UNAVAILABLE, BUSY = (503, "broker-unavailable"), (503, "usage-busy")
UNCONFIRMED, UNKNOWN = (503, "usage-unconfirmed"), (502, "usage-unknown")
REUSED = (422, "idempotency-key-reused")


def record(**fields):
    """A record as a client writes it."""
    return {"organization_id": "acme", "agent_id": "a1", "cost_usd": "0.05"} | fields


def event(**attributes):
    """A CloudEvent that carries such a record."""
    return {
        "specversion": "1.0",
        "type": "outlay.usage.v1",
        "source": "/agents",
        "id": "e1",
        "data": record(),
    } | attributes


def make_app(topic, caller=ANYBODY):
    """The app, whose usage goes to a `FakeTopic`; `caller` is who asks."""
    feed = FakeFeed()
    app = create_app(
        Settings(),
        feed=feed,
        budgets=FakeBudgets(feed),
        history=FakeHistory(),
        usage_sender=lambda: FakeSender(topic),
        now=lambda: NOW,
    )
    app.state.authenticate = lambda request: caller
    return app


@asynccontextmanager
async def serving(app, *, timeout_s=0.05):
    """A client of the running app on this very loop; requests wait so long for the broker."""
    async with app.router.lifespan_context(app):
        app.state.usage.delivery_timeout_s = timeout_s
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


def arrived(topic):
    """The records on the topic, in order by partition; each must count."""
    found = []
    for _, _, value in topic.messages():
        usages, rejections = decode_usage(value, int(NOW.timestamp() * 1000))
        assert not rejections
        found += [usage.record for usage in usages]
    return found


def post(client, body, content_type="application/json", **headers):
    """Send a body, as JSON unless it is bytes; a coroutine where the client is asynchronous."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(URL, content=content, headers={"Content-Type": content_type} | names)


async def eventually(look):
    """Wait until `look()` is true."""
    async with asyncio.timeout(WAIT_S):
        while not look():  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0.002)


def agents_of(partition, partitions=2):
    """An agent whose records go there."""
    names = (f"a{n}" for n in range(100))
    return next(name for name in names if usage_partition("acme", name, partitions) == partition)


def kind(answer):
    """The status, and the kind of problem."""
    return answer.status_code, answer.json().get("type", "").rpartition(":")[2]
