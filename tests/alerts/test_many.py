"""Ten thousand alerts at once to ten real endpoints, one of them dead."""

import asyncio
import json
from contextlib import AsyncExitStack

from outlay.alert_config import AlertConfig
from streams.alerting.cooldown import HELD_MAX
from streams.alerting.targets import Allowed
from streams.alerting.webhook import WebhookSender
from tests.alerts.alert_world import World, alert
from tests.alerts.receiver import Receiver

ENDPOINTS = 10
SCOPES = 50  # of each endpoint
ALERTS = HELD_MAX * SCOPES * ENDPOINTS  # the first of a scope goes at once, the others merged
TIMEOUT_S = 2.0


async def local(host, port):
    return ["127.0.0.1"]


def test_one_dead_endpoint_holds_up_no_other():
    """The nine get all of theirs, each once, while the tenth, which hangs, is still retried."""
    assert ALERTS == 10_000

    async def main():
        world = World()
        world.log.idle_s = 0.01
        world.webhooks = WebhookSender(local, Allowed.parse(["127.0.0.0/8"]), TIMEOUT_S)
        async with AsyncExitStack() as stack:
            receivers = []
            for number in range(ENDPOINTS):
                answers = {"/hook": ["hang"]} if number == 0 else {}
                receivers.append(await stack.enter_async_context(Receiver(answers)))
                config = AlertConfig(webhook_url=receivers[-1].url(), cooldown_minutes=1)
                world.configs.put(f"organization:org{number}", config)
            alerts = [
                alert(f"organization:org{endpoint}/agent:a{scope}")
                for endpoint in range(ENDPOINTS)
                for _ in range(HELD_MAX)
                for scope in range(SCOPES)
            ]
            world.broker.publish(*alerts)
            alive = receivers[1:]

            def arrived(messages_each):
                return all(len(r.received) == messages_each for r in alive)

            def all_arrived():
                if arrived(SCOPES) and world.broker.committed[0] == ALERTS:
                    world.clock.advance(60_000)  # the cooldowns are over
                return arrived(2 * SCOPES) and receivers[0].times["/hook"] > 0

            try:
                await world.run(all_arrived, jump=False)
            finally:
                await world.webhooks.close()
        got = [
            alert_id
            for receiver in alive
            for each in receiver.received
            for alert_id in ids_of(json.loads(each.body))
        ]
        dead = {each.alert_id for each in alerts if each.organization_id == "org0"}
        assert sorted(got) == sorted({each.alert_id for each in alerts} - dead)
        pending = {each.alert_id for one in world.broker.pending() for each in one.alerts}
        assert pending >= dead
        assert world.broker.dead == []

    asyncio.run(main())


def ids_of(body):
    assert body["merged_omitted"] == 0
    return [body["alert_id"], *(each["alert_id"] for each in body["merged"])]
