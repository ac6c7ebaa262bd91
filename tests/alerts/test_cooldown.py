"""The rules of the cooldown, over random alerts and times."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from outlay.alert import URGENT_EVENTS
from streams.alerting.cooldown import (
    HELD_COOLDOWNS_MAX,
    HELD_MAX,
    NOTHING_HELD,
    STEP_WAIT_MS,
    due_ms,
    take,
    wake,
)
from tests.alerts.alert_world import alert, step

EVENTS = st.one_of(
    st.sampled_from(["budget.warning", "budget.exceeded", "budget.recovered", "budget.forecast"]),
    st.integers(2, 4),  # a step of so many
)
PAUSES = st.integers(0, 3_000)


def play(events, cooldown_ms):
    """Messages with their times, and when each alert came; timers fire when they are due."""
    state, now, sent, came = NOTHING_HELD, 0, [], {}

    def until(end):
        nonlocal state
        while (due := due_ms(state, cooldown_ms)) is not None and due <= end:
            at = max(due, now)
            state, messages = wake(state, at, cooldown_ms)
            sent.extend((at, message) for message in messages)

    for event, pause_ms in events:
        until(now + pause_ms)
        now += pause_ms
        if isinstance(event, int):
            alerts = step("organization:a", *["0.5", "0.75", "0.9", "0.95"][:event])
        else:
            alerts = [alert("organization:a", None if "fore" in event else "0.75", event=event)]
        for each in alerts:
            came[each.alert_id] = now
            state, messages = take(state, each, now, cooldown_ms)
            sent.extend((now, message) for message in messages)
            until(now)
    until(now + 10 * cooldown_ms + STEP_WAIT_MS)
    return sent, came


@given(st.lists(st.tuples(EVENTS, PAUSES), max_size=40), st.sampled_from([0, 1, 1_000, 5_000]))
def test_each_alert_goes_out_once_and_in_time(events, cooldown_ms):
    """Urgent ones at once; others within two cooldowns and the wait for a step."""
    sent, came = play(events, cooldown_ms)
    told = [(at, each) for at, message in sent for each in message]
    assert sorted(each.alert_id for _, each in told) == sorted(came)
    for at, each in told:
        waited = at - came[each.alert_id]
        if each.event in URGENT_EVENTS:
            assert waited == 0
        assert 0 <= waited <= HELD_COOLDOWNS_MAX * cooldown_ms + STEP_WAIT_MS


@given(st.lists(st.tuples(EVENTS, PAUSES), max_size=40), st.sampled_from([1, 1_000, 5_000]))
def test_no_message_comes_inside_the_cooldown_but_what_is_urgent(events, cooldown_ms):
    """Unless its oldest alert has waited for two, or as many wait as are held at most."""
    sent, came = play(events, cooldown_ms)
    for (before, _), (at, message) in pairwise(sent):
        is_urgent = message[0].event in URGENT_EVENTS
        oldest = min(came[each.alert_id] for each in message)
        has_waited = at - oldest >= HELD_COOLDOWNS_MAX * cooldown_ms
        assert is_urgent or at - before >= cooldown_ms or has_waited or len(message) >= HELD_MAX


@given(st.lists(st.tuples(EVENTS, PAUSES), max_size=40))
def test_the_highest_comes_first(events):
    """In each message, and of each step that finds no cooldown."""
    for _, message in play(events, 1_000)[0]:
        shares = [each.threshold or 0 for each in message]
        assert shares == sorted(shares, reverse=True)


def test_too_many_do_not_wait():
    """From the bound on they go out before the cooldown is over, merged."""
    state, now = NOTHING_HELD, 0
    for _ in range(HELD_MAX + 1):
        state, _ = take(state, alert("organization:a"), now, 10**9)
    _, messages = wake(state, now, 10**9)
    assert [len(message) for message in messages] == [HELD_MAX]


def test_urgent_ones_do_not_keep_the_held_ones_for_ever():
    """Each begins another cooldown; the held ones wait for two in all."""
    state, _ = take(NOTHING_HELD, alert("organization:a"), 0, 1_000)
    state, _ = take(state, alert("organization:a"), 1, 1_000)
    for now in range(500, 10_000, 500):
        state, _ = take(state, alert("organization:a", event="budget.exceeded"), now, 1_000)
    assert due_ms(state, 1_000) == 1 + HELD_COOLDOWNS_MAX * 1_000


def test_the_same_alert_is_not_held_twice():
    """A crash between two writes can bring it again."""
    state, _ = take(NOTHING_HELD, alert("organization:a"), 0, 1_000)
    again = alert("organization:a")
    state, _ = take(state, again, 1, 1_000)
    assert take(state, again, 2, 1_000) == (state, [])
