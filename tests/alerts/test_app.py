"""The application on a log, a clock and webhooks in memory: order, cooldown, retries, crashes."""

import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from outlay.alert_config import AlertConfig
from schemas.settings import Settings
from streams.alerting import dispatcher
from streams.alerting.dead_letter import REDELIVERY_HEADER, DeadAlert, Redelivery, at, encode
from streams.alerting.log import Lost
from streams.alerting.retrying import Outcome
from tests.alerts.alert_world import (
    SCOPE,
    START_MS,
    TWO_ATTEMPTS,
    Broker,
    Crash,
    FakeChannel,
    FakeClock,
    World,
    alert,
    step,
)

URL = "https://example.com/hook"
MINUTE_MS = 60_000


def hook(cooldown_minutes=15, url=URL, **fields):
    return AlertConfig(webhook_url=url, cooldown_minutes=cooldown_minutes, **fields)


def world_of(*alerts, config=None, scope="organization:acme"):
    world = World()
    world.configs.put(scope, hook() if config is None else config)
    world.broker.publish(*alerts)
    return world


def told(world):
    """The alerts of each message sent, in order."""
    return [ids for _, ids in world.webhooks.sent]


def test_an_alert_is_delivered_under_its_own_id():
    """Once, and what became of it is told."""
    one = alert()
    world = world_of(one)
    asyncio.run(world.run())
    assert world.webhooks.sent == [(one.alert_id, (one.alert_id,))]
    (delivery,) = world.broker.deliveries
    assert (delivery.status, delivery.attempt, delivery.target) == (
        "delivered",
        1,
        "https://example.com:443",
    )


def test_state_comes_before_the_commit_and_the_commit_before_the_delivery():
    """The order that loses nothing; `done` comes last."""
    world = world_of(alert())
    steps = []
    world.log.at_step = world.webhooks.at_step = steps.append
    asyncio.run(world.run())
    assert [name for name in steps if name.startswith("after")] == [
        "after write",
        "after commit",
        "after send",
        "after tell",
        "after write",
    ]


def test_a_scope_without_a_configuration_has_its_organizations():
    """And one with its own has that as a whole."""
    own, others = alert("organization:acme/agent:own"), alert()
    world = world_of(own, others)
    world.configs.put("organization:acme/agent:own", AlertConfig(email_recipients=("a@b.c",)))
    asyncio.run(world.run())
    assert told(world) == [(others.alert_id,)]
    assert world.mails.sent == [(own.alert_id, (own.alert_id,))]


def test_without_a_configuration_nobody_is_told_and_later_neither():
    """The alert was taken over; a replay under a new configuration does not tell it."""
    one = alert("organization:other")
    world = world_of(one)
    asyncio.run(world.run())
    world.configs.put("organization:other", hook())
    world.broker.publish(one)
    asyncio.run(world.run())
    assert told(world) == []


def test_the_same_alert_again_is_not_delivered_again():
    """Neither in the same run, nor after a restart, nor when the whole topic is read anew."""
    one, two = alert(), alert("organization:acme/agent:2")
    world = world_of(one, two, one)
    asyncio.run(world.run())
    world.broker.committed[0] = 0
    asyncio.run(world.run())
    assert Counter(told(world)) == {(one.alert_id,): 1, (two.alert_id,): 1}
    assert world.app.metrics.repeated._value.get() == 3


def test_a_crossing_inside_the_cooldown_is_held_and_merged():
    """When it ends, one message tells all that were held, the highest first."""
    first, low, high = alert(threshold="0.5"), alert(threshold="0.75"), alert(threshold="0.9")
    world = world_of(first, low, high)
    asyncio.run(world.run())
    assert told(world) == [(first.alert_id,), (high.alert_id, low.alert_id)]
    assert world.clock.now_ms() == START_MS + 15 * MINUTE_MS
    (_, (merged_id, _)) = world.webhooks.sent
    assert merged_id not in (low.alert_id, high.alert_id)


def test_what_is_exceeded_or_recovered_does_not_wait():
    """It goes out inside the cooldown, by itself, and lets the held ones wait on."""
    first, held = alert(threshold="0.5"), alert(threshold="0.75")
    urgent = alert(threshold="1", event="budget.exceeded")
    world = world_of(first, held, urgent)
    asyncio.run(world.run())
    assert told(world) == [(first.alert_id,), (urgent.alert_id,), (held.alert_id,)]


