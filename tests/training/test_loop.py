"""A training's loop: it stops in time, and says on every way out what was spent."""

import asyncio
import threading
from dataclasses import FrozenInstanceError
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import outlay
from outlay.training import BudgetEnforcer, BudgetExceededError, BudgetStatus, TrainingBudget


@pytest.fixture
def enforcer():
    return BudgetEnforcer(Decimal(10))


def train(budget, *costs):
    """A loop that stops at the first refusal."""
    with budget:
        for cost in costs:
            budget.step(cost)


def test_a_training_within_its_budget_completes(enforcer):
    """Steps add up; exactly the limit fits; the report says what was spent."""
    with TrainingBudget(enforcer) as budget:
        assert budget.step(7) is BudgetStatus.OK
        assert budget.step("0.5") is BudgetStatus.WARNING_75
        assert budget.report.ended_by == "running"
        assert budget.step(2.5) is BudgetStatus.WARNING_90
    report = budget.report
    assert (report.steps, report.cost_usd, report.ended_by) == (3, 10, "completed")
    assert (report.total_cost_usd, report.max_budget_usd, report.remaining_usd) == (10, 10, 0)
    assert report.status is BudgetStatus.WARNING_90
    assert (report.steps_not_emitted, report.cost_not_emitted_usd) == (0, 0)


def test_a_step_that_would_exceed_ends_the_training(enforcer):
    """It is refused with the amounts, and nothing of it is added."""
    text = r"^training budget exceeded: \$9.00 used \+ \$1.0001 asked > \$10.00 limit$"
    budget = TrainingBudget(enforcer)
    with pytest.raises(BudgetExceededError, match=text) as caught:
        train(budget, 9, "1.0001", "0.1")
    assert isinstance(caught.value, outlay.BudgetExceededError)
    assert isinstance(caught.value, ValueError)
    assert (budget.report.steps, budget.report.cost_usd) == (1, 9)
    assert budget.report.ended_by == "budget_exceeded"
    assert budget.report.status is BudgetStatus.WARNING_90
    assert enforcer.current_cost_usd == 9


def test_a_refused_step_leaves_everything_as_it_was(enforcer):
    """And a smaller one still fits."""
    with TrainingBudget(enforcer) as budget:
        budget.step(9)
        before = budget.report
        for _ in range(2):
            with pytest.raises(BudgetExceededError):
                budget.step(2)
            assert budget.report == before
        budget.step(1)
    assert budget.report.ended_by == "completed"


def test_a_loop_that_stops_at_a_refusal_was_ended_by_the_budget(enforcer):
    """Also where it caught the error, as to save a checkpoint first."""
    with TrainingBudget(enforcer) as budget:
        while True:
            try:
                budget.step(3)
            except BudgetExceededError:
                break
    assert (budget.report.steps, budget.report.ended_by) == (3, "budget_exceeded")


def test_a_cost_known_afterwards_is_added_before_it_ends_the_training(enforcer):
    """Exactly the limit goes on; above it the cost was spent all the same, and counts."""
    text = r"^training budget exceeded: \$10.50 used > \$10.00 limit$"
    with TrainingBudget(enforcer) as budget:
        assert budget.record(10) is BudgetStatus.WARNING_90
        with pytest.raises(BudgetExceededError, match=text):
            budget.record("0.5")
    report = budget.report
    assert (report.steps, report.cost_usd, report.remaining_usd) == (2, 10.5, Decimal("-0.5"))
    assert (report.status, report.ended_by) == (BudgetStatus.EXCEEDED, "budget_exceeded")


