"""The demo's self-check: it holds when all agree, and fails when any number is off."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from outlay import Amounts, Budget, Decision, EmitterStats, GatewayStats, Scope
from outlay.decision import window_usage
from outlay.demo.alarms import Alarms, crossings_in
from outlay.demo.evidence import Evidence, counted_in
from outlay.demo.ledger import Sum
from outlay.demo.probe import Latency
from outlay.demo.receiver import Arrival

ORGANIZATION = Scope("acme").key
TEAM = Scope("acme", team_id="search").key
USER = Scope("acme", user_id="u7").key
AGENT = Scope("acme", agent_id="a1").key

ARRIVAL = Arrival(
    "alt_1", True, "budget.threshold", USER, "2026-11-21", Decimal("0.5"), Decimal("0.51")
)

GOOD = Evidence(
    broker="a broker",
    organization_key=ORGANIZATION,
    emitter=EmitterStats(emitted=3, sent=3, failed=0, dropped=0, invalid=0, buffered=0),
    gateway=GatewayStats(checks=5, blocked=2),
    sent={
        ORGANIZATION: Sum(3, 1_230_000_001),
        TEAM: Sum(2, 1_000_000_001),
        USER: Sum(3, 1_230_000_001),
        AGENT: Sum(3, 1_230_000_001),
    },
    counted={ORGANIZATION: Sum(3, 1_230_000_001), TEAM: Sum(2, 1_000_000_001)},
    history={
        ORGANIZATION: Sum(3, 1_230_000_001),
        TEAM: Sum(2, 1_000_000_001),
        AGENT: Sum(3, 1_230_000_001),
    },
    states_seen={"ok", "warning", "degraded", "exceeded"},
    latency=Latency(12.5, 99.0),
    alarms=Alarms(USER, [("2026-11-21", Decimal("0.5"))], [ARRIVAL]),
)


def failed(evidence):
    assert evidence.report()["ok"] is all(check.ok for check in evidence.checks())
    return [check.name for check in evidence.checks() if not check.ok]


def test_all_holds_when_everyone_agrees():
    """Scopes without a budget need not be counted, users need no report."""
    assert failed(GOOD) == []


def test_the_report_says_what_was_found():
    """With amounts as decimal strings, exact to the nano-dollar."""
    assert GOOD.report() == {
        "broker": "a broker",
        "records_sent": 3,
        "records_counted": 3,
        "cost_usd_sent": "1.230000001",
        "cost_usd_counted": "1.230000001",
        "history_rows": 3,
        "history_cost_usd": "1.230000001",
        "states_seen": ["ok", "warning", "degraded", "exceeded"],
        "calls_checked": 5,
        "calls_blocked": 2,
        "alerts": {
            "scope": USER,
            "crossed": [{"window": "2026-11-21", "threshold": "0.5"}],
            "arrived": [
                {
                    "id": "alt_1",
                    "event": "budget.threshold",
                    "window": "2026-11-21",
                    "threshold": "0.5",
                    "verified": True,
                }
            ],
        },
        "decision_latency_ms": {"p50": 12.5, "p99": 99.0},
        "ok": True,
    }


def test_a_scope_in_which_nothing_was_spent_agrees():
    """It has a decision without windows, and is not in the books."""
    idle = Scope("acme", user_id="idle").key
    assert failed(replace(GOOD, counted=GOOD.counted | {idle: Sum()})) == []


@pytest.mark.parametrize("key", [ORGANIZATION, TEAM])
@pytest.mark.parametrize("off", [Sum(1, 0), Sum(-1, 0), Sum(0, 1), Sum(0, -1)])
def test_one_record_or_nano_dollar_off_fails(key, off):
    """In the stream's count or in the history, of the organization or of any other scope."""
    counted = GOOD.counted | {key: GOOD.counted[key] + off}
    assert failed(replace(GOOD, counted=counted)) == ["sent = counted by the stream"]
    history = GOOD.history | {key: GOOD.history[key] + off}
    assert failed(replace(GOOD, history=history)) == ["sent = in the history"]


def test_what_is_missing_or_too_much_fails():
    """A scope that the history does not know, one that nobody sent for, and nothing at all."""
    less = {key: found for key, found in GOOD.history.items() if key != AGENT}
    assert failed(replace(GOOD, history=less)) == ["sent = in the history"]
    other = Scope("acme", agent_id="ghost").key
    more = GOOD.history | {other: Sum(1, 1)}
    assert failed(replace(GOOD, history=more)) == ["sent = in the history"]
    assert failed(replace(GOOD, history={})) == ["sent = in the history"]
    assert failed(replace(GOOD, counted={})) == ["sent = counted by the stream"]