def test_of_a_step_the_highest_goes_first():
    """The lower ones are inside the cooldown that it begins."""
    low, middle, high = step(SCOPE, "0.5", "0.75", "0.9")
    world = world_of(low, middle, high)
    asyncio.run(world.run())
    assert told(world) == [(high.alert_id,), (middle.alert_id, low.alert_id)]


def test_of_a_step_the_highest_goes_first_without_a_cooldown_too():
    """Then each has a message of its own, and none waits."""
    alerts = step(SCOPE, "0.5", "0.75", "0.9")
    world = world_of(*alerts, config=hook(0))
    asyncio.run(world.run())
    assert told(world) == [(each.alert_id,) for each in reversed(alerts)]
    assert world.clock.now_ms() == START_MS


def test_the_lower_ones_of_a_step_do_not_wait_for_ever():
    """When its highest does not come, they go out after a short while."""
    low, _ = step(SCOPE, "0.5", "0.75")
    world = world_of(low)
    asyncio.run(world.run())
    assert told(world) == [(low.alert_id,)]


def test_a_shorter_cooldown_lets_go_what_is_held():
    """What is held is due by the configuration that holds now."""
    first, held = alert(threshold="0.5"), alert(threshold="0.75")
    world = world_of(first, held)

    async def main():
        running = asyncio.create_task(world.run(jump=False))
        while len(told(world)) < 1 or not world.broker.held():  # noqa: ASYNC110 # a plain list
            await asyncio.sleep(0)
        world.configs.put("organization:acme", hook(0))
        await running

    asyncio.run(main())
    assert told(world) == [(first.alert_id,), (held.alert_id,)]


def test_a_test_alert_waits_for_no_cooldown_and_begins_none():
    """It goes through between two that are a cooldown apart, and is marked."""
    first, tried, second = alert(threshold="0.5"), alert(test=True), alert(threshold="0.75")
    world = world_of(tried, first, tried, alert(test=True, alert_id="alt_again"), second)
    asyncio.run(world.run())
    assert told(world) == [
        (tried.alert_id,),
        (first.alert_id,),
        ("alt_again",),
        (second.alert_id,),
    ]
    assert [each.test for each in world.broker.deliveries] == [True, False, True, False]


def test_what_fails_for_now_is_tried_again_with_growing_pauses():
    """Five times, by the same id, until it arrives."""
    one = alert()
    world = world_of(one)
    world.settings = Settings(alert_attempts_max=6)
    world.webhooks.answer = lambda delivery_id, attempt: Outcome(
        *(("delivered",) if attempt == 6 else ("retry", "HTTP 500", 500))
    )
    asyncio.run(world.run())
    assert world.webhooks.sent == [(one.alert_id, (one.alert_id,))] * 6
    at = [each.attempted_at.timestamp() for each in world.broker.deliveries]
    pauses = [b - a for a, b in pairwise(at)]
    bounds = [5, 15, 45, 135, 405]
    assert all(top / 2 <= pause <= top for pause, top in zip(pauses, bounds, strict=True))
    assert [each.status for each in world.broker.deliveries] == ["retrying"] * 5 + ["delivered"]
    assert world.broker.dead == []


def test_after_the_last_try_there_is_a_dead_letter():
    """With the alerts, and why."""
    one = alert()
    world = world_of(one)
    world.webhooks.answer = lambda *_: Outcome("retry", "HTTP 500", 500)
    asyncio.run(world.run())
    (dead,) = world.broker.dead
    assert (dead.delivery_id, dead.channel, dead.reason) == (one.alert_id, "webhook", "HTTP 500")
    assert dead.alerts == (one,)
    assert dead.attempts == 5
    assert world.broker.deliveries[-1].status == "failed"


def test_what_fails_for_good_is_not_tried_again():
    """One attempt, one dead letter."""
    world = world_of(alert())
    world.webhooks.answer = lambda *_: Outcome("failed", "HTTP 404", 404)
    asyncio.run(world.run())
    assert len(world.webhooks.sent) == len(world.broker.dead) == 1


def test_the_receiver_says_how_long_to_wait():
    """Longer than our own pause, and within a bound."""
    world = world_of(alert())
    world.webhooks.answer = lambda _, attempt: (
        Outcome("retry", "HTTP 429", 429, 600_000) if attempt == 1 else Outcome("delivered")
    )
    asyncio.run(world.run())
    assert world.clock.now_ms() == START_MS + 600_000


