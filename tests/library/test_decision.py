"""Decisions: what travels on the decisions topic, and how a reader takes it."""

from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay import Amounts, Budget, BudgetRequest, Decision, Outcome, Watermark
from outlay.budget import NOTHING
from outlay.decision import (
    decode_decision,
    decode_outcome,
    decode_request,
    decode_watermark,
    encode,
    window_usage,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
amounts = st.builds(
    Amounts,
    cost_nano=st.integers(-(10**24), 10**24),  # a total has no upper bound
    executions=st.integers(-(10**12), 10**15),
    input_tokens=st.integers(-(10**12), 10**18),
    output_tokens=st.integers(-(10**12), 10**18),
)


def decision(**windows):
    budget = Budget(monthly_budget_usd=Decimal("100"), daily_execution_limit=5)
    return Decision("organization:acme", 3, "ok", budget, windows, "request", NOW)


@given(amounts, st.dictionaries(st.integers(0, 1000), st.integers(0, 2**62)))
def test_a_total_goes_out_and_comes_back(total, offsets):
    """Amounts of any size, exactly, and the offsets they contain."""
    usage = window_usage(total, offsets)
    assert usage.amounts == total
    sent = decision(**{"2026-11": usage})
    assert decode_decision(encode(sent)) == sent


def test_a_reader_picks_the_window_by_its_own_day():
    """Nothing is used in a window that a decision does not name: no old one blocks a new day."""
    today, month, tomorrow = Amounts(1), Amounts(2), Amounts(3)
    known = decision(
        **{
            "2026-11-30": window_usage(today, {}),
            "2026-11": window_usage(month, {}),
            "2026-12-01": window_usage(tomorrow, {}),
        }
    )
    assert known.used(date(2026, 11, 30).toordinal()) == (today, month)
    assert known.used(date(2026, 12, 1).toordinal()) == (tomorrow, NOTHING)
    assert known.used(date(2026, 12, 2).toordinal()) == (NOTHING, NOTHING)
    assert known.used(date(2026, 11, 29).toordinal()) == (NOTHING, month)


def test_the_other_messages_go_out_and_come_back():
    """Watermarks, outcomes and requests."""
    watermark = Watermark({0: 5, 7: 0}, NOW)
    assert decode_watermark(encode(watermark)) == watermark
    outcome = Outcome("r", "organization:acme", False, 4, "version is 4", NOW)
    assert decode_outcome(encode(outcome)) == outcome
    request = BudgetRequest(
        request_id="r", scope="organization:acme", action="patch", changes={"daily_budget_usd": "5"}
    )
    assert decode_request(encode(request)) == request


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"[]", b'{"request_id": "", "scope": "s", "action": "put"}']
)
def test_what_is_no_request_is_refused(value):
    """With an error that readers can catch as one kind."""
    with pytest.raises(msgspec.DecodeError):
        decode_request(value)
