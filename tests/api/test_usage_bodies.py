"""Bodies of `POST /usage`: packed ones, and their bounds."""

import asyncio
import gzip
import json
import tracemalloc
import zlib

import pytest
from fastapi.testclient import TestClient

from api import encoded_bodies
from api.encoded_bodies import (
    BODY_BYTES_MAX,
    MEMBERS_MAX,
    PACKED_BYTES_MAX,
    BodyRoom,
    zstd,
)
from tests.api.usage_parts import NDJSON, URL, arrived, make_app, post, record, serving
from tests.library.library_fakes import FakeTopic

PACK = {"gzip": gzip.compress, "zstd": zstd.compress}


@pytest.fixture
def topic():
    """A topic in memory."""
    return FakeTopic()


@pytest.fixture
def client(topic):
    """A client of the app in front of it."""
    with TestClient(make_app(topic), "http://localhost", raise_server_exceptions=False) as client:
        yield client


def _lines(count, padding=0):
    line = json.dumps(record(metadata={"x": "y" * padding})).encode()
    return b"\n".join([line] * count)


@pytest.mark.parametrize("encoding", PACK)
def test_packed_bodies_are_read(client, topic, encoding):
    """Also those that unfold to many pieces, and of several parts."""
    body = _lines(400, 1_000)
    packed = PACK[encoding](body[:200_001]) + PACK[encoding](body[200_001:])
    answer = post(client, packed, NDJSON, Content_Encoding=encoding)
    assert answer.json()["accepted"] == len(arrived(topic)) == 400


def test_identity_is_no_encoding(client, topic):
    """It may be said."""
    assert post(client, record(), Content_Encoding="Identity").status_code == 202
    assert len(arrived(topic)) == 1


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "gzip, zstd"])
def test_other_encodings_are_refused(client, assert_problem, encoding):
    """The answer says which are read."""
    answer = post(client, record(), Content_Encoding=encoding)
    assert_problem(answer, 415, "unsupported-media-type")
    assert answer.headers["accept-encoding"] == "gzip, zstd, identity"


@pytest.mark.parametrize("encoding", PACK)
def test_what_is_not_what_it_says_is_refused(client, topic, assert_problem, encoding):
    """Plain text, a cut one, one with rubbish behind it, nothing, and a changed one."""
    packed = PACK[encoding](json.dumps(record()).encode())
    changed = packed[:12] + bytes([packed[12] ^ 0xFF]) + packed[13:]
    for body in (b"{}", packed[:-1], packed + b"rubbish", b"", changed):
        answer = post(client, body, Content_Encoding=encoding)
        assert_problem(answer, 422, "invalid-request")
    assert topic.messages() == []


@pytest.mark.parametrize("encoding", PACK)
def test_a_bomb_is_stopped_as_it_unfolds(client, assert_problem, encoding):
    """What is sent is small, and what is made of it stays near the bound."""
    if encoding == "gzip":
        packer = zlib.compressobj(9, wbits=31)
        parts = [packer.compress(b" " * 2**20) for _ in range(256)]
        bomb = b"".join([*parts, packer.flush()])
    else:
        bomb = zstd.compress(b" " * 2**28)
    assert len(bomb) < PACKED_BYTES_MAX
    tracemalloc.start()
    try:
        answer = post(client, bomb, Content_Encoding=encoding)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_problem(answer, 413, "body-too-large")
    assert peak < 5 * BODY_BYTES_MAX


@pytest.mark.parametrize("encoding", PACK)
def test_a_body_of_too_many_parts_is_refused(client, assert_problem, encoding):
    """Each part costs its making, even one of nothing."""
    empty, last = PACK[encoding](b""), PACK[encoding](json.dumps(record()).encode())
    taken = post(client, empty * (MEMBERS_MAX - 1) + last, Content_Encoding=encoding)
    assert taken.status_code == 202
    answer = post(client, empty * MEMBERS_MAX + last, Content_Encoding=encoding)
    assert_problem(answer, 422, "invalid-request")


