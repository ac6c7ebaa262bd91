"""What the demo's fleet does: the same each time, and enough to reach every state."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from outlay.demo.plan import AGENT_BUDGETS_MAX, PROBE_AGENT_ID, REST_BUDGETS_MAX, plan_budgets
from outlay.demo.run import DemoOptions, make_workload
from outlay.demo.workload import CALLS_PER_AGENT_S, Fleet, Replay
from outlay.money import to_nano
from outlay.scope import Scope
from outlay.trace import Roster, Trace

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ROSTER = Roster(agents=30, users=12, teams=4)


def test_a_fleet_does_the_same_each_time():
    """Its calls follow from its seed; another seed makes other calls."""
    calls = list(Fleet(ROSTER, 5.0).calls(0, 1))
    assert calls == list(Fleet(ROSTER, 5.0).calls(0, 1))
    assert calls != list(Fleet(ROSTER, 5.0, seed=1).calls(0, 1))


def test_parts_are_the_whole():
    """However the agents are shared among threads, the same calls are made, each part in order."""
    fleet = Fleet(ROSTER, 5.0)
    parts = [list(fleet.calls(part, 3)) for part in range(3)]
    assert sorted(call for part in parts for call in part) == list(fleet.calls(0, 1))
    for part in parts:
        assert all(a.due_s <= b.due_s for a, b in pairwise(part))


def test_the_pace_is_as_stated():
    """Each agent makes about so many calls a second, within the duration."""
    calls = list(Fleet(ROSTER, 20.0).calls(0, 1))
    assert all(0 <= call.due_s < 20.0 for call in calls)
    assert len(calls) == pytest.approx(ROSTER.agents * 20.0 * CALLS_PER_AGENT_S, rel=0.1)


def test_costs_are_those_of_the_price_list():
    """A call costs what its tokens cost, and its prompt a part of that."""
    for call in Fleet(ROSTER, 2.0).calls(0, 1):
        assert 0 < call.prompt_nano < call.cost_nano
        assert call.input_tokens > 0
        assert call.output_tokens > 0


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    rows = [f"2023-11-16 18:{minute:02d}:00,{100 + minute},{minute}" for minute in range(60)]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows))
    return Trace(path)


def test_a_replay_makes_every_call_of_the_trace_once(trace):
    """Over the duration, with the times of the trace moved to now."""
    replay = Replay(trace, ROSTER, 6.0, NOW)
    calls = sorted(call for part in range(3) for call in replay.calls(part, 3))
    assert [call.input_tokens for call in calls] == [call.input_tokens for call in trace.calls()]
    assert all(0 <= call.due_s < 6.0 for call in calls)
    assert calls[-1].occurred_at == NOW


def test_expectations_are_the_sums_of_the_calls(trace):
    """Of the organization, and the same money again in each kind of scope."""
    for workload in (Fleet(ROSTER, 3.0), Replay(trace, ROSTER, 3.0, NOW)):
        expected = workload.expected_nano("acme")
        total = sum(call.cost_nano for call in workload.calls(0, 1))
        assert expected[Scope("acme").key] == total
        for kind in ("team", "user", "member", "agent"):
            of_kind = [nano for key, nano in expected.items() if Scope.parse(key).kind == kind]
            assert sum(of_kind) == total


def test_budgets_are_for_all_kinds_of_scope():
    """The organization, every team, some users and agents, and the probe; some through REST."""
    plan = plan_budgets(Fleet(ROSTER, 5.0), "acme")
    scopes = plan.scopes("acme")
    kinds = [scope.kind for scope in scopes]
    assert kinds.count("organization") == 1
    assert kinds.count("team") == ROSTER.teams
    assert kinds.count("agent") == AGENT_BUDGETS_MAX + 1
    assert Scope("acme", agent_id=PROBE_AGENT_ID) in scopes
    assert len(plan.patches) == REST_BUDGETS_MAX
    assert len(set(scopes)) == len(scopes)


def test_some_budgets_run_out_and_some_do_not():
    """Whatever the workload: otherwise the demo could not show all states."""
    fleet = Fleet(ROSTER, 5.0)
    expected = fleet.expected_nano("acme")
    plan = plan_budgets(fleet, "acme")
    shares = [
        expected[scope.key] / to_nano(budget.monthly_budget_usd)
        for scope, budget in plan.budgets.items()
        if scope.kind == "team"
    ]
    assert min(shares) < 0.75
    assert max(shares) > 1.25


def test_the_smallest_fleet_works():
    """One agent is its own user and team."""
    workload = make_workload(DemoOptions(agents=1, duration_s=5.0), NOW)
    assert len(plan_budgets(workload, "acme").scopes("acme")) == 5
