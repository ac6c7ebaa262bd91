"""The demo's parts, each by itself: the books, the probe, the board, the driver, the display."""

import io
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from rich.console import Console

from outlay import (
    Amounts,
    Budget,
    CheckResult,
    Decision,
    Delivered,
    EmitterStats,
    GatewayStats,
    Scope,
    UsageRecord,
)
from outlay.decision import window_usage
from outlay.demo.board import Board, Row
from outlay.demo.display import BAR_WIDTH, Counts, Display, bar
from outlay.demo.driver import Deployment, Driver
from outlay.demo.ledger import Ledger, Sum
from outlay.demo.plan import PROBE_AGENT_ID
from outlay.demo.probe import Probe
from outlay.demo.workload import Fleet
from outlay.money import to_nano
from outlay.trace import Roster

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TEAM = Scope("acme", team_id="search")
PROBE = Scope("acme", agent_id=PROBE_AGENT_ID)


def record(cost_usd="0.5", at=NOW, **ids):
    return UsageRecord.new(
        organization_id="acme", agent_id=ids.pop("agent_id", "a1"), cost_usd=cost_usd,
        occurred_at=at, **ids,
    )  # fmt: skip


def decision(scope, state="ok", limit="10", cost_usd="0", offsets=None, at=NOW):
    usage = window_usage(Amounts(cost_nano=to_nano(cost_usd)), offsets or {})
    budget = Budget(monthly_budget_usd=Decimal(limit))
    return Decision(scope.key, 1, state, budget, {"2026-11": usage}, "r", at)


@dataclass
class FakeGateway:
    """Allows calls as long as there are any left to allow."""

    allowed: int = 10**9
    checks: list = field(default_factory=list)

    def check(self, **asked):
        self.checks.append(asked)
        self.allowed -= 1
        return CheckResult(allowed=self.allowed >= 0)


@dataclass
class FakeEmitter:
    """Keeps what is emitted."""

    emitted: list = field(default_factory=list)

    def emit(self, **fields):
        self.emitted.append(fields)
        return True


# -- the ledger


def test_the_books_have_each_record_in_all_its_scopes():
    """Once each, whatever messages it came in; and how far each partition was filled."""
    ledger = Ledger()
    ledger.delivered(Delivered(0, 4, (record("0.5", team_id="search"), record("0.25"))))
    ledger.delivered(Delivered(1, 7, (record("0.000000001", agent_id="a2", user_id="u"),)))
    ledger.delivered(Delivered(0, 3, (record("1", agent_id="a2"),)))
    assert ledger.sums() == {
        "organization:acme": Sum(4, 1_750_000_001),
        "organization:acme/team:search": Sum(1, 500_000_000),
        "organization:acme/user:u": Sum(1, 1),
        "organization:acme/agent:a1": Sum(2, 750_000_000),
        "organization:acme/agent:a2": Sum(2, 1_000_000_001),
    }
    assert ledger.offsets == {0: 4, 1: 7}


def test_the_books_know_the_months():
    """All of them, and the sums are over all."""
    ledger = Ledger()
    last = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    first = datetime(2026, 12, 1, tzinfo=UTC)
    ledger.delivered(Delivered(0, 0, (record(at=last), record(at=first))))
    assert ledger.months == ["2026-11", "2026-12"]
    assert ledger.sums()["organization:acme"] == Sum(2, 1_000_000_000)


# -- the probe


class Clock:
    """A clock that is set by hand."""

    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def probing():
    clock, emitter = Clock(), FakeEmitter()
    return Probe(Deployment("acme", FakeGateway(), emitter), clock), emitter, clock


def probe_record(emitter, number=-1):
    fields = emitter.emitted[number]
    return record(fields["cost_usd"], agent_id=fields["agent_id"], id=fields["id"])


def test_a_sample_lasts_from_emit_to_the_decision_that_contains_it(probing):
    """An earlier decision does not end it, nor one of another scope."""
    probe, emitter, clock = probing
    probe.report()
    probe.delivered(Delivered(2, 10, (probe_record(emitter),)))
    clock.now_s += 0.5
    probe.decided(PROBE.key, decision(PROBE, offsets={2: 9, 0: 50}))
    probe.decided(TEAM.key, decision(TEAM, offsets={2: 10}))
    assert probe.latency.p50_ms is None
    clock.now_s += 0.25
    probe.decided(PROBE.key, decision(PROBE, offsets={2: 10}))
    assert probe.latency == (750.0, 750.0)


def test_a_decision_may_be_seen_before_the_delivery_is_told(probing):
    """The sample ends then."""
    probe, emitter, clock = probing
    probe.report()
    clock.now_s += 0.1
    probe.decided(PROBE.key, decision(PROBE, offsets={0: 3}))
    probe.delivered(Delivered(0, 3, (probe_record(emitter),)))
    assert probe.latency.p50_ms == 100.0


def test_an_unknown_offset_makes_no_sample(probing):
    """A broker that had the message already does not tell where."""
    probe, emitter, _ = probing
    probe.report()
    probe.decided(PROBE.key, decision(PROBE, offsets={0: 3}))
    probe.delivered(Delivered(0, -1, (probe_record(emitter),)))
    assert probe.latency.p50_ms is None


