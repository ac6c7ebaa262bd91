"""Sums: usage added up by whose it is gives each scope and window what a plain count gives it."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from outlay.usage import UsageRecord
from streams.sums import Sums

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
whose = st.tuples(
    st.sampled_from(["acme", "a/b"]),
    st.sampled_from([None, "t1", "t 2"]),
    st.sampled_from([None, "u1", "u2"]),
    st.sampled_from(["a1", "a2", "ä"]),
    st.integers(-40, 1),
    st.integers(0, 10**9),
)


def record(organization, team, user, agent, day, nano) -> UsageRecord:
    return UsageRecord.new(
        organization_id=organization, team_id=team, user_id=user, agent_id=agent,
        occurred_at=NOON + timedelta(days=day), cost_usd=nano / 10**9, input_tokens=nano % 7,
        output_tokens=nano % 5, executions=nano % 3,
    )  # fmt: skip


def quoted(text: str) -> str:
    return text.replace("/", "%2F").replace(" ", "%20").replace("ä", "%C3%A4")


@given(st.lists(whose, max_size=30))
def test_each_scope_and_window_has_what_was_used(used) -> None:
    """An agent that works for several users, over several days, is no exception."""
    sums, truth = Sums(), defaultdict(lambda: [0, 0, 0, 0])
    for organization, team, user, agent, day, nano in used:
        made = record(organization, team, user, agent, day, nano)
        sums.add_apart([made], [nano])
        root = f"organization:{quoted(organization)}"
        scopes = [root, f"{root}/agent:{quoted(agent)}"]
        scopes += [f"{root}/team:{quoted(team)}"] if team else []
        scopes += [f"{root}/user:{user}"] if user else []
        scopes += [f"{root}/team:{quoted(team)}/user:{user}"] if team and user else []
        date = (NOON + timedelta(days=day)).date().isoformat()
        for scope in scopes:
            for window in (date, date[:7]):
                amounts = (nano, nano % 3, nano % 7, nano % 5)
                for i, amount in enumerate(amounts):
                    truth[window, scope][i] += amount
    found = {
        (window, scope): amounts
        for window, scopes in sums.by_window().items()
        for scope, amounts in scopes.items()
    }
    assert found == truth
    assert sums.size <= len(used)


def test_the_sums_can_be_asked_for_more_than_once() -> None:
    """Asking changes nothing."""
    sums = Sums()
    for day in (0, 1):
        sums.add_apart([record("acme", "t1", "u1", "a1", day, 5)], [5])
    first = {w: {s: list(a) for s, a in scopes.items()} for w, scopes in sums.by_window().items()}
    assert sums.by_window() == first
