"""A training's usage in the stream: nothing is lost by rounding, nor by a refused record."""

import logging
from decimal import ROUND_HALF_EVEN, Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay import UsageEmitter
from outlay.framing import decode_message
from outlay.money import to_nano
from outlay.training import BudgetExceededError
from tests.library.library_fakes import FakeSender, FakeTopic
from tests.training.fakes import IDS, THIRD_OF_A_CENT, FakeEmitter, training

EXACT = Context(prec=200)


def rounded_nano(amount):
    return int(amount.quantize(Decimal("1e-9"), ROUND_HALF_EVEN, EXACT).scaleb(9, EXACT))


def test_a_step_goes_out_as_usage_of_its_team():
    """With all ids, the cost and the tokens, as one execution; the metadata goes to the history."""
    emitter = FakeEmitter()
    with training(emitter=emitter) as budget:
        budget.step("0.25", input_tokens=5, output_tokens=7, metadata={"epoch": 1})
        budget.record("0.5")
    first, second = emitter.taken
    assert {name: getattr(first, name) for name in IDS} == IDS
    assert (first.cost_usd, first.executions, first.kind) == ("0.25", 1, "usage")
    assert (first.input_tokens, first.output_tokens) == (5, 7)
    assert bytes(first.metadata) == b'{"epoch":1}'
    assert (second.cost_usd, second.executions, bytes(second.metadata)) == ("0.50", 1, b"{}")


def test_a_thousand_thirds_of_a_cent_are_emitted_to_the_nano():
    """Each is rounded with what rounding left of those before: nothing is lost."""
    emitter = FakeEmitter()
    with training(emitter=emitter) as budget:
        for _ in range(1000):
            budget.step(THIRD_OF_A_CENT)
    assert emitter.nano == rounded_nano(budget.report.cost_usd) == 3_333_333_333
    assert {record.cost_usd for record in emitter.taken} == {"0.003333333", "0.003333334"}
    assert len(emitter.taken) == 1000


amounts = st.decimals(0, 2, allow_nan=False, places=12)


@given(st.lists(amounts, max_size=20), st.sets(st.integers(0, 19)))
def test_what_the_stream_has_and_what_it_is_owed_is_the_rounded_sum(steps, refuses):
    """For any costs and refusals; what is refused goes with the next record."""
    emitter = FakeEmitter(refuses)
    with training(emitter=emitter) as budget:
        for cost in steps:
            budget.step(cost)
            report = budget.report
            owed_nano = int(report.cost_not_emitted_usd * 10**9)
            assert emitter.nano + owed_nano == rounded_nano(report.cost_usd)
    refused = len([each for each in refuses if each < len(steps)])
    assert budget.report.steps_not_emitted == refused
    executions = sum(record.executions for record in emitter.taken)
    assert executions == len(steps) or emitter.offers - 1 in refuses


def test_a_refused_record_is_counted_and_goes_with_the_next(caplog):
    """Cost, execution and tokens; one line says so, the report has the number."""
    emitter = FakeEmitter(refuses={0, 1})
    with training(emitter=emitter) as budget:
        for _ in range(3):
            budget.step("0.10", input_tokens=2, output_tokens=3)
        budget.step("0.10")
    assert [(r.cost_usd, r.executions, r.input_tokens, r.output_tokens) for r in emitter.taken] == [
        ("0.30", 3, 6, 9),
        ("0.10", 1, 0, 0),
    ]
    assert (budget.report.steps_not_emitted, budget.report.cost_not_emitted_usd) == (2, 0)
    events = [record.event for record in caplog.records]
    assert events.count("training_step_not_emitted") == 1


def test_the_end_offers_once_more_what_was_refused():
    """So that a buffer that was full for a moment costs nothing."""
    emitter = FakeEmitter(refuses={1})
    with training(emitter=emitter) as budget:
        budget.step("0.1")
        budget.step("0.2")
        assert budget.report.cost_not_emitted_usd == Decimal("0.2")
    assert emitter.nano == 300_000_000
    assert (budget.report.steps_not_emitted, budget.report.cost_not_emitted_usd) == (1, 0)


class Broken:
    """An emitter that breaks its word."""

    def emit(self, **fields):
        raise OSError("gone")


@pytest.mark.parametrize("emitter", [FakeEmitter(refuses=range(100)), Broken()])
def test_what_no_emitter_takes_is_said(emitter, caplog):
    """The training goes on, its sum is right, and the end says what the stream lacks."""
    caplog.set_level(logging.INFO, "outlay.training")
    with training(emitter=emitter) as budget:
        for _ in range(3):
            budget.step("0.10")
    report = budget.report
    assert (report.steps, report.cost_usd, report.ended_by) == (3, Decimal("0.3"), "completed")
    assert (report.steps_not_emitted, report.cost_not_emitted_usd) == (3, Decimal("0.3"))
    ended = caplog.records[-1]
    assert (ended.event, ended.levelname) == ("training_ended", "WARNING")
    assert (ended.steps_not_emitted, ended.cost_not_emitted_usd) == (3, "0.300000000")


def test_a_refused_step_emits_nothing():
    """Neither then nor with the next."""
    emitter = FakeEmitter()
    with training("1", emitter) as budget:
        budget.step("0.6")
        with pytest.raises(BudgetExceededError):
            budget.step("0.6")
        budget.step("0.4")
    assert [record.cost_usd for record in emitter.taken] == ["0.60", "0.40"]


def test_what_was_recorded_is_emitted_also_where_it_exceeds():
    """It was spent."""
    emitter = FakeEmitter()
    with pytest.raises(BudgetExceededError), training("1", emitter) as budget:
        budget.record("1.5")
    assert emitter.nano == 1_500_000_000


def test_the_largest_costs_stay_within_what_a_record_may_hold():
    """What one record cannot hold goes with the next."""
    emitter = FakeEmitter(refuses={0})
    most = "999999999.9999999994"
    with training("1", emitter) as budget:
        for _ in range(2):
            with pytest.raises(BudgetExceededError):
                budget.record(most)
    assert [record.cost_usd for record in emitter.taken] == ["999999999.999999999"] * 2
    assert emitter.nano + int(budget.report.cost_not_emitted_usd * 10**9) == rounded_nano(
        budget.report.cost_usd
    )


def test_the_emitter_of_the_library_takes_what_a_training_reports():
    """As records that the stream reads, one for each step."""
    topic = FakeTopic()
    with (
        UsageEmitter(sender_factory=lambda: FakeSender(topic)) as emitter,
        training(emitter=emitter) as budget,
    ):
        for _ in range(3):
            budget.step(THIRD_OF_A_CENT, metadata={"epoch": 1})
    records = [record for *_, value in topic.messages() for record in decode_message(value)]
    assert sum(to_nano(record.cost_usd) for record in records) == 10_000_000
    assert [{name: getattr(record, name) for name in IDS} for record in records] == [IDS] * 3
    assert (emitter.stats.sent, emitter.stats.invalid) == (3, 0)