@pytest.mark.parametrize("what", ["failed", "dropped", "invalid", "buffered"])
def test_a_lost_record_fails(what):
    """However it was lost."""
    stats = replace(GOOD.emitter, emitted=4, **{what: 1})
    assert failed(replace(GOOD, emitter=stats)) == ["every record was delivered"]


def test_an_emitter_that_counts_otherwise_fails():
    """Its own count must be that of the books."""
    stats = replace(GOOD.emitter, emitted=4, sent=4)
    assert failed(replace(GOOD, emitter=stats)) == ["every record was delivered"]


@pytest.mark.parametrize("state", ["ok", "warning", "degraded", "exceeded"])
def test_a_state_that_was_not_seen_fails(state):
    """Every one must have been."""
    seen = GOOD.states_seen - {state}
    assert failed(replace(GOOD, states_seen=seen)) == ["every state was seen"]


def test_a_gateway_that_blocked_nothing_fails():
    """The demo is about calls that are not made."""
    assert failed(replace(GOOD, gateway=GatewayStats(5, 0))) == ["the gateway blocked calls"]


def test_a_failed_check_names_the_scope_and_both_sums():
    """So that one knows where to look."""
    broken = replace(GOOD, counted=GOOD.counted | {TEAM: Sum(2, 7)})
    said = next(check.said for check in broken.checks() if not check.ok)
    assert TEAM in said
    assert "2 records, 1.000000001 USD" in said
    assert "2 records, 0.000000007 USD" in said


def test_a_decision_is_read_by_month():
    """Days are parts of months, and months in which nothing was sent do not count."""
    windows = {
        "2026-10": window_usage(Amounts(5, 1), {0: 1}),
        "2026-11": window_usage(Amounts(70, 2), {0: 9}),
        "2026-11-21": window_usage(Amounts(70, 2), {0: 9}),
        "2026-12": window_usage(Amounts(900, 3), {0: 9}),
    }
    now = datetime(2026, 11, 21, tzinfo=UTC)
    decision = Decision(ORGANIZATION, 1, "ok", Budget(), windows, "r", now)
    assert counted_in(decision, ["2026-11"]) == Sum(2, 70)
    assert counted_in(decision, ["2026-11", "2026-12"]) == Sum(5, 970)
    assert counted_in(decision, []) == Sum()


@pytest.mark.parametrize(
    ("arrivals", "said"),
    [
        ([], "missing 0.5 of 2026-11-21"),
        ([ARRIVAL, ARRIVAL], "more than once 0.5 of 2026-11-21"),
        ([ARRIVAL._replace(verified=False)], "wrong signatures 1"),
        ([ARRIVAL._replace(scope=TEAM)], USER),
        ([ARRIVAL, ARRIVAL._replace(threshold=Decimal("0.75"))], "2 of 1"),
    ],
)
def test_it_fails_unless_each_threshold_arrived_once_and_signed(arrivals, said):
    """Not at all, twice, by somebody else, of another budget, or one that was not crossed."""
    evidence = replace(GOOD, alarms=replace(GOOD.alarms, arrivals=arrivals))
    assert failed(evidence) == ["each threshold arrived once, signed"]
    assert said in evidence.alarms.said


def test_nothing_crossed_is_nothing_shown():
    """A demo whose budget crosses no threshold has not checked anything."""
    assert failed(replace(GOOD, alarms=Alarms(USER))) == ["each threshold arrived once, signed"]


def test_what_is_to_arrive_is_what_was_crossed():
    """At and above a threshold, in each window that the budget has a limit for."""
    used = {"2026-11-21": "7.50", "2026-11-22": "0.01", "2026-11": "7.51"}
    amounts = {name: Amounts(int(Decimal(usd) * 10**9), 1) for name, usd in used.items()}
    windows = {name: window_usage(amount, {}) for name, amount in amounts.items()}
    budget = Budget(daily_budget_usd=Decimal(10))
    decision = Decision(USER, 1, "warning", budget, windows, "r", datetime.now(UTC))
    assert crossings_in(decision) == [("2026-11-21", Decimal(t)) for t in ("0.5", "0.75")]
