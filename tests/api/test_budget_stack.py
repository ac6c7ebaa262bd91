"""Budgets on real parts: several API processes over one broker and one worker."""

import asyncio
import json
import time
import urllib.request
from contextlib import ExitStack

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from outlay.decision import decode_request
from outlay.stack import Stack
from schemas.settings import Settings
from tests.api.budget_world import BUDGETS
from tests.api.fakes import FakeHistory
from tests.conftest import Topics

KILL_TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def stack(kafka):
    """A broker, a worker, and an API in a process of its own."""
    settings = {"OUTLAY_TOPIC_PREFIX": "budgets", "OUTLAY_APP_ID": "budgets"}
    with Stack(broker=kafka, owns_broker=False, settings=settings) as stack:
        stack.wait_ready()
        yield stack


@pytest.fixture(scope="module")
def apis(stack):
    """Two more API apps, each with a feed of its own."""
    settings = Settings(
        kafka_bootstrap_servers=stack.bootstrap_servers, topic_prefix=stack.topics.prefix
    )
    with ExitStack() as all_of_them:
        clients = [
            all_of_them.enter_context(
                TestClient(create_app(settings, history=FakeHistory()), "http://localhost")
            )
            for _ in range(2)
        ]
        deadline = time.monotonic() + 30
        while any(client.get(f"{BUDGETS}/organization:x").status_code == 503 for client in clients):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield clients


def test_a_read_sees_a_write_of_another_process(apis):
    """With the version of the answer; at once, though it was not told by the writer."""
    writer, reader = apis
    url = f"{BUDGETS}/organization:acme/team:reads"
    for number in range(1, 6):
        written = writer.put(url, json={"daily_token_limit": number})
        assert written.status_code == (201 if number == 1 else 200)
        version = written.json()["version"]
        read = reader.get(url, params={"min_version": version})
        assert (read.status_code, read.headers["etag"]) == (200, written.headers["etag"])
        assert read.json()["budget"]["daily_token_limit"] == number
        writer, reader = reader, writer
    assert writer.delete(url, headers={"If-Match": '"5"'}).status_code == 204
    assert writer.get(url).status_code == 404


def test_of_writers_who_expect_the_same_version_one_wins(apis, assert_problem):
    """On several processes, at the same time: the owner lets the first one pass."""
    url = f"{BUDGETS}/organization:acme/team:races"
    apis[0].put(url, json={"daily_token_limit": 1})

    async def race():
        return await asyncio.gather(
            *(
                asyncio.to_thread(
                    apis[number % 2].put,
                    url,
                    json={"daily_token_limit": 100 + number},
                    headers={"If-Match": '"1"'},
                )
                for number in range(6)
            )
        )

    answers = asyncio.run(race())
    won = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    assert len(won) == 1
    for number, answer in enumerate(answers):
        if number not in won:
            assert assert_problem(answer, 412, "version-mismatch")["version"] == 2
    left = apis[0].get(url, params={"min_version": 2}).json()
    assert (left["version"], left["budget"]["daily_token_limit"]) == (2, 100 + won[0])


def test_an_api_that_is_killed_before_its_answer(stack, apis):
    """The broker has the request, its outcome is not out: asked again, the version rises once."""
    url = f"{BUDGETS}/organization:acme/team:killed"
    worker = stack.workers[0]
    worker.pause()
    try:
        answer = asyncio.run(_kill_after_acknowledgement(stack, url))
    finally:
        worker.resume()
    assert isinstance(answer, OSError)  # nobody answered
    headers = {"Idempotency-Key": "k1"}
    for client in (*apis, apis[0]):
        response = client.put(url, json={"monthly_budget_usd": "1.00"}, headers=headers)
        assert (response.status_code, response.json()["version"]) == (201, 1)
    assert apis[0].patch(url, json={"on_stale": "block"}).json()["version"] == 2
    assert len({request.request_id for request in asyncio.run(_requests(stack, "killed"))}) == 2


async def _kill_after_acknowledgement(stack, url):
    request = urllib.request.Request(
        f"{stack.api_url}{url}",
        json.dumps({"monthly_budget_usd": 1}).encode(),
        {"Idempotency-Key": "k1", "Content-Type": "application/json"},
        method="PUT",
    )

    def ask():
        try:
            return urllib.request.urlopen(request, timeout=KILL_TIMEOUT_S)
        except OSError as error:
            return error

    asking = asyncio.create_task(asyncio.to_thread(ask))
    async with asyncio.timeout(KILL_TIMEOUT_S):
        while not await _requests(stack, "killed"):
            assert not asking.done(), asking.result()
    stack.api.kill()
    return await asking


async def _requests(stack, team):
    """The requests for a team's budget that the topic holds now."""
    records = await Topics(stack.broker, stack.topics).aread(stack.topics.budgets)
    requests = [decode_request(record.value) for record in records]
    return [request for request in requests if request.scope.endswith(f"team:{team}")]