def test_a_large_zstd_window_is_refused(client, assert_problem):
    """It would take its memory whatever the body holds."""
    options = {zstd.CompressionParameter.window_log: 27}
    packer = zstd.ZstdCompressor(options=options)
    body = packer.compress(_lines(2)) + packer.flush()
    answer = post(client, body, NDJSON, Content_Encoding="zstd")
    assert_problem(answer, 422, "invalid-request")


def test_a_body_has_a_bound(client, topic, assert_problem):
    """The bound itself is within it; packed, there is another for what comes."""
    body = json.dumps(record()).encode()
    assert post(client, body.ljust(BODY_BYTES_MAX)).status_code == 202
    assert_problem(post(client, body.ljust(BODY_BYTES_MAX + 1)), 413, "body-too-large")
    stored = gzip.compress(body.ljust(PACKED_BYTES_MAX), compresslevel=0)
    answer = post(client, stored, Content_Encoding="gzip")
    assert_problem(answer, 413, "body-too-large")
    assert len(arrived(topic)) == 1


def test_a_body_that_says_it_is_too_large_is_not_read(topic, assert_problem):
    """It is answered before it comes."""

    async def run():
        async with serving(make_app(topic)) as client:
            read = []

            async def body():
                read.append(1)
                yield b"x"

            headers = {
                "Content-Type": "application/json",
                "Content-Length": str(BODY_BYTES_MAX + 1),
            }
            return await client.post(URL, content=body(), headers=headers), read

    answer, read = asyncio.run(run())
    assert_problem(answer, 413, "body-too-large")
    assert read == []


def test_a_body_of_unknown_length_has_a_bound(topic, assert_problem):
    """It is read no further than that."""

    async def run():
        async with serving(make_app(topic)) as client:
            sent = []

            async def body():
                for _ in range(100):
                    sent.append(1)
                    yield b" " * 2**20

            form = {"Content-Type": "application/json"}
            return await client.post(URL, content=body(), headers=form), sent

    answer, sent = asyncio.run(run())
    assert_problem(answer, 413, "body-too-large")
    assert len(sent) == BODY_BYTES_MAX // 2**20 + 1


def test_a_slow_body_is_given_up(topic, monkeypatch, assert_problem):
    """And what it held is given back."""
    monkeypatch.setattr(encoded_bodies.whole_body.__wrapped__, "__defaults__", (0.05,))

    async def run():
        app = make_app(topic)
        async with serving(app) as client:

            async def body():
                yield b"{"
                await asyncio.sleep(5)

            form = {"Content-Type": "application/json"}
            answer = await client.post(URL, content=body(), headers=form)
            return answer, app.state.usage.room.held_bytes

    answer, held_bytes = asyncio.run(run())
    assert_problem(answer, 408, "request-timeout")
    assert held_bytes == 0


def test_bodies_together_have_a_bound(client, topic, assert_problem):
    """Beyond, a request is told to come again; what one held is free when it is answered."""
    room = BodyRoom(1_000)
    client.app.state.usage.room = room
    for body, status in ((record(), 202), ("x" * 900, 422), ([record()] * 3, 202)):
        assert post(client, body).status_code == status
        assert room.held_bytes == 0
    answer = post(client, [record()] * 100)
    assert_problem(answer, 503, "usage-busy")
    packed = gzip.compress(json.dumps([record()] * 100).encode())
    assert_problem(post(client, packed, Content_Encoding="gzip"), 503, "usage-busy")
    assert room.held_bytes == 0


def test_a_client_that_goes_away_is_no_bug(topic):
    """Its body breaks off; nothing of it is sent."""

    async def run():
        app = make_app(topic)
        answers = []

        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            answers.append(message)

        scope = {
            "type": "http", "method": "POST", "path": URL, "raw_path": URL.encode(),
            "query_string": b"", "http_version": "1.1", "scheme": "http",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        }  # fmt: skip
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)
        return answers[0]["status"]

    assert asyncio.run(run()) == 408
    assert topic.messages() == []
