"""Requests to `POST /usage` that come again, by their `Idempotency-Key`."""

import asyncio
import gc
import tracemalloc

from api.repeats import ENTRY_BYTES, Repeats
from api.tickets import Part, Ticket
from api.usage_records import Judged
from tests.api.usage_parts import (
    REUSED,
    UNCONFIRMED,
    UNKNOWN,
    agents_of,
    arrived,
    kind,
    make_app,
    post,
    record,
    serving,
)
from tests.library.library_fakes import FakeTopic

KEY = {"Idempotency_Key": "k-1"}


def test_a_repetition_waits_for_the_first_ones_outcome():
    """Nothing is sent twice while the outcome is open; then each is told it."""

    async def run():
        topic = FakeTopic()
        topic.held = asyncio.Event()
        body = [record(), record()]
        app = make_app(topic)
        async with serving(app) as client:
            first = await post(client, body, **KEY)
            second = await post(client, body, **KEY)
            app.state.usage.delivery_timeout_s = 5
            both = [asyncio.create_task(post(client, body, **KEY)) for _ in range(2)]
            await asyncio.sleep(0.02)
            topic.held.set()
            answers = [first, second, *[await each for each in both]]
            other = await post(client, [record()], **KEY)
            late = await post(client, body, **KEY)
        return topic, answers, late, other

    topic, answers, late, other = asyncio.run(run())
    assert [kind(each) for each in answers[:2]] == [UNCONFIRMED] * 2
    assert [each.status_code for each in (*answers[2:], late)] == [202] * 3
    assert len(arrived(topic)) == 2
    ids = [each.id for each in arrived(topic)]
    assert [each["id"] for each in late.json()["records"]] == ids
    assert late.headers["idempotent-replayed"] == "true"
    assert kind(other) == REUSED


def test_a_key_is_a_callers_own():
    """Another caller's request by the same key is another one, with other ids."""

    async def run():
        topic = FakeTopic()
        app = make_app(topic)
        async with serving(app, timeout_s=5) as client:
            answers = [await post(client, record(), **KEY)]
            mine = app.state.authenticate(None)
            other = type(mine)("other", "acme", mine.roles, "k9")
            app.state.authenticate = lambda _: other
            answers.append(await post(client, record(), **KEY))
            answers.append(await post(client, record(), Idempotency_Key="k-2"))
        return topic, answers

    topic, answers = asyncio.run(run())
    assert [each.status_code for each in answers] == [202] * 3
    assert len({each.id for each in arrived(topic)}) == 3


def test_a_repetition_at_another_process_has_the_same_ids():
    """It counts again, which is said; the history, whose rows are records, has it once."""

    async def run():
        topic = FakeTopic()
        ids = []
        for _ in range(2):
            async with serving(make_app(topic), timeout_s=5) as client:
                ids.append((await post(client, [record(), record()], **KEY)).json()["records"])
        return topic, ids

    topic, ids = asyncio.run(run())
    assert ids[0] == ids[1]
    assert ids[0][0]["id"] != ids[0][1]["id"]
    assert len(arrived(topic)) == 4


def test_a_lost_acknowledgement_is_said_and_not_sent_again():
    """Whether it arrived nobody knows; the same key is told so again, another one is sent."""

    async def run():
        topic = FakeTopic(2)
        topic.delivery_error = ConnectionError("lost")
        body = [record(agent_id=agents_of(0)), record(agent_id=agents_of(1))]
        async with serving(make_app(topic), timeout_s=5) as client:
            first = await post(client, body, **KEY)
            topic.delivery_error = None
            again = await post(client, body, **KEY)
            sent = len(arrived(topic))
            other = await post(client, body, Idempotency_Key="k-2")
        return topic, first, again, sent, other

    topic, first, again, sent, other = asyncio.run(run())
    assert kind(first) == kind(again) == UNKNOWN
    assert first.json()["unconfirmed"] == again.json()["unconfirmed"] == [0, 1]
    assert "retry-after" not in first.headers
    assert (sent, other.status_code) == (0, 202)
    assert topic.senders == 0


def _ticket(state):
    ticket = Ticket([])
    ticket.state = state
    return ticket


def test_keys_are_forgotten_by_time_and_number():
    """The oldest first, and none that is under way."""
    now_s = [0.0]
    repeats = Repeats(keys_max=3, kept_s=10, monotonic=lambda: now_s[0])
    open_ticket = _ticket("pending")
    repeats.keep("me", "open", b"", open_ticket)
    for n in range(4):
        repeats.keep("me", f"k{n}", b"", _ticket("delivered"))
    kept = [key for key in ("open", "k0", "k1", "k2", "k3") if repeats.find("me", key, b"")]
    assert kept == ["open", "k2", "k3"]
    assert repeats.find("you", "k3", b"") is None
    now_s[0] = 10.5
    assert repeats.find("me", "k3", b"") is None
    assert repeats.find("me", "open", b"") is open_ticket
    repeats.keep("me", "new", b"", _ticket("delivered"))
    assert len(repeats._callers["me"].entries) == 2


def test_all_keys_together_have_a_bound_and_the_greediest_pays():
    """One caller with many keys loses its oldest; another keeps its few, however old."""
    repeats = Repeats(bytes_max=10 * ENTRY_BYTES)
    for n in range(3):
        repeats.keep("few", f"k{n}", b"", _ticket("delivered"))
    for n in range(50):
        repeats.keep("many", f"k{n}", b"", _ticket("delivered"))
        assert repeats.held_bytes <= 10 * ENTRY_BYTES
    assert all(repeats.find("few", f"k{n}", b"") for n in range(3))
    kept = [n for n in range(50) if repeats.find("many", f"k{n}", b"")]
    assert kept == list(range(43, 50))


def test_what_is_under_way_outlives_the_bound_of_memory():
    """A repetition of it must wait for its outcome; the room for records bounds how many."""
    repeats = Repeats(bytes_max=3 * ENTRY_BYTES)
    for n in range(5):
        repeats.keep("me", f"open{n}", b"", _ticket("pending"))
    repeats.keep("you", "done", b"", _ticket("delivered"))
    assert all(repeats.find("me", f"open{n}", b"") for n in range(5))
    assert repeats.find("you", "done", b"") is None


def test_what_is_old_goes_before_what_is_not():
    """Also of a caller that has not come back, and has little."""
    now_s = [0.0]
    repeats = Repeats(bytes_max=4 * ENTRY_BYTES, kept_s=10, monotonic=lambda: now_s[0])
    repeats.keep("gone", "old", b"", _ticket("delivered"))
    now_s[0] = 11.0
    for n in range(4):
        repeats.keep("me", f"k{n}", b"", _ticket("delivered"))
    assert all(repeats.find("me", f"k{n}", b"") for n in range(4))
    assert list(repeats._callers) == ["me"]


def test_an_entry_takes_no_more_than_is_counted():
    """As the allocator sees it, with all of a request's records lost; nor much less."""
    gc.collect()
    tracemalloc.start()
    try:
        repeats = Repeats()
        for n in range(200):
            ticket = Ticket([Judged(None, b"{}")] * 1_000)
            part = Part(ticket, 0)
            part.indexes = range(1_000)
            ticket.undelivered = {part}
            ticket.end("unknown")
            repeats.keep("me", f"k{n}", bytes(bytearray(32)), ticket)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert repeats.held_bytes / 2 < taken <= repeats.held_bytes
    assert ticket.unconfirmed == list(range(1_000))
