"""One set of rules: the enforcer, the stream and the gateway decide alike on the same budgets."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from outlay import Amounts, Budget, BudgetGateway, BudgetRequest, Decision, DecisionFeed, Scope
from outlay.budget import LIMIT_FIELDS, NOTHING
from outlay.decision import encode
from outlay.governance import ExternalAgentBudget, ExternalAgentBudgetEnforcer
from outlay.reading import Message
from schemas.messages import Block, Columns, PartialsMessage
from streams.budgets import Budgets
from streams.decisions import Decisions
from streams.totals import Totals
from tests.governance.clocks import NOW, Clock

AGENT = Scope("acme", agent_id="a")
DAY, MONTH = "2026-11-21", "2026-11"
NANO = 10**9
TENTH = NANO // 10


def publish(budget, day, month):
    """The messages of the real totals stage for a budget that was asked for, and its usage."""
    budgets = Budgets(0, lambda scope: 0)
    changes = msgspec.to_builtins(budget)
    request = BudgetRequest(request_id="r", scope=AGENT.key, action="put", changes=changes)
    answer = budgets.decide(encode(request), 0, int(NOW.timestamp() * 1000)).answer
    assert answer.accepted, answer.reason
    assert budgets.awaited.take_arrived(0) == {AGENT.key}
    totals = Totals()
    for window, used in ((DAY, day), (MONTH, month)):
        told = Block([AGENT.key], {window: columns(used)})
        totals.merge(PartialsMessage(0, 0, None, told))
    decisions = Decisions(totals, budgets, refresh_ms=1_000)
    decisions.moved({AGENT.key})
    return list(decisions.publish(int(NOW.timestamp() * 1000)))


def columns(used):
    """An entry up to the offset 1."""
    entry = 1, used.cost_nano, used.executions, used.input_tokens, used.output_tokens
    return Columns(*([number] for number in entry))


def gateway_over(messages):
    """A gateway that has read these, without any thread."""
    feed = DecisionFeed(monotonic=lambda: 1_000.0, wall=NOW.timestamp)
    feed.state.partitions = 1
    feed.state.ready = True
    for key, value in messages:
        feed.state.apply(Message(0, 0, key, value), 1_000.0, NOW.timestamp())
    return BudgetGateway(feed=feed, clock=NOW.timestamp)


def enforced(fields, day, month, asked):
    """What the enforcer says to the same."""
    budget = ExternalAgentBudget("a", **{"monthly_budget_usd": None} | fields)
    budget.set_used("daily", day)
    budget.set_used("monthly", month)
    enforcer = ExternalAgentBudgetEnforcer(clock=Clock())
    return asyncio.run(
        enforcer.check_budget(
            budget,
            Decimal(asked.cost_nano) / NANO,
            estimated_input_tokens=asked.input_tokens,
            estimated_output_tokens=asked.output_tokens,
        )
    )


def all_three(fields, day, month, asked):
    """What enforcer, gateway and stream say; the stream before the call, as it publishes."""
    messages = publish(Budget(**fields), day, month)
    decision = msgspec.json.decode(dict(messages)[AGENT.key.encode()], type=Decision)
    checked = gateway_over(messages).check(
        organization_id="acme",
        agent_id="a",
        estimated_cost_usd=Decimal(asked.cost_nano) / NANO,
        estimated_input_tokens=asked.input_tokens,
        estimated_output_tokens=asked.output_tokens,
    )
    return enforced(fields, day, month, asked), checked, decision


def assert_alike(fields, day, month, asked):
    result, checked, decision = all_three(fields, day, month, asked)
    assert result.allowed == checked.allowed
    assert result.degraded_mode == checked.degraded
    assert result.warning_triggered == (checked.allowed and decision.state != "ok")
    if checked.state != "ok":  # the gateway names no state of a scope with nothing to say
        assert checked.state == decision.state
    elif checked.allowed:
        assert decision.state == "ok"
    if not checked.allowed:
        assert checked.reason == f"{AGENT.key} in {window_of(result.reason)}: {result.reason}"
    softly = enforced(fields | {"enforcement_mode": "soft"}, day, month, asked)
    assert softly.warning_triggered == (decision.state != "ok")  # of blocked calls as well
    return decision.state, checked.allowed


def window_of(reason):
    return DAY if reason.startswith("daily") else MONTH


small = st.integers(0, 12)
usd = small.map(lambda tenths: Decimal(tenths) / 10)
limits = {name: st.none() | (usd if name.endswith("_usd") else small) for name in LIMIT_FIELDS}
thresholds = st.sampled_from(["0.25", "0.333333", "0.5", "0.75", "0.9", "1"]).map(Decimal)
amounts = st.builds(
    lambda tenths, more, *counts: Amounts(tenths * TENTH + more, *counts),
    small,
    st.sampled_from([0, 0, 1]),
    *[small] * 3,
)
asks = st.builds(
    lambda tenths, more, *tokens: Amounts(tenths * TENTH + more, 1, *tokens),
    *[st.integers(0, 4), st.sampled_from([0, 0, 1]), st.integers(0, 4), st.integers(0, 4)],
)


@st.composite
def budgets(draw):
    low, high = sorted([draw(thresholds), draw(thresholds)])
    found = draw(st.fixed_dictionaries(limits))
    kept = draw(st.sets(st.sampled_from(LIMIT_FIELDS), min_size=1, max_size=4))
    return {name: value for name, value in found.items() if name in kept} | {
        "monthly_execution_limit": found["monthly_execution_limit"],
        "warning_threshold": low,
        "degradation_threshold": high,
        "enforcement_mode": draw(st.sampled_from(["hard", "soft"])),
    }


@given(budgets(), amounts, amounts, asks)
@example(
    {"monthly_budget_usd": Decimal(0), "monthly_execution_limit": None}, NOTHING, NOTHING, NOTHING
)
@example(
    {"daily_budget_usd": Decimal(1), "enforcement_mode": "soft", "monthly_execution_limit": None},
    Amounts(NANO),
    Amounts(NANO),
    Amounts(1, 1),
)
def test_they_decide_alike(fields, day, month, asked):
    """Allowed, degraded, warned and why, by whichever of them is asked."""
    state, allowed = assert_alike(fields, day, month, asked)
    event(f"{state}, {'allowed' if allowed else 'blocked'}")


@pytest.mark.parametrize("mode", ["hard", "soft"])
@pytest.mark.parametrize("name", LIMIT_FIELDS)
def test_they_meet_every_line_alike(name, mode):
    """Just below, at and above each threshold and the limit, of every kind of limit."""
    unit = TENTH if name.endswith("_usd") else 1
    limit = Decimal(8) / 10 if name.endswith("_usd") else 8
    fields = {"monthly_execution_limit": None, name: limit, "enforcement_mode": mode}
    states = set()
    for used in range(10):
        if name.endswith("_usd"):
            had = Amounts(used * unit)
        elif "execution" in name:
            had = Amounts(0, used)
        else:
            had = Amounts(0, 0, *((0, used) if "output" in name else (used, 0)))
        day, month = (had, NOTHING) if name.startswith("daily") else (NOTHING, had)
        for asked in (Amounts(0, 1), Amounts(TENTH, 1, 1, 1), Amounts(TENTH * 9, 1, 9, 9)):
            states.add(assert_alike(fields, day, month, asked))
    assert {state for state, _ in states} == {"ok", "warning", "exceeded"}
    assert {allowed for _, allowed in states} == ({True} if mode == "soft" else {True, False})


def test_a_new_day_frees_by_each_ones_clock():
    """The stream's decision of yesterday, and the budget that was counted on then."""
    fields = {"daily_budget_usd": Decimal(1), "monthly_execution_limit": None}
    used = Amounts(NANO)
    gateway = gateway_over(publish(Budget(**fields), used, used))
    call = {"organization_id": "acme", "agent_id": "a", "estimated_cost_usd": 1}
    assert not gateway.check(**call).allowed
    tomorrow = NOW + timedelta(hours=12)
    gateway._clock = tomorrow.timestamp
    budget = ExternalAgentBudget("a", None, counted_at=NOW, **fields)
    budget.set_used("daily", used)
    enforcer = ExternalAgentBudgetEnforcer(clock=Clock(tomorrow))
    assert gateway.check(**call).allowed
    assert asyncio.run(enforcer.check_budget(budget, 1)).allowed