def test_gone_disables_the_configuration_until_it_changes():
    """Further alerts fail at once, also after a restart; a new version is tried again."""
    first, second, third = (alert(f"organization:acme/agent:{n}") for n in range(3))
    world = world_of(first)
    world.webhooks.answer = lambda *_: Outcome("gone", "HTTP 410", 410)
    asyncio.run(world.run())
    world.broker.publish(second)
    asyncio.run(world.run())
    assert told(world) == [(first.alert_id,)]
    assert [each.alerts for each in world.broker.dead] == [(first,), (second,)]
    assert "410" in world.broker.dead[1].reason
    world.configs.put("organization:acme", hook(url="https://example.com/new"))
    world.broker.publish(third)
    asyncio.run(world.run())
    assert told(world) == [(first.alert_id,), (third.alert_id,)]


def test_a_delivery_goes_where_the_configuration_says_when_it_is_made():
    """A webhook that was taken away while it was down is not tried again."""
    world = world_of(alert())
    world.webhooks.answer = lambda *_: Outcome("retry", "away", is_away=True)

    async def main():
        running = asyncio.create_task(world.run())
        while not world.broker.deliveries:  # noqa: ASYNC110 # a plain list
            await asyncio.sleep(0)
        world.configs.put("organization:acme", AlertConfig())
        await running

    asyncio.run(main())
    assert len(world.webhooks.sent) == 1
    assert "configured" in world.broker.dead[0].reason


def test_what_is_pending_goes_on_after_a_restart():
    """With its attempts counted on, and not before it is due."""
    world = world_of(alert())
    world.webhooks.answer = lambda _, attempt: (
        Outcome("delivered") if attempt == 3 else Outcome("retry", "HTTP 503", 503)
    )
    asyncio.run(world.run(until=lambda: len(world.broker.deliveries) == 2))
    due = world.broker.deliveries[-1].next_attempt_at
    asyncio.run(world.run())
    assert [each.attempt for each in world.broker.deliveries] == [1, 2, 3]
    assert world.broker.deliveries[-1].attempted_at >= due


def test_only_the_recipients_that_were_refused_for_now_are_tried_again():
    """And those that were refused for good are in the dead letter."""
    to = ("a@x.org", "b@x.org", "c@x.org")
    world = world_of(alert(), config=AlertConfig(email_recipients=to))
    world.mails.answer = lambda _, attempt: (
        Outcome("retry", "SMTP 451", 451, left=to[:1], refused=to[1:2])
        if attempt == 1
        else Outcome("delivered", code=250)
    )
    asyncio.run(world.run())
    assert world.mails.recipients == [to, to[:1]]
    assert world.broker.dead[0].recipients == to[1:2]


def test_a_message_that_is_no_alert_stops_nobody():
    """It is counted, and those behind it are delivered."""
    one = alert()
    values = [b"{", b"", encode(alert(scope="nonsense")), encode(alert(used="NaN"))]
    values += [encode(alert(alert_id=each)) for each in ("", "a b", "a\r\nb", "a" * 129)]
    values += [encode(alert(used="1." + "0" * 20_000))]
    broken = [(value, []) for value in values]
    again = Redelivery("again", dead_letter(one))
    wrong = (
        replace(again, id="i" * 129),
        replace(again, dead=replace(again.dead, alerts=())),
        replace(again, dead=replace(again.dead, alerts=(one,) * 21)),
        replace(again, dead=replace(again.dead, delivery_id="a\r\nb")),
        replace(again, dead=replace(again.dead, alerts=(alert(used="NaN"),))),
    )
    broken += [(encode(one), [(REDELIVERY_HEADER, encode(each))]) for each in wrong]
    world = world_of()
    world.broker.alerts[0] += broken
    world.broker.publish(one)
    asyncio.run(world.run())
    assert told(world) == [(one.alert_id,)]
    assert world.app.metrics.rejected._value.get() == len(broken)


def dead_letter(one):
    return DeadAlert(
        delivery_id=one.alert_id, channel="webhook", scope=one.scope, organization_id="acme",
        alerts=(one,), target="t", reason="HTTP 500", code=500, attempts=3, failed_at=at(0),
    )  # fmt: skip


