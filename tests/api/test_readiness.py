"""What `/readyz` says of the broker: it names the part, and waits for none that hangs."""

import asyncio
import socket

import pytest
from fastapi.testclient import TestClient

from api import brokers, health
from api.app import create_app
from api.brokers import ask_broker
from api.ingest import UsageIngest
from schemas.settings import Settings
from tests.api.fakes import FakeBudgets, FakeFeed, FakeHistory
from tests.api.usage_parts import eventually, make_app, post, record, serving
from tests.library.library_fakes import FakeSender, FakeTopic


def test_a_broker_that_answers_is_told_from_one_that_takes_connections(kafka, monkeypatch):
    """One that stands still takes them, too; of several that are named, one is enough."""
    monkeypatch.setattr(brokers, "BROKER_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (silent, refusing)]
        with pytest.raises(OSError, match=r"no answer within 0\.2 s"):
            asyncio.run(ask_broker(f"127.0.0.1:{ports[0]}"))
        with pytest.raises(OSError, match="Connect call failed"):
            asyncio.run(ask_broker(f"127.0.0.1:{ports[1]}"))
        monkeypatch.setattr(brokers, "BROKER_TIMEOUT_S", 10.0)
        asyncio.run(ask_broker(f"127.0.0.1:{ports[1]},{kafka.bootstrap_servers}"))


def test_a_broker_that_is_away_is_named(assert_problem):
    """As the part that changes of budgets need."""
    feed = FakeFeed()
    app = create_app(Settings(), feed=feed, budgets=FakeBudgets(feed), history=FakeHistory())

    async def away():
        raise OSError("connection refused")

    with TestClient(app, "http://localhost") as client:
        app.state.services.ask_broker = away
        problem = assert_problem(client.get("/readyz"), 503, "not-ready")
        detail = "the broker does not answer: connection refused"
        assert problem["checks"]["budgets"] == {"ok": False, "detail": detail}
        assert problem["detail"] == f"budgets: {detail}"


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (lambda topic: setattr(topic, "away", True), "the broker takes none: "),
        (lambda topic: setattr(topic, "held", asyncio.Event()), "1 records wait for the broker"),
    ],
)
def test_usage_that_waits_in_vain_is_named(monkeypatch, breaks, said):
    """Whether the broker refuses or is silent; and no more when it takes them."""
    monkeypatch.setattr(health, "USAGE_WAIT_S", 0.02)

    async def run():
        topic = FakeTopic()
        breaks(topic)
        app = make_app(topic)
        async with serving(app, timeout_s=5) as client:
            usage = app.state.usage
            usage.ingest = UsageIngest(lambda: FakeSender(topic))
            waiting = asyncio.create_task(post(client, record()))
            await eventually(lambda: usage.ingest.held.problem or usage.ingest.held.waits_s > 0.02)
            part = (await client.get("/readyz")).json()["checks"]["usage"]
            assert not part["ok"]
            assert part["detail"].startswith(said)
            topic.away = False
            if topic.held is not None:
                topic.held.set()
            assert (await waiting).status_code == 202
            part = (await client.get("/readyz")).json()["checks"]["usage"]
            assert part == {"ok": True, "detail": "0 records in flight"}
            await usage.ingest.aclose()

    asyncio.run(run())
