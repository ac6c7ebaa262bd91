"""What `POST /usage` says while the broker is slow or away, and what it has sent by then."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from api.ingest import IngestBusy, UsageIngest
from outlay.emitter import PACK_BYTES_MAX, PACK_RECORDS_MAX
from outlay.framing import decode_message
from tests.api.live_api import key_of
from tests.api.usage_parts import (
    BUSY,
    UNAVAILABLE,
    UNCONFIRMED,
    UNKNOWN,
    agents_of,
    arrived,
    eventually,
    kind,
    make_app,
    post,
    record,
    serving,
)
from tests.library.library_fakes import FakeSender, FakeTopic

KEY = {"Idempotency_Key": "k-1"}


def test_it_starts_without_a_broker_and_recovers():
    """A request is told so within its deadline, and nothing of it is sent when the broker comes."""

    async def run():
        topic = FakeTopic()
        topic.away = True
        async with serving(make_app(topic)) as client:
            started = time.monotonic()
            away = await post(client, record(agent_id="lost"), **KEY)
            took_s = time.monotonic() - started
            topic.away = False
            client._transport.app.state.usage.delivery_timeout_s = 5
            back = await post(client, record(agent_id="found"))
            again = await post(client, record(agent_id="lost"), **KEY)
        return topic, kind(away), took_s, back.status_code, again

    topic, away, took_s, back, again = asyncio.run(run())
    assert (away, back, again.status_code) == (UNAVAILABLE, 202, 202)
    assert took_s < 2
    assert [each.agent_id for each in arrived(topic)] == ["found", "lost"]
    assert "idempotent-replayed" not in again.headers
    assert topic.senders == 0


def test_nothing_connects_before_the_first_request():
    """An API that nobody reports to holds no connection."""

    async def run():
        topic = FakeTopic()
        async with serving(make_app(topic)) as client:
            await client.get("/healthz")
            before = topic.senders
            await post(client, record())
            return before, topic.senders

    assert asyncio.run(run()) == (0, 1)


def test_what_waits_behind_a_silent_broker_is_taken_back():
    """One message a partition is with the producer; what stands behind it was never sent."""

    async def run():
        topic = FakeTopic(2)
        topic.held = asyncio.Event()
        first, other = agents_of(0), agents_of(1)
        async with serving(make_app(topic)) as client:
            unconfirmed = await post(client, record(agent_id=first))
            behind = await post(client, [record(agent_id=first)] * 3)
            beside = await post(client, [record(agent_id=first), record(agent_id=other)])
            topic.held.set()
            await eventually(lambda: client._transport.app.state.usage.ingest.in_flight == 0)
        return topic, unconfirmed, behind, beside

    topic, unconfirmed, behind, beside = asyncio.run(run())
    assert kind(unconfirmed) == UNCONFIRMED
    assert unconfirmed.json()["unconfirmed"] == [0]
    assert kind(behind) == UNAVAILABLE
    assert kind(beside) == UNCONFIRMED
    assert beside.json()["unconfirmed"] == [0, 1]
    # Of the last one a part had left, so that the other follows: all of it or none.
    assert len(arrived(topic)) == 3


def test_only_what_is_not_acknowledged_is_unconfirmed():
    """The indexes of the partition that failed, and no others."""

    class HalfSender(FakeSender):
        async def _deliver(self, partition, key, value):
            if partition == 1:
                raise ConnectionError("lost")
            return await super()._deliver(partition, key, value)

    async def run():
        topic = FakeTopic(2)
        body = [record(agent_id=agents_of(n)) for n in (0, 1, 0, 1)]
        app = make_app(topic)
        async with serving(app, timeout_s=5) as client:
            app.state.usage.ingest._sender_factory = lambda: HalfSender(topic)
            return topic, await post(client, body)

    topic, answer = asyncio.run(run())
    assert kind(answer) == UNKNOWN
    assert answer.json()["unconfirmed"] == [1, 3]
    assert len(arrived(topic)) == 2


def test_what_did_not_leave_is_sent_on_another_connection():
    """While somebody waits; when nobody does any more it is taken back."""

    async def run():
        topic = FakeTopic()
        topic.hand_over_error = ConnectionError("not now")
        app = make_app(topic)
        async with serving(app) as client:
            given_up = await post(client, record(agent_id="lost"))
            app.state.usage.delivery_timeout_s = 5
            waiting = asyncio.create_task(post(client, record(agent_id="found")))
            await asyncio.sleep(0.05)
            topic.hand_over_error = None
            return topic, given_up, await waiting

    topic, given_up, found = asyncio.run(run())
    assert (kind(given_up), found.status_code) == (UNAVAILABLE, 202)
    assert [each.agent_id for each in arrived(topic)] == ["found"]


def test_what_comes_meanwhile_travels_together():
    """In the order in which it came, in as few messages as hold it."""

    async def run():
        topic = FakeTopic()
        topic.held = asyncio.Event()
        async with serving(make_app(topic), timeout_s=5) as client:
            tasks = []
            for n in range(40):
                tasks.append(asyncio.create_task(post(client, record(input_tokens=n))))
                await asyncio.sleep(0.002)
            topic.held.set()
            answers = [await task for task in tasks]
        return topic, answers

    topic, answers = asyncio.run(run())
    assert {each.status_code for each in answers} == {202}
    assert [each.input_tokens for each in arrived(topic)] == list(range(40))
    assert len(topic.messages()) == 2


def test_a_message_stays_within_the_bounds_of_one():
    """A large request for one partition leaves in several, one after the other."""

    async def run():
        topic = FakeTopic()
        wide = [record(metadata={"x": "y" * 15_000}) for _ in range(100)]
        async with serving(make_app(topic), timeout_s=5) as client:
            answers = [await post(client, body) for body in ([record()] * 999, wide)]
        return topic, answers

    topic, answers = asyncio.run(run())
    assert [each.json()["accepted"] for each in answers] == [999, 100]
    sizes = [(len(decode_message(value)), len(value)) for _, _, value in topic.messages()]
    assert sum(count for count, _ in sizes) == 1_099
    assert all(count <= PACK_RECORDS_MAX for count, _ in sizes)
    assert all(size <= PACK_BYTES_MAX + 2 for _, size in sizes)


@pytest.mark.parametrize("bounds", [{"records_max": 5}, {"bytes_max": 800}])
def test_what_is_in_flight_has_a_bound(bounds):
    """Beyond, a request is told to come again; the room is free when the broker has answered."""

    async def run():
        topic = FakeTopic()
        topic.held = asyncio.Event()
        app = make_app(topic)
        async with serving(app) as client:
            usage = app.state.usage
            usage.ingest = UsageIngest(lambda: FakeSender(topic), **bounds)
            answers = [await post(client, [record()] * 3), await post(client, [record()] * 3)]
            topic.held.set()
            await eventually(lambda: usage.ingest.in_flight == 0)
            answers.append(await post(client, [record()] * 3))
            await usage.ingest.aclose()
        return topic, [kind(each) for each in answers]

    topic, kinds = asyncio.run(run())
    assert kinds == [UNCONFIRMED, BUSY, (202, "")]
    assert len(arrived(topic)) == 6


def test_one_organization_leaves_room_for_the_others():
    """While the broker is away, whoever sends the most is refused, and others are not."""

    async def run():
        topic = FakeTopic()
        topic.held = asyncio.Event()
        app = make_app(topic)
        async with serving(app, timeout_s=5) as client:
            ingest = app.state.usage.ingest = UsageIngest(lambda: FakeSender(topic), records_max=12)
            tasks = []

            async def send(organization_id, count):
                app.state.authenticate = lambda _: key_of(organization_id, "emitter")
                body = [record(organization_id=organization_id)] * count
                tasks.append(asyncio.create_task(post(client, body)))
                before = ingest.held.requests
                await eventually(lambda: tasks[-1].done() or ingest.held.requests > before)
                return None if not tasks[-1].done() else kind(tasks[-1].result())

            greedy = [await send("greedy", 2) for _ in range(5)]
            assert greedy == [None, None, None, BUSY, BUSY]
            assert [await send("small", 2), await send("other", 1)] == [None, None]
            assert (ingest.in_flight, ingest.held.requests) == (9, 5)
            topic.held.set()
            await eventually(lambda: ingest.in_flight == ingest.held.size_bytes == 0)
            assert await send("greedy", 5) in (None, (202, ""))
            await asyncio.wait(tasks)
            await ingest.aclose()
            return [task.result().status_code for task in tasks]

    assert asyncio.run(run()) == [202] * 3 + [503] * 2 + [202] * 3


def test_closing_takes_back_what_has_not_left():
    """It waits for the rest within its bound, and tells each waiting request what is known."""

    async def run():
        topic = FakeTopic()
        topic.held = asyncio.Event()
        app = make_app(topic)
        async with serving(app, timeout_s=5) as client:
            ingest = app.state.usage.ingest
            ingest._close_timeout_s = 0.05
            tasks = [asyncio.create_task(post(client, record()))]
            await eventually(lambda: ingest.in_flight == 1 and ingest._sends)
            tasks.append(asyncio.create_task(post(client, record())))
            await eventually(lambda: ingest.in_flight == 2)
            await ingest.aclose()
            answers = [await task for task in tasks]
            answers.append(await post(client, record()))
        return topic, [kind(each) for each in answers]

    topic, kinds = asyncio.run(run())
    assert kinds == [UNKNOWN, UNAVAILABLE, BUSY]
    assert topic.messages() == []
    assert topic.senders == 0


def test_closing_waits_for_what_is_under_way():
    """What the broker takes in time is acknowledged."""

    async def run():
        topic = FakeTopic()
        topic.held = asyncio.Event()
        app = make_app(topic)
        async with serving(app, timeout_s=5) as client:
            task = asyncio.create_task(post(client, record()))
            await eventually(lambda: app.state.usage.ingest._sends)
            asyncio.get_running_loop().call_later(0.05, topic.held.set)
            await app.state.usage.ingest.aclose()
            return (await task).status_code, len(arrived(topic))

    assert asyncio.run(run()) == (202, 1)


def test_a_cancelled_request_leaves_nothing_behind():
    """What has not left is taken back; another that waits for the same keeps it."""

    async def run():
        topic = FakeTopic()
        topic.away = True
        ingest = UsageIngest(lambda: FakeSender(topic))
        records = [SimpleNamespace(json=b"{}", record=None)]
        tickets = [ingest.submit(records), ingest.submit(records)]
        waits = [asyncio.create_task(ingest.settled(each, 5)) for each in (*tickets, tickets[1])]
        await asyncio.sleep(0.01)
        waits[0].cancel()
        waits[1].cancel()
        await asyncio.wait(waits[:2])
        states = [ticket.state for ticket in tickets]
        in_flight = ingest.in_flight
        await ingest.aclose()
        with pytest.raises(IngestBusy):
            ingest.submit(records)
        return states, in_flight, await waits[2]

    assert asyncio.run(run()) == (["withdrawn", "pending"], 1, "withdrawn")
