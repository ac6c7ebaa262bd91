"""A training's report: on every way out, to whoever asks, whatever ended it."""

import asyncio
import logging

import pytest

from outlay.training import BudgetEnforcer, BudgetExceededError, TrainingBudget


@pytest.fixture
def enforcer():
    return BudgetEnforcer(10)


def raised(*errors):
    return ExceptionGroup("tasks", errors)


@pytest.mark.parametrize(
    ("error", "ended_by"),
    [
        (RuntimeError("out of memory"), "failed"),
        (ValueError("a bad batch"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(1), "interrupted"),
        (asyncio.CancelledError(), "interrupted"),
        (BudgetExceededError("another budget"), "budget_exceeded"),
        (raised(BudgetExceededError("no room")), "budget_exceeded"),
        (raised(BudgetExceededError("no room"), OSError()), "failed"),
        (BaseExceptionGroup("tasks", [KeyboardInterrupt()]), "interrupted"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("is_async", [False, True])
def test_every_way_out_is_reported(enforcer, error, ended_by, is_async):
    """In the attribute and to `on_end`; the error goes on to whoever called."""
    reports = []
    budget = TrainingBudget(enforcer, on_end=reports.append)

    def run():
        with budget as entered:
            entered.step(1)
            raise error

    async def arun():
        async with budget as entered:
            entered.step(1)
            raise error

    caught = None
    try:
        if is_async:
            coroutine = arun()
            coroutine.send(None)  # no loop, which would make something of a KeyboardInterrupt
        else:
            run()
    except BaseException as found:
        caught = found
    assert caught is error
    assert reports == [budget.report]
    assert (budget.report.ended_by, budget.report.steps, budget.report.cost_usd) == (ended_by, 1, 1)


def test_a_failing_callback_hides_nothing(enforcer, caplog):
    """What it raises is logged; the error that ended the training goes on."""

    def fail(report):
        raise OSError("no disk")

    with pytest.raises(KeyboardInterrupt), TrainingBudget(enforcer, on_end=fail):
        raise KeyboardInterrupt
    assert "no disk" in caplog.text


def test_the_end_is_logged(enforcer, caplog):
    """With all of the report as fields; louder where it did not complete."""
    caplog.set_level(logging.INFO, "outlay.training")
    with TrainingBudget(enforcer, organization_id="acme", agent_id="a", team_id="t") as budget:
        budget.step("1e-7")
    with pytest.raises(RuntimeError), TrainingBudget(enforcer):
        raise RuntimeError
    completed, failed = (record for record in caplog.records if record.event == "training_ended")
    assert (completed.levelname, failed.levelname) == ("INFO", "WARNING")
    assert (completed.organization_id, completed.team_id) == ("acme", "t")
    assert (completed.cost_usd, completed.steps, completed.ended_by) == (
        "0.0000001",
        1,
        "completed",
    )
    assert completed.remaining_usd == "9.9999999"
    assert "completed): $0.0000001 in 1 steps, $9.9999999 left" in completed.getMessage()
