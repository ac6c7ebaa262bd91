"""A training's arguments: what cannot be is said at once, and nothing comes of it."""

import pytest

from outlay.training import BudgetEnforcer, TrainingBudget


@pytest.fixture
def enforcer():
    return BudgetEnforcer(10)


async def later(report):
    """A callback that nobody would wait for."""


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"enforcer": 10}, "enforcer"),
        ({"on_end": later}, "on_end"),
        ({"on_end": "print"}, "on_end"),
        ({"organization_id": ""}, "organization_id"),
        ({"organization_id": "a", "team_id": ""}, "team_id"),
        ({"organization_id": "a", "user_id": 7}, "user_id"),
        ({"agent_id": "x" * 257}, "agent_id"),
        ({"emitter": object(), "agent_id": "a"}, "organization_id"),
        ({"emitter": object(), "organization_id": "a"}, "agent_id"),
        ({"gateway": object()}, "organization_id"),
    ],
)
def test_wrong_arguments_are_value_errors(enforcer, arguments, match):
    """Said when it is made."""
    with pytest.raises(ValueError, match=match):
        TrainingBudget(**{"enforcer": enforcer} | arguments)


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": -1},
        {"output_tokens": 1.0},
        {"input_tokens": True},
        {"output_tokens": 10**12 + 1},
        {"metadata": {"x": "y" * 20_000}},
        {"metadata": {"x": object()}},
        {"metadata": [1]},
    ],
)
def test_a_step_that_the_stream_would_reject_is_a_value_error(enforcer, usage):
    """It is not taken, and not lost later."""
    with TrainingBudget(enforcer) as budget:
        for call in (budget.step, budget.record):
            with pytest.raises(ValueError, match=r"tokens|metadata"):
                call(1, **usage)
    assert budget.report.steps == enforcer.current_cost_usd == 0


def test_a_training_is_not_ended_by_what_is_no_error(enforcer):
    """A text would count as an interruption."""
    budget = TrainingBudget(enforcer)
    with pytest.raises(ValueError, match="what ended"):
        budget.end("done")
    budget.step(1)
    assert budget.end().ended_by == "completed"