def test_a_full_endpoint_makes_dead_letters_and_holds_up_nobody(monkeypatch):
    """Its bound is not for others to wait for, and nothing is lost."""
    monkeypatch.setattr(dispatcher, "ENDPOINT_PENDING_MAX", 3)
    down = [alert(f"organization:acme/agent:{n}") for n in range(6)]
    up = alert("organization:up")
    world = world_of(*down, up)
    world.configs.put("organization:up", hook(url="https://up.example.com"))
    world.webhooks.answer = lambda delivery_id, _: (
        Outcome("delivered") if delivery_id == up.alert_id else Outcome("retry", is_away=True)
    )
    asyncio.run(world.run())
    assert (up.alert_id,) in told(world)
    assert {each.delivery_id for each in world.broker.dead} == {each.alert_id for each in down}
    assert any("too much" in each.reason for each in world.broker.dead)


def test_any_number_of_full_endpoints_leaves_room_for_others(monkeypatch):
    """Each has no more waiting than is free in all: reading goes on, and who answers is told."""
    from streams.alerting import app

    monkeypatch.setattr(app, "PENDING_MAX", 12)
    monkeypatch.setattr(dispatcher, "ENDPOINT_PENDING_MIN", 1)
    down = [alert(f"organization:down-{n % 3}/agent:{n}") for n in range(30)]
    up = alert("organization:up")
    world = world_of(*down)
    for n in range(3):
        world.configs.put(f"organization:down-{n}", hook(url=f"https://down-{n}.example.com"))
    world.configs.put("organization:up", hook(url="https://up.example.com"))
    world.webhooks.answer = lambda delivery_id, _: (
        Outcome("delivered") if delivery_id == up.alert_id else Outcome("retry", is_away=True)
    )

    async def main():
        running = asyncio.create_task(world.run(jump=False))
        for _ in range(500):
            await asyncio.sleep(0)
        world.broker.publish(up)
        for _ in range(500):
            await asyncio.sleep(0)
        assert (up.alert_id,) in told(world)  # and no time went by, that makes room
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_no_more_is_read_while_too_much_is_in_memory(monkeypatch):
    """The alerts wait on their topic, and are delivered when there is room again."""
    from streams.alerting import app

    monkeypatch.setattr(app, "PENDING_MAX", 1)
    first = alert()
    rest = [alert(f"organization:acme/agent:{n}") for n in range(3)]
    world = world_of(first)
    waiting = asyncio.Event()
    world.webhooks.answer = lambda _, attempt: (
        Outcome("delivered") if waiting.is_set() else Outcome("retry", "away")
    )

    async def main():
        running = asyncio.create_task(world.run(jump=False))
        while not world.broker.deliveries:  # noqa: ASYNC110 # a plain list
            await asyncio.sleep(0)
        world.broker.publish(*rest)
        for _ in range(200):
            await asyncio.sleep(0)
        assert world.broker.committed[0] == 1
        waiting.set()
        world.clock.advance(10_000)
        await running

    asyncio.run(main())
    assert set(told(world)) == {(each.alert_id,) for each in (first, *rest)}


def test_what_is_held_keeps_nobody_from_being_told(monkeypatch):
    """However much one organization has held for a week: beyond a bound its own goes out early."""
    from streams.alerting import app, partition_state

    monkeypatch.setattr(app, "PENDING_MAX", 3)
    monkeypatch.setattr(partition_state, "HELD_MAX", 4)
    scopes = [f"organization:acme/agent:{n}" for n in range(3)]
    held = [alert(scope) for _ in range(4) for scope in scopes]
    up = alert("organization:up")
    world = world_of(*held, up, config=hook(10_080))
    world.configs.put("organization:up", hook())
    asyncio.run(world.run(until=lambda: (up.alert_id,) in told(world), jump=False))
    assert world.broker.held() <= 4
    ids = [each for told_ids in told(world) for each in told_ids]
    assert len(ids) == len(set(ids))


def test_a_dead_letter_that_is_sent_again_keeps_its_id_and_passes_once():
    """A replay of the redelivery does nothing, nor does one of the alert."""
    alerts = [alert(threshold=share) for share in ("0.5", "0.75", "0.9")]
    world = world_of(*alerts)
    world.webhooks.answer = lambda *_: Outcome("failed", "HTTP 404", 404)
    asyncio.run(world.run())
    merged = world.broker.dead[1]
    assert len(merged.alerts) == 2
    before = len(world.webhooks.sent)
    world.webhooks.answer = lambda *_: Outcome("delivered")
    headers = [(REDELIVERY_HEADER, encode(Redelivery("redelivery 1", merged)))]
    for _ in range(2):
        world.broker.publish(merged.alerts[0], headers=headers)
        asyncio.run(world.run())
    world.broker.publish(*alerts)
    asyncio.run(world.run())
    ids = tuple(each.alert_id for each in merged.alerts)
    assert world.webhooks.sent[before:] == [(merged.delivery_id, ids)]