def test_percentiles_are_nearest_ranks(probing):
    """Of 100 samples of 1 to 100 ms: the 50th and the 99th."""
    probe, emitter, clock = probing
    for number in range(100):
        probe.report()
        probe.delivered(Delivered(0, number, (probe_record(emitter),)))
        clock.now_s += (number + 1) / 1000
        probe.decided(PROBE.key, decision(PROBE, offsets={0: number}))
    assert probe.latency == (50.0, 99.0)


def test_a_probe_asks_as_every_agent_does():
    """Where the organization is blocked, it reports nothing."""
    gateway, emitter = FakeGateway(allowed=0), FakeEmitter()
    Probe(Deployment("acme", gateway, emitter)).report()
    assert len(gateway.checks) == 1
    assert emitter.emitted == []


# -- the driver


def drive(fleet, gateway):
    emitter = FakeEmitter()
    driver = Driver(Deployment("acme", gateway, emitter), fleet)
    driver.start()
    while driver.running:
        pass
    driver.stop()
    return emitter


def test_every_call_is_asked_for_and_then_reported():
    """With what its prompt costs beforehand, and with all that it cost afterwards."""
    fleet, gateway = Fleet(Roster(6, 3, 2), 0.5), FakeGateway()
    calls = list(fleet.calls(0, 1))
    emitter = drive(fleet, gateway)
    assert sorted(to_nano(asked["estimated_cost_usd"]) for asked in gateway.checks) == sorted(
        call.prompt_nano for call in calls
    )
    assert sorted(to_nano(fields["cost_usd"]) for fields in emitter.emitted) == sorted(
        call.cost_nano for call in calls
    )


def test_a_blocked_call_is_not_made():
    """So nothing is reported of it."""
    fleet, gateway = Fleet(Roster(6, 3, 2), 0.5), FakeGateway(allowed=2)
    emitter = drive(fleet, gateway)
    assert len(gateway.checks) == len(list(fleet.calls(0, 1))) > 2
    assert len(emitter.emitted) == 2


def test_what_ends_an_agent_ends_the_demo():
    """An error in a thread is not lost."""

    class Broken:
        def check(self, **asked):
            raise LookupError("no")

    driver = Driver(Deployment("acme", Broken(), FakeEmitter()), Fleet(Roster(6, 3, 2), 0.5))
    driver.start()
    while driver.running:
        pass
    with pytest.raises(LookupError):
        driver.stop()


# -- the board and the display


@pytest.fixture
def board():
    board = Board([TEAM.key])
    board.decided(TEAM.key, decision(TEAM, "ok", "10", "0"))
    board.decided(TEAM.key, decision(TEAM, "warning", "10", "7.5"))
    board.decided(TEAM.key, decision(TEAM, "warning", "10", "8"))
    board.decided(PROBE.key, decision(PROBE, "exceeded"))
    return board


def test_the_board_knows_how_its_scopes_stand(board):
    """The last decision counts, and those of other scopes do not."""
    assert board.rows([TEAM.key, PROBE.key]) == [
        Row(TEAM.key, "warning", 8_000_000_000, 10_000_000_000)
    ]
    assert board.states_seen == {"ok", "warning"}
    assert board.count_states() == {"warning": 1}


def test_the_board_tells_each_change_of_state_once(board):
    """A decision whose numbers moved is none."""
    assert board.take_changes() == [(TEAM.key, "ok", "warning")]
    assert board.take_changes() == []


@pytest.mark.parametrize(
    ("spent", "limit", "filled"),
    [(0, 10, 0), (5, 10, BAR_WIDTH // 2), (10, 10, BAR_WIDTH), (15, 10, BAR_WIDTH), (0, 0, 24)],
)
def test_a_bar_is_filled_by_the_spent_share(spent, limit, filled):
    """And no further than its end."""
    drawn = bar(Row("x", "ok", spent, limit))
    assert len(drawn) == BAR_WIDTH
    assert drawn.count("█") == filled


COUNTS = Counts(GatewayStats(1_000, 20), EmitterStats(980, 970, 0, 0, 0, 10))


def test_elsewhere_than_in_a_terminal_it_is_plain_lines(board):
    """A line for each change of state, and one with the counts now and then."""
    lines = []
    console = Console(file=io.StringIO(), force_terminal=False)
    with Display(console, lines.append, board, [TEAM.key]) as display:
        display.update(COUNTS)
        display.update(COUNTS)
    assert lines == [
        "team:search: ok → warning",
        "calls checked 1,000, blocked 20; records sent 970; "
        "budgets ok 0, warning 1, degraded 0, exceeded 0",
    ]
    assert console.file.getvalue() == ""


def test_in_a_terminal_it_is_a_live_picture(board):
    """With a row a scope: its state, what is spent, the bar, the limit."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Display(console, lambda line: None, board, [TEAM.key]) as display:
        display.update(COUNTS)
    shown = console.file.getvalue()
    for part in ("team:search", "warning", "$8.00", "█", "$10.00", "blocked 20", "ok → "):
        assert part in shown
