"""The process on the real broker: what it delivers, what a kill and a stop leave, exit codes."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from standardwebhooks import Webhook

from outlay.alert_config import AlertConfig, AlertConfigRecord, encode_config_record
from outlay.scope import Scope
from schemas.settings import Settings
from streams.alerting.dead import dead_letters, redeliver
from streams.alerting.dead_letter import at
from streams.alerting.trying import alert_message, build_test_alert
from tests.alerts.alert_world import SECRETS, START_MS, alert
from tests.alerts.receiver import Receiver

ROOT = Path(__file__).parents[2]
WAIT_S = 60


class Process:
    """`python -m streams.alerts`, as a child."""

    def __init__(self, settings, log):
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("OUTLAY_")},
            "OUTLAY_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "OUTLAY_TOPIC_PREFIX": settings.topic_prefix,
            "OUTLAY_APP_ID": settings.app_id,
            "OUTLAY_SESSION_TIMEOUT_S": "4",
            "OUTLAY_ALERT_PRIVATE_TARGETS": "127.0.0.0/8",
            "OUTLAY_ALERT_SMTP_PASSWORD": "hunter2",
        }
        self.log = log
        with log.open("ab") as output:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "streams.alerts"],
                cwd=ROOT, env=environment, stdout=output, stderr=output,
            )  # fmt: skip

    def end(self, number):
        self.child.send_signal(number)
        return self.child.wait(WAIT_S)


@pytest.fixture
def settings(alert_topics):
    return Settings(
        kafka_bootstrap_servers=alert_topics.bootstrap_servers,
        topic_prefix=alert_topics.names.prefix,
        app_id=alert_topics.names.prefix,
    )


async def until(what, ready):
    async with asyncio.timeout(WAIT_S):
        while not ready():  # noqa: ASYNC110 # a plain list
            await asyncio.sleep(0.02)


async def publish(settings, *messages):
    """(topic, key, value, partition)s, in order."""
    async with AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, acks="all"
    ) as producer:
        for topic, key, value, partition in messages:
            await producer.send_and_wait(topic, value, key, partition)


def alerts_of(settings, *alerts):
    return [
        (settings.topics.alerts, key, value, partition)
        for key, value, partition in (alert_message(each, 2) for each in alerts)
    ]


def config_of(settings, scope, version, config):
    record = encode_config_record(AlertConfigRecord(scope, version, config))
    return settings.topics.alert_configs, scope.encode(), record, 0


def test_from_the_topic_to_the_receiver_over_a_kill_and_a_stop(settings, tmp_path):
    """Signed, each once but for the kill; a dead letter is sent again; logs show no secret."""
    log = tmp_path / "log"
    first = [alert(f"organization:acme/agent:{n}") for n in range(20)]
    second = [alert(f"organization:acme/agent:{n}") for n in range(20, 30)]
    broken = alert("organization:broken")
    tried = build_test_alert(Scope("acme"), request_id="r1", now=at(START_MS))

    async def main():
        answers = {"/broken-path": [404, 200]}
        async with Receiver(answers) as receiver:
            url = receiver.url("/a-secret-path")
            await publish(
                settings,
                config_of(
                    settings, "organization:acme", 1,
                    AlertConfig(webhook_url=url, webhook_secrets=SECRETS),
                ),
                config_of(
                    settings, "organization:broken", 2,
                    AlertConfig(webhook_url=receiver.url("/broken-path")),
                ),
                *alerts_of(settings, *first),
            )  # fmt: skip
            process = Process(settings, log)
            try:
                await until("something arrives", lambda: receiver.received)
                process.end(signal.SIGKILL)
                before = len(receiver.received)
                process = Process(settings, log)
                messages = alerts_of(settings, *first, *second, broken, tried)
                await publish(settings, *messages)
                wanted = {each.alert_id for each in (*first, *second, broken, tried)}
                await until("all arrive", lambda: wanted <= ids(receiver))
                async with asyncio.timeout(WAIT_S):
                    while not await dead_letters(settings):  # noqa: ASYNC110 # a topic
                        await asyncio.sleep(0.1)
                assert (await redeliver(settings, [broken.alert_id])).sent == (broken.alert_id,)
                await until("again", lambda: receiver.times["/broken-path"] == 2)
                assert await asyncio.to_thread(process.end, signal.SIGTERM) == 0
            finally:
                process.child.kill()
            return receiver, before

    def ids(receiver):
        return {each.headers["webhook-id"] for each in receiver.received}

    receiver, before = asyncio.run(main())
    counts = Counter(each.headers["webhook-id"] for each in receiver.received)
    assert all(counts[each.alert_id] == 1 for each in (*second, tried))
    assert sum(counts[each.alert_id] - 1 for each in first) <= before  # those that a kill repeats
    assert counts[broken.alert_id] == 2
    signed = [each for each in receiver.received if each.path == "/a-secret-path"]
    # Signed with the time of the attempt: the clock of the process is the machine's.
    assert Webhook(SECRETS[1]).verify(signed[-1].body, signed[-1].headers)["scope"]
    bodies = {}
    for each in receiver.received:
        bodies.setdefault(each.headers["webhook-id"], set()).add(each.body)
    assert all(len(each) == 1 for each in bodies.values())
    text = log.read_text()
    assert "alerts ready" in text
    assert "alerts stopped" in text
    for secret in ("a-secret-path", "broken-path", "whsec", "hunter2"):
        assert secret not in text


@pytest.mark.parametrize(
    "name", ["OUTLAY_ALERT_PRIVATE_TARGETS", "OUTLAY_ALERT_SMTP_FROM", "OUTLAY_ALERT_ATTEMPTS_MAX"]
)
def test_bad_settings_are_told_with_exit_code_2(name, monkeypatch, capsys):
    """Before anything is connected to."""
    from streams import alerts

    monkeypatch.setenv(name, "a b/c")
    assert alerts.main() == 2
    assert name.removeprefix("OUTLAY_").lower() in capsys.readouterr().err