class Killer:
    """Kills the process at the nth step of all, and whatever it tries after that."""

    def __init__(self, at):
        self.left = at
        self.is_dead = False

    def __call__(self, name):
        self.left -= 1
        if self.left < 0:
            self.is_dead = True
            raise Crash(name)


def mixed_alerts():
    quick = [
        *step("organization:acme", "0.5", "0.75", "0.9"),
        alert("organization:acme", "1", event="budget.exceeded"),
        alert("organization:acme", "0.5", window="2026-12"),
    ]
    slow = [
        *step("organization:beta", "0.5", "0.75"),
        alert("organization:beta", "0.9"),
        alert("organization:beta", "1", event="budget.exceeded"),
    ]
    return [
        each
        for pair in zip(quick, [*slow, alert("organization:down")], strict=True)
        for each in pair
    ]


def killed_world(broker, clock, killer):
    world = World(broker, clock)
    world.configs.put("organization:acme", hook(0))
    world.configs.put("organization:beta", hook(5, email_recipients=("a@b.c",)))
    world.configs.put("organization:down", hook(0, url="https://down.example.com"))
    world.settings = TWO_ATTEMPTS
    world.log.at_step = killer
    return world


def test_a_kill_at_any_point_loses_nothing_and_repeats_only_under_the_same_id():
    """Between any two of: state write, commit, send, dead letter, record of the attempt, done."""
    alerts = mixed_alerts()
    down = {each.alert_id for each in alerts if each.scope == "organization:down"}

    async def main(at):
        broker, clock, killer = Broker(), FakeClock(), Killer(at)
        broker.publish(*alerts)
        webhooks, mails = FakeChannel(), FakeChannel()
        webhooks.answer = lambda delivery_id, _: (
            Outcome("retry", "away") if delivery_id in down else Outcome("delivered")
        )
        for step_killer in (killer, lambda name: None):
            world = killed_world(broker, clock, step_killer)
            world.webhooks, world.mails = webhooks, mails
            webhooks.at_step = mails.at_step = step_killer
            try:
                await world.run()
            except Crash:
                continue
        return broker, webhooks, mails, killer.is_dead

    at, was_killed = 0, True
    while was_killed:
        broker, webhooks, mails, was_killed = asyncio.run(main(at))
        for channel, wanted in (
            (webhooks, {each.alert_id for each in alerts}),
            (mails, {each.alert_id for each in alerts if each.scope == "organization:beta"}),
        ):
            messages = set(channel.sent)
            ids = [each for _, told_ids in messages for each in told_ids]
            assert set(ids) == wanted, at
            assert len(ids) == len(set(ids)), at  # no alert under two ids
        assert {each.delivery_id for each in broker.dead} == down, at
        if not was_killed:
            assert len(webhooks.sent) == len(set(webhooks.sent)) + 1  # the one that is down
        at += 1
    assert at > 60


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(["0.5", "0.75", "0.9", "1"]),
            st.integers(0, 2),
            st.integers(0, 10 * MINUTE_MS),
        ),
        max_size=25,
    ),
    st.sampled_from([0, 1, 15]),
)
@settings(max_examples=25)
def test_each_alert_is_told_exactly_once(events, cooldown):
    """Over random alerts, repetitions and times, without a kill, in one message each."""
    world = world_of(config=hook(cooldown))
    alerts = []
    for agent, threshold, repetitions, _ in events:
        event = "budget.exceeded" if threshold == "1" else "budget.warning"
        one = alert(f"organization:acme/agent:{agent}", threshold, event=event)
        alerts.append(one)
        world.broker.publish(*[one] * (1 + repetitions))
    asyncio.run(world.run())
    ids = [each for told_ids in told(world) for each in told_ids]
    assert sorted(ids) == sorted(each.alert_id for each in alerts)
    assert world.broker.dead == []


