"""Budgets on real parts: several API processes over one broker and one worker."""

import asyncio
import json
import time
import urllib.request
from contextlib import ExitStack

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from outlay.alert import decode_alert
from outlay.decision import decode_request
from outlay.stack import Stack
from schemas.settings import Settings
from streams import alert_commands
from tests.api.alert_parts import SECRET, SHOWN_URL, URL
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


def test_alerts_that_one_process_sets_another_sees(apis):
    """With the version of the answer; and keeps their secrets, which it has not read by then."""
    writer, reader = apis
    url = f"{BUDGETS}/organization:acme/team:alerts"
    writer.put(url, json={"monthly_budget_usd": 10})
    for minutes in range(1, 5):
        body = {"webhook_secrets": [SECRET], "cooldown_minutes": minutes}
        written = writer.put(f"{url}/alerts", json=body).json()
        read = reader.get(f"{url}/alerts", params={"min_version": written["version"]})
        assert read.json() == written
        kept = reader.put(f"{url}/alerts", json={"webhook_url": URL}).json()
        assert (kept["version"], kept["webhook_secret_count"]) == (written["version"] + 1, 1)
        assert kept["alerts"]["webhook_url"] == SHOWN_URL
        writer, reader = reader, writer
    gone = writer.delete(f"{url}/alerts")
    version = int(gone.headers["etag"].strip('"'))
    read = reader.get(f"{url}/alerts", params={"min_version": version}).json()
    assert (gone.status_code, read["source"], read["version"]) == (204, "default", version)
    names = reader.get("/readyz").json()["checks"]
    assert names["alerts"]["ok"] is True


def test_test_alerts_reach_the_alerts_topic(stack, apis, capsys, monkeypatch):
    """Those of the API and of the command line, marked, in the partition of their scope."""
    key = "organization:acme/team:tried"
    apis[0].put(f"{BUDGETS}/{key}", json={})
    apis[0].put(f"{BUDGETS}/{key}/alerts", json={"webhook_url": URL, "webhook_secrets": [SECRET]})
    told = apis[1].post(f"{BUDGETS}/{key}/alerts/test")
    assert (told.status_code, told.json()["channels"]) == (202, ["webhook"])
    monkeypatch.setenv("OUTLAY_KAFKA_BOOTSTRAP_SERVERS", stack.bootstrap_servers)
    monkeypatch.setenv("OUTLAY_TOPIC_PREFIX", stack.topics.prefix)
    assert alert_commands.main(["test", "--budget", key]) == 0
    said = capsys.readouterr().out
    assert f"its alert configuration is that of {key}: webhook {SHOWN_URL}\n" in said
    records = asyncio.run(Topics(stack.broker, stack.topics).aread(stack.topics.alerts))
    alerts = {alert.alert_id: alert for alert in (decode_alert(r.value) for r in records)}
    ours = [alert for alert in alerts.values() if alert.scope == key]
    assert [alert.test for alert in ours] == [True, True]
    assert told.json()["alert_id"] in alerts
    assert f"sent test alert {ours[0].alert_id}" in said or ours[1].alert_id in said
    assert alert_commands.main(["test", "--budget", "organization:acme/team:nobody"]) == 1
    assert alert_commands.main(["redeliver", "--id", "alt_nothing"]) == 1
    assert alert_commands.main(["redeliver", "--all"]) == 0
    said = capsys.readouterr()
    assert "there is no budget of organization:acme/team:nobody" in said.err
    assert "no dead letter: alt_nothing" in said.err
    assert said.out == "there are no dead letters\n"