def test_an_async_training_says_the_same_words(enforcer):
    """In an event loop, and cancelled in the middle."""

    async def arun(budget, wait):
        async with budget:
            budget.step(4)
            await asyncio.sleep(wait)

    async def both():
        done, cancelled = TrainingBudget(enforcer), TrainingBudget(enforcer)
        await arun(done, 0)
        task = asyncio.create_task(arun(cancelled, 60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return done.report, cancelled.report

    done, cancelled = asyncio.run(both())
    assert (done.ended_by, done.cost_usd, done.total_cost_usd) == ("completed", 4, 4)
    assert (cancelled.ended_by, cancelled.cost_usd, cancelled.total_cost_usd) == (
        "interrupted",
        4,
        8,
    )


def test_the_report_of_the_end_stays(enforcer):
    """It is frozen, and what the enforcer is used for later is not in it."""
    with TrainingBudget(enforcer) as budget:
        budget.step(1)
    report = budget.report
    enforcer.add_cost(5)
    assert budget.report is report
    assert report.total_cost_usd == 1
    with pytest.raises(FrozenInstanceError):
        report.steps = 2


def test_without_a_block_it_is_ended_once(enforcer):
    """`end` reports as leaving the block does; after it there is no further step."""
    reports = []
    budget = TrainingBudget(enforcer, on_end=reports.append)
    budget.step(1)
    assert budget.end(RuntimeError()) is budget.end()
    assert [report.ended_by for report in reports] == ["failed"]
    for call in (budget.step, budget.record):
        with pytest.raises(RuntimeError, match="ended"):
            call(1)
    with pytest.raises(RuntimeError, match="ended"), budget:
        pass
    assert enforcer.current_cost_usd == 1


def test_a_training_begins_once(enforcer):
    """The inner block would end the outer one."""
    with TrainingBudget(enforcer) as budget, pytest.raises(RuntimeError, match="begun"), budget:
        pass
    assert budget.report.ended_by == "completed"


def test_threads_share_a_training_and_never_pass_its_limit():
    """Exactly as many steps are taken as fit, by the enforcer's sum and by the report's."""
    enforcer, refusals = BudgetEnforcer("0.7"), []

    def work():
        for _ in range(300):
            try:
                budget.step("0.001")
            except BudgetExceededError as error:
                refusals.append(error)

    with TrainingBudget(enforcer) as budget:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (budget.report.steps, len(refusals)) == (700, 500)
    assert budget.report.cost_usd == enforcer.current_cost_usd == Decimal("0.7")


def test_trainings_share_an_enforcer(enforcer):
    """Each reports its own cost, and both the same total."""
    with TrainingBudget(enforcer) as one, TrainingBudget(enforcer) as other:
        one.step(6)
        with pytest.raises(BudgetExceededError):
            other.step(5)
        other.step(4)
    assert (one.report.cost_usd, other.report.cost_usd) == (6, 4)
    assert one.report.total_cost_usd == other.report.total_cost_usd == 10


def test_a_training_goes_on_from_a_checkpoint(enforcer):
    """What was spent before counts against the limit, and not as this run's cost."""
    enforcer.current_cost_usd = "8"
    budget = TrainingBudget(enforcer)
    with pytest.raises(BudgetExceededError):
        train(budget, 2, "0.000000001")
    assert (budget.report.cost_usd, budget.report.total_cost_usd) == (2, 10)


amounts = st.decimals(0, 5, allow_nan=False, places=15)


@given(st.lists(st.tuples(st.booleans(), amounts), max_size=20), amounts)
def test_any_course_adds_up(course, limit):
    """Steps never pass the limit by themselves; what was recorded counts in any case."""
    enforcer, total, steps = BudgetEnforcer(limit), Fraction(0), 0
    with TrainingBudget(enforcer) as budget:
        for is_step, cost in course:
            projected = total + Fraction(cost)
            try:
                (budget.step if is_step else budget.record)(cost)
                assert projected <= Fraction(limit)
            except BudgetExceededError:
                assert projected > Fraction(limit)
                if is_step:
                    continue
            total, steps = projected, steps + 1
    assert Fraction(budget.report.cost_usd) == Fraction(enforcer.current_cost_usd) == total
    assert budget.report.steps == steps
