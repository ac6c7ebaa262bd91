"""The log of a training's budget: one event for each line crossed, with fields for machines."""

import json
import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.training import BudgetEnforcer

LINES = ("warning_75", "warning_90", "exceeded")


class Kept(logging.Handler):
    """Keeps the events that a logger is given."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def take(self):
        """The statuses of the crossings since the last time."""
        records, self.records = self.records, []
        return [record.status for record in records if record.event == "budget_threshold_crossed"]


@pytest.fixture(scope="module")
def kept():
    handler, logger = Kept(), logging.getLogger("outlay.training")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def forget(kept):
    kept.records.clear()


def test_each_line_is_logged_once(kept):
    """When its amount is reached, and not again while the cost stays above it."""
    enforcer = BudgetEnforcer(100)
    seen = []
    for _ in range(120):
        enforcer.add_cost(1)
        seen.append(kept.take())
    assert {n + 1: events for n, events in enumerate(seen) if events} == {
        75: ["warning_75"],
        90: ["warning_90"],
        101: ["exceeded"],
    }


def test_a_jump_over_several_logs_each_in_order(kept):
    """From the lowest, added or set."""
    enforcer = BudgetEnforcer(100)
    enforcer.add_cost(95)
    assert kept.take() == ["warning_75", "warning_90"]
    enforcer.reset()
    enforcer.current_cost_usd = 101
    assert kept.take() == list(LINES)


def test_asking_and_what_is_refused_log_nothing(kept):
    """A projected cost is not a crossing."""
    enforcer = BudgetEnforcer(100)
    enforcer.check_budget_available(95)
    enforcer.try_add_cost(101)
    assert kept.take() == []
    enforcer.try_add_cost(75)
    assert kept.take() == ["warning_75"]


def test_what_falls_below_a_line_may_cross_it_again(kept):
    """By `reset` all, by a lower cost those above it."""
    enforcer = BudgetEnforcer(100)
    enforcer.add_cost(101)
    kept.take()
    enforcer.current_cost_usd = 80
    assert kept.take() == []
    enforcer.add_cost(21)
    assert kept.take() == ["warning_90", "exceeded"]
    enforcer.reset()
    enforcer.add_cost(75)
    assert kept.take() == ["warning_75"]


def test_a_limit_of_zero_has_one_line(kept):
    """The limit itself: a share of nothing is none."""
    enforcer = BudgetEnforcer(0)
    enforcer.add_cost(0)
    assert kept.take() == []
    enforcer.add_cost("0.01")
    assert kept.take() == ["exceeded"]


@given(costs=st.lists(st.tuples(st.booleans(), st.integers(0, 130)), max_size=30))
def test_events_are_the_lines_between_two_costs(kept, costs):
    """For any course of added and of set costs."""
    kept.take()
    enforcer, before = BudgetEnforcer(100), 0
    for is_set, cost in costs:
        if is_set:
            enforcer.current_cost_usd = after = cost
        else:
            enforcer.add_cost(cost)
            after = before + cost
        at = dict(zip(LINES, (75, 90, 101), strict=True))
        assert kept.take() == [line for line in LINES if before < at[line] <= after]
        before = after


def test_threads_log_each_line_once(kept):
    """Whichever thread crosses it."""
    enforcer = BudgetEnforcer(100)
    threads = [
        threading.Thread(target=lambda: [enforcer.add_cost("0.1") for _ in range(400)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kept.take()) == sorted(LINES)


def test_the_fields_are_for_machines(kept):
    """Amounts as decimal strings, the utilization as a number; all of it goes into JSON."""
    enforcer = BudgetEnforcer("2.0e1", "0.5", "0.625")
    enforcer.add_cost("15.000000000000000000000000000001")
    enforcer.add_cost("6")
    names = (
        "event",
        "status",
        "threshold",
        "current_cost_usd",
        "max_budget_usd",
        "utilization_percentage",
    )
    found = [
        [record.levelname, *(getattr(record, name) for name in names)] for record in kept.records
    ]
    event, cost = "budget_threshold_crossed", "15.000000000000000000000000000001"
    over = "21.000000000000000000000000000001"
    assert found == [
        ["WARNING", event, "warning_75", "0.5", cost, "20", 75.0],
        ["WARNING", event, "warning_90", "0.625", cost, "20", 75.0],
        ["ERROR", event, "exceeded", "1", over, "20", 105.0],
    ]
    assert json.loads(json.dumps(found)) == found
    assert [record.getMessage() for record in kept.records] == [
        f"training budget at 50 % or above: ${cost} spent of $20",
        f"training budget at 62.5 % or above: ${cost} spent of $20",
        f"training budget exceeded: ${over} spent of $20",
    ]


def test_structlog_takes_the_fields(kept):
    """Its formatter finds them in the record's extra."""
    structlog = pytest.importorskip("structlog")
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    BudgetEnforcer(1).add_cost("0.8")
    (record,) = kept.records
    fields = json.loads(formatter.format(record))
    assert fields["event"] == "budget_threshold_crossed"
    assert (fields["threshold"], fields["current_cost_usd"]) == ("0.75", "0.80")


def test_whoever_handles_an_event_may_ask_the_enforcer(kept):
    """No lock is held while an event is written."""
    enforcer, found = BudgetEnforcer(1), []

    class Asking(logging.Handler):
        def emit(self, record):
            found.append(enforcer.try_add_cost("0.01"))

    handler = Asking()
    logging.getLogger("outlay.training").addHandler(handler)
    try:
        enforcer.add_cost("0.8")
    finally:
        logging.getLogger("outlay.training").removeHandler(handler)
    assert found == [(True, "warning_75")]
    assert str(enforcer.current_cost_usd) == "0.81"
