"""Sums: usage added up by whose it is gives each scope and window what a plain count gives it."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from outlay.framing import encode_frame
from outlay.money import COST_NANO_MAX
from outlay.usage import EXECUTIONS_MAX, TOKENS_MAX, UsageRecord
from streams.plain_frames import plain_frames
from streams.sums import Sums
from tests.streams.flat import by_window

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATEST_US = int(NOON.timestamp() * 1e6) + 90 * 86_400_000_000

Found = dict[tuple[str, str], list[int]]
"""By window name and scope key."""


def amounts_up_to(maximum: int) -> st.SearchStrategy[int]:
    return st.integers(0, 9) | st.integers(-maximum, maximum) | st.sampled_from([-maximum, maximum])


def record(
    organization="acme", team="t1", user="u1", agent="a1", day=0, amounts=(5, 1, 0, 0)
) -> UsageRecord:
    cost_nano, executions, input_tokens, output_tokens = amounts
    return UsageRecord.new(
        organization_id=organization, team_id=team, user_id=user, agent_id=agent,
        occurred_at=NOON + timedelta(days=day), cost_usd=Decimal(cost_nano).scaleb(-9),
        executions=executions, input_tokens=input_tokens, output_tokens=output_tokens,
        kind="correction" if min(amounts) < 0 else "usage",
    )  # fmt: skip


whose = {
    "organization": st.sampled_from(["acme", "acme", "a/b"]),
    "team": st.sampled_from([None, "t1", "t1", "t 2"]),
    "user": st.sampled_from([None, "u1", "u1", "u2"]),
    "agent": st.sampled_from(["a1", "a2", "a3", "ä"]),
}
records = st.builds(
    record,
    **whose,
    day=st.sampled_from([0, 0, 0, 1, -1, -40]),
    amounts=st.tuples(*map(amounts_up_to, (COST_NANO_MAX, EXECUTIONS_MAX, TOKENS_MAX, TOKENS_MAX))),
)
framed = st.builds(record, **whose, amounts=st.tuples(*[st.integers(0, 9)] * 4))
runs = st.one_of(
    st.tuples(st.lists(records, min_size=1, max_size=8), st.sampled_from(["together", "apart"])),
    st.tuples(st.lists(framed, min_size=1, max_size=8), st.just("frame")),
)


def add(sums: Sums, made: list[UsageRecord], way: str) -> None:
    """Add a run of records; together only those of one day."""
    costs_nano = [int(Decimal(each.cost_usd).scaleb(9)) for each in made]
    if way == "frame":
        frame = encode_frame(made)
        assert frame is not None
        frames = plain_frames([frame], LATEST_US)
        assert frames is not None
        assert sums.add_frames(frames)
        return
    if way == "apart":
        sums.add_apart(made, costs_nano)
        return
    for day in {each.occurred_at.toordinal() for each in made}:
        run = [
            (each, cost_nano)
            for each, cost_nano in zip(made, costs_nano, strict=True)
            if each.occurred_at.toordinal() == day
        ]
        sums.add([each for each, _ in run], [cost_nano for _, cost_nano in run], day)


def quoted(text: str) -> str:
    return text.replace("/", "%2F").replace(" ", "%20").replace("ä", "%C3%A4")


def counted(used: list[UsageRecord]) -> Found:
    """Each record added to each of its scopes, by itself."""
    truth: Found = defaultdict(lambda: [0, 0, 0, 0])
    for each in used:
        cost_nano = int(Decimal(each.cost_usd).scaleb(9))
        root, team, user = (
            f"organization:{quoted(each.organization_id)}",
            each.team_id,
            each.user_id,
        )
        scopes = [root, f"{root}/agent:{quoted(each.agent_id)}"]
        scopes += [f"{root}/team:{quoted(team)}"] if team else []
        scopes += [f"{root}/user:{user}"] if user else []
        scopes += [f"{root}/team:{quoted(team)}/user:{user}"] if team and user else []
        date = each.occurred_at.date().isoformat()
        amounts = (cost_nano, each.executions, each.input_tokens, each.output_tokens)
        for scope in scopes:
            for window in (date, date[:7]):
                for i, amount in enumerate(amounts):
                    truth[window, scope][i] += amount
    return truth


def found(sums: Sums) -> Found:
    return {
        (window, scope): amounts
        for window, scopes in by_window(sums).items()
        for scope, amounts in scopes.items()
    }


def spenders(used: list[UsageRecord]) -> int:
    """How many agents used something, by whom it was for and by day."""
    return len({
        (each.occurred_at.date(), each.organization_id, each.team_id, each.user_id, each.agent_id)
        for each in used
    })  # fmt: skip


@given(st.lists(runs, max_size=6))
def test_each_scope_and_window_has_what_was_used(runs: list[tuple[list[UsageRecord], str]]) -> None:
    """An agent that works for several users, over several days, is no exception.

    Nor are corrections, sums that no machine word holds, frames among records, and who asks in
    between.
    """
    sums = Sums()
    used: list[UsageRecord] = []
    for made, way in runs:
        add(sums, made, way)
        used += made
        assert found(sums) == counted(used)
    # Records and frames of one agent are summed apart.
    apart = [[each for made, way in runs if (way == "frame") == f for each in made] for f in (0, 1)]
    assert sums.size == sum(map(spenders, apart))


@given(st.lists(records, max_size=30))
def test_records_come_to_the_same_in_any_grouping(used: list[UsageRecord]) -> None:
    """All of them, or one at a time; forwards, or backwards."""
    together, alone, backwards = Sums(), Sums(), Sums()
    add(together, used, "together")
    for each in used:
        add(alone, [each], "together")
    add(backwards, used[::-1], "apart")
    assert found(together) == found(alone) == found(backwards)
    assert together.size == alone.size == backwards.size == spenders(used)


def test_the_sums_can_be_asked_for_more_than_once() -> None:
    """Asking changes nothing."""
    sums = Sums()
    for day in (0, 1):
        for user in ("u1", "u2", "u1"):
            sums.add_apart([record(user=user, day=day)], [5])
    first = by_window(sums)
    assert by_window(sums) == first


def test_sums_grow_beyond_any_machine_word() -> None:
    """Costs are whole numbers of any size."""
    sums = Sums()
    for agent in ("a1", "a2", "a2"):
        sums.add([record(agent=agent)], [10**30], NOON.toordinal())
    assert found(sums)["2026-03", "organization:acme"] == [3 * 10**30, 3, 0, 0]
    assert found(sums)["2026-03", "organization:acme/agent:a2"] == [2 * 10**30, 2, 0, 0]


def test_a_days_sums_are_not_those_of_the_month() -> None:
    """Who comes on the second day of three begins the month's sum with it, and adds to that."""
    used = [record(agent="a1"), *(record(agent="a2", day=day) for day in (1, 2, 3))]
    sums = Sums()
    add(sums, used, "apart")
    assert found(sums) == counted(used)
