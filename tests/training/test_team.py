"""A training and the budgets of its team: a gateway is asked before each step, to the nano."""

import threading
import time
from decimal import Decimal
from fractions import Fraction

import pytest

from outlay import (
    Amounts,
    Budget,
    BudgetGateway,
    Decision,
    DecisionFeed,
    Scope,
    Watermark,
)
from outlay.decision import encode, window_usage
from outlay.reading import Message
from outlay.training import BudgetExceededError
from tests.library.library_fakes import NOW, NOW_S, Clock
from tests.training.fakes import IDS, THIRD_OF_A_CENT, FakeEmitter, FakeGateway, training


def test_the_teams_budget_ends_a_training_that_has_room_itself():
    """The gateway's answer is in the error; nothing of the step was added."""
    emitter = FakeEmitter()
    gateway = FakeGateway(emitter, "1")
    with training("10", emitter, gateway) as budget:
        budget.step("0.6")
        before = budget.report
        with pytest.raises(BudgetExceededError, match="training stopped: the team's") as caught:
            budget.step("0.6")
        assert caught.value.result.allowed is False
        assert budget.report == before
    assert budget.report.total_cost_usd == Decimal("0.6")
    assert budget.report.ended_by == "budget_exceeded"
    assert len(emitter.taken) == 1


def test_a_gateway_is_asked_for_what_the_step_would_add():
    """With its ids, one execution, and the cost that its record will have."""
    emitter = FakeEmitter()
    gateway = FakeGateway(emitter, "1")
    with training(emitter=emitter, gateway=gateway) as budget:
        budget.step("0.0000000004", input_tokens=5, output_tokens=7)
        budget.step("0.0000000004")
    asked = {name: gateway.asked[0][name] for name in IDS}
    assert asked == IDS
    assert [a["estimated_cost_usd"] for a in gateway.asked] == [0, Decimal("1e-9")]
    assert [a["executions"] for a in gateway.asked] == [1, 1]
    assert [a["estimated_input_tokens"] for a in gateway.asked] == [5, 0]
    assert [a["estimated_output_tokens"] for a in gateway.asked] == [7, 0]


def test_thirds_that_fit_the_teams_budget_to_the_nano_are_taken():
    """Rounding each ask up would refuse the last of three thirds."""
    emitter = FakeEmitter()
    with training(emitter=emitter, gateway=FakeGateway(emitter, "0.01")) as budget:
        for _ in range(3):
            budget.step(THIRD_OF_A_CENT)
        with pytest.raises(BudgetExceededError):
            budget.step(THIRD_OF_A_CENT)
    assert emitter.nano == 10_000_000


def test_a_gateway_alone_is_asked_without_an_emitter():
    """For each step's own cost: nobody is owed what came before."""
    gateway = FakeGateway(FakeEmitter(), "1")
    with training(gateway=gateway) as budget:
        budget.step("0.4")
        budget.step("0.7")
        with pytest.raises(BudgetExceededError):
            budget.step("1.1")
    assert [a["estimated_cost_usd"] for a in gateway.asked] == [
        Decimal("0.4"),
        Decimal("0.7"),
        Decimal("1.1"),
    ]


def test_a_recorded_cost_that_passes_the_teams_budget_ends_the_training():
    """Exactly the team's limit goes on; above it the cost is there, and the training ends."""
    emitter = FakeEmitter()
    with training("10", emitter, FakeGateway(emitter, "1")) as budget:
        budget.record(1)
        with pytest.raises(BudgetExceededError, match="the team's"):
            budget.record("0.000000001")
    assert emitter.nano == 1_000_000_001
    assert budget.report.ended_by == "budget_exceeded"


def test_a_gateway_that_fails_takes_no_step():
    """Its error goes on, and nothing was added."""

    class Failing:
        def check(self, **asked):
            raise OSError("gone")

    emitter = FakeEmitter()
    with pytest.raises(OSError, match="gone"), training("1", emitter, Failing()) as budget:
        budget.step("0.1")
    assert (budget.report.steps, budget.report.ended_by) == (0, "failed")
    assert not emitter.taken


def test_threads_pass_no_limit_of_the_team():
    """A step is asked for, added and emitted before the next one is asked for."""

    class SlowGateway(FakeGateway):
        def check(self, **asked):
            answer = super().check(**asked)
            time.sleep(0.0002)  # the other threads' turn
            return answer

    emitter = FakeEmitter()
    refusals = []

    def work():
        for _ in range(100):
            try:
                budget.step("0.001")
            except BudgetExceededError as error:
                refusals.append(error)

    with training("10", emitter, SlowGateway(emitter, "0.25")) as budget:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert emitter.nano == 250_000_000
    assert (budget.report.steps, len(refusals)) == (250, 150)
    assert Fraction(budget.report.cost_usd) == Fraction(1, 4)


def test_the_gateway_of_the_library_answers_for_all_scopes():
    """Its answer says which budget ended the training: here the user's, which was used up."""
    feed = DecisionFeed(monotonic=Clock(1.0), wall=Clock(NOW_S))
    feed.state.partitions, feed.state.ready = 1, True
    user = Scope("acme", user_id="u7")
    usages = {"2026-11": window_usage(Amounts(99 * 10**9), {})}
    budget = Budget(monthly_budget_usd=Decimal(100))
    decision = encode(Decision(user.key, 1, "ok", budget, usages, "r", NOW))
    for key, value in ((b"watermark", encode(Watermark({}, NOW))), (user.key.encode(), decision)):
        feed.state.apply(Message(0, 0, key, value), 1.0, NOW_S)
    gateway = BudgetGateway(feed=feed, clock=Clock(NOW_S))
    with training(gateway=gateway) as budget:
        budget.step(1)
        with pytest.raises(BudgetExceededError, match="monthly budget exceeded") as caught:
            budget.step("1.01")
    assert caught.value.result == gateway.check(**IDS, estimated_cost_usd="1.01")
    assert caught.value.result.scope == user.key