def test_a_revocation_ends_deliveries_and_waits_for_what_is_under_way():
    """What is under way arrives once and is over; what is not begun is the next owner's."""
    alerts = [alert(f"organization:acme/agent:{n}") for n in range(3)]
    world = world_of(*alerts)

    async def main():
        reached, gate = asyncio.Event(), asyncio.Event()
        send = world.webhooks.send

        async def slow_send(*given):
            reached.set()
            await gate.wait()
            return await send(*given)

        world.webhooks.send = slow_send
        running = asyncio.create_task(world.run())
        await reached.wait()
        revoking = asyncio.create_task(world.app.revoked())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not revoking.done()
        gate.set()
        await revoking
        assert len(world.webhooks.sent) == 1
        assert len(world.broker.pending()) == 2
        world.app.assigned([0])  # and it is ours again
        await running

    asyncio.run(main())
    assert Counter(told(world)) == Counter([(each.alert_id,) for each in alerts])


def test_an_alert_read_under_the_old_assignment_is_not_lost():
    """A partition goes and comes back while its alerts are in hand: they are read again."""
    one = alert()
    world = world_of(one)
    read = world.log.read

    async def read_and_rebalance(partitions, timeout_s):
        found = await read(partitions, timeout_s)
        if found and world.log.read is read_and_rebalance:
            world.log.read = read
            await world.app.revoked()
            world.app.assigned([0])
        return found

    world.log.read = read_and_rebalance
    asyncio.run(world.run())
    assert told(world) == [(one.alert_id,)]


def test_a_commit_that_is_refused_delivers_nothing_here():
    """The group has moved on; the state has the alert, for whoever has the partition now."""
    world = world_of(alert())

    async def refuse(partition, offset):
        return False

    world.log.commit = refuse
    asyncio.run(world.run(until=lambda: len(world.broker.state[0]) > 0))
    assert told(world) == []
    assert len(world.broker.pending()) == 1


@pytest.mark.parametrize("at", range(4))
def test_a_partition_whose_write_is_refused_is_loaded_anew(at):
    """Where it is still ours: nothing is lost, and what was under way is sent again by its id."""
    one = alert()
    world = world_of(one, alert("organization:acme/agent:2"))
    write, writes = world.log.write, []

    async def refuse_one(partition, records, **more):
        writes.append(records)
        if len(writes) == 1 + at:
            raise Lost("another was there")
        await write(partition, records, **more)

    world.log.write = refuse_one
    asyncio.run(world.run())
    assert (one.alert_id,) in told(world)
    assert len(set(told(world))) == 2
    assert len(told(world)) <= 3
    assert world.broker.is_quiet


def test_what_waiting_cannot_help_ends_the_application():
    """So that the process exits non-zero, and nothing is committed that is not kept."""
    from aiokafka.errors import TopicAuthorizationFailedError

    world = world_of(alert())

    async def refuse(partition, records, **more):
        raise TopicAuthorizationFailedError()

    world.log.write = refuse
    with pytest.raises(TopicAuthorizationFailedError):
        asyncio.run(world.run())
    assert world.broker.committed[0] == 0


def test_alerts_of_one_scope_do_not_overtake_each_other():
    """Recovered is not told before exceeded, though several attempts are under way at a time."""
    up = alert("organization:acme/agent:first")
    urgent = [
        alert(SCOPE, "1", event=event)
        for event in ("budget.exceeded", "budget.recovered", "budget.exceeded")
    ]
    world = world_of(up, *urgent)
    send, most = world.webhooks.send, []

    async def observed(*given):
        world.under_way = getattr(world, "under_way", 0) + 1
        most.append(world.under_way)
        try:
            return await send(*given)
        finally:
            world.under_way -= 1

    world.webhooks.send = observed
    asyncio.run(world.run())
    assert told(world)[1:] == [(each.alert_id,) for each in urgent]
    assert max(most) == 1


def test_the_metrics_say_what_was_done():
    """Delivered, retried, failed, held and pending."""
    bad = alert("organization:acme/agent:bad")
    world = world_of(alert(threshold="0.5"), alert(threshold="0.75"), bad)
    world.webhooks.answer = lambda delivery_id, attempt: (
        Outcome("retry", "HTTP 500", 500) if delivery_id == bad.alert_id else Outcome("delivered")
    )
    values = {}

    def look():
        metrics = world.app.metrics
        if world.broker.held() and len(world.broker.pending()) == 1:
            values["held"] = _gauge(metrics.held)
            values["pending"] = _gauge(metrics.pending)
        return world.broker.is_quiet

    asyncio.run(world.run(until=look))
    metrics = world.app.metrics
    counters = [metrics.delivered, metrics.retried, metrics.failed]
    assert [c.labels("webhook")._value.get() for c in counters] == [2, 4, 1]
    assert values == {"held": 1, "pending": 1}


def _gauge(gauge):
    return next(iter(gauge.collect())).samples[0].value
