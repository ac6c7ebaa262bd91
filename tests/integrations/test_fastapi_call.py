"""What a handler can say of its call, and what is refused."""

import json
from decimal import Decimal
from typing import Annotated

import pytest
from fastapi import Depends, HTTPException

from outlay import ReservationClosed
from outlay.integrations.fastapi import BudgetCall
from tests.integrations.serving import Serving


def serve(serving, work, **options):
    """A route whose handler does this work with its call."""
    budget = serving.require(**options)

    @serving.app.post("/invoke/{agent_id}")
    async def invoke(agent_id: str, call: Annotated[BudgetCall, Depends(budget)]):
        return work(call)


def test_parts_add_up_to_one_record():
    """Ten times 0.1 is 1; provider and model are recorded where all parts have the same."""

    def work(call):
        for _ in range(10):
            call.spent(0.1, input_tokens=3, output_tokens=1, provider="p", model="m")
        call.spent(0, provider="p", model="other")

    with Serving() as serving:
        serve(serving, work)
        serving.post()
        (record,) = serving.records
        assert (record.cost_usd, record.executions) == ("1.00", 1)
        assert (record.input_tokens, record.output_tokens) == (30, 10)
        assert (record.provider, record.model) == ("p", None)


def test_a_call_can_say_itself_that_it_was_no_success():
    """A handler that answers well about an agent that did not."""
    with Serving() as serving:
        serve(serving, lambda call: call.settle(1, success=False))
        assert serving.post().status_code == 200
        assert serving.spent == [(1, False)]


def test_what_a_call_released_is_not_recorded():
    """An answer from a cache, or one that something else reports; also when it fails then."""

    def work(call):
        call.release()
        assert serving.open == 0
        for say in (lambda: call.settle(1), lambda: call.spent(1), call.release):
            with pytest.raises(ReservationClosed, match="released before"):
                say()
        raise HTTPException(404)

    with Serving() as serving:
        serve(serving, work)
        assert serving.post().status_code == 404
        assert serving.records == ()


def test_a_call_is_said_once():
    """Settled once or in parts, not both; what was said before stays."""

    def settled(call):
        call.settle("0.1")
        for say in (lambda: call.settle(1), lambda: call.spent(1), call.release):
            with pytest.raises(ReservationClosed):
                say()

    def in_parts(call):
        call.spent("0.1")
        for say in (lambda: call.settle(1), call.release):
            with pytest.raises(ReservationClosed):
                say()

    for work in (settled, in_parts):
        with Serving() as serving:
            serve(serving, work)
            assert serving.post().status_code == 200
            assert serving.spent == [(Decimal("0.1"), True)]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1, True, None, "1e99", 10**9])
def test_costs_that_cannot_be_are_refused_where_they_are_said(wrong):
    """Nothing is said then, and the call can go on."""

    def work(call):
        for say in (call.settle, call.spent):
            with pytest.raises(ValueError):
                say(wrong)
        with pytest.raises(ValueError):
            call.spent(1, input_tokens=-1)
        for executions in (-1, True, 10**10):
            with pytest.raises(ValueError):
                call.settle(1, executions=executions)
        call.spent("999999999")
        with pytest.raises(ValueError):
            call.spent("1")  # the sum would be no amount

    with Serving() as serving:
        serve(serving, work)
        assert serving.post().status_code == 200
        assert serving.spent == [(999_999_999, True)]


def test_metadata_is_taken_as_it_is_when_said():
    """What the handler does with it later changes nothing."""

    def work(call):
        metadata = {"a": [1]}
        call.settle(1, metadata=metadata)
        metadata["a"].append(object())

    with Serving() as serving:
        serve(serving, work)
        assert serving.post().status_code == 200
        assert json.loads(bytes(serving.records[0].metadata)) == {"a": [1]}


def test_nothing_more_can_be_said_after_the_end():
    """The record is made; a cost said too late is an error, not lost without a word."""
    kept = []

    def keep(call):
        call.spent(1)
        kept.append(call)

    with Serving() as serving:
        serve(serving, keep)
        serving.post()
        with pytest.raises(ReservationClosed, match="ended before"):
            kept[0].spent(1)
        assert len(serving.records) == 1
