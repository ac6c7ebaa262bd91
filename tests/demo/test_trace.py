"""Traces: read exactly, assigned and priced the same everywhere, shifted as a whole."""

import csv
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.money import to_decimal
from outlay.trace import Prices, Roster, Trace, TraceError, parse_time, usage_record

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROWS = (
    "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.9951690,396,109\n"
    "2023-11-16 19:15:00.0000000,1,1\n"
)
NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(HEADER + ROWS)
    return Trace(path)


def records(trace, roster=None, prices=None, shift=timedelta(0)):
    return [
        usage_record(
            call,
            organization_id="acme",
            roster=roster or Roster(),
            prices=prices or Prices(),
            shift=shift,
        )
        for call in trace.calls()
    ]


def test_a_trace_is_read_as_it_is(trace):
    """Its count, its ends, and each call with its tokens; times without a zone are UTC."""
    assert trace.count == 3
    assert trace.first_at == datetime(2023, 11, 16, 18, 15, 46, 680590, tzinfo=UTC)
    assert trace.last_at == datetime(2023, 11, 16, 19, 15, tzinfo=UTC)
    assert [(call.number, call.input_tokens, call.output_tokens) for call in trace.calls()] == [
        (0, 374, 44),
        (1, 396, 109),
        (2, 1, 1),
    ]


def test_a_zone_that_is_named_counts():
    """Only where there is none it is taken for UTC."""
    assert parse_time("2023-11-16T19:00:00+01:00") == datetime(2023, 11, 16, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column TIMESTAMP, ContextTokens, GeneratedTokens"),
        ("TIMESTAMP,ContextTokens\n", "no column GeneratedTokens"),
        (HEADER, "holds no calls"),
        (HEADER + ROWS + "yesterday,1,1\n", "row 4 after the header"),
        (HEADER + "2023-11-16,-1,1\n", "must not be negative"),
        (HEADER + "2023-11-16,1\n", "row 1 after the header"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path, text, said):
    """With the file, and the line where there is one."""
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match=said):
        Trace(path)


def test_a_file_that_is_not_there_is_an_error_of_ours(tmp_path):
    """The command line says it in one line."""
    with pytest.raises(TraceError, match="cannot be read"):
        Trace(tmp_path / "none.csv")


def test_the_assignment_is_by_number_alone():
    """The same on every machine: these are written down."""
    roster = Roster(agents=200, users=40, teams=8)
    assert roster.caller(0) == ("agent-0033", "user-033", "team-01")
    assert roster.caller(1) == ("agent-0159", "user-039", "team-07")
    assert roster.caller(200) == roster.agent(crc32(bytes(7) + b"\xc8") % 200)


def test_everyone_has_calls():
    """20,000 calls over 200 agents, 40 users and 8 teams leave nobody out."""
    roster = Roster(agents=200, users=40, teams=8)
    callers = [roster.caller(number) for number in range(20_000)]
    assert len({who.agent_id for who in callers}) == 200
    assert len({who.user_id for who in callers}) == 40
    assert len({who.team_id for who in callers}) == 8
    assert min(Counter(who.agent_id for who in callers).values()) > 50


@given(agents=st.integers(1, 60), users=st.integers(1, 60), teams=st.integers(1, 60))
def test_an_agent_has_one_user_and_a_user_one_team(agents, users, teams):
    """Whatever the counts; and counts that would leave some without calls are refused."""
    if not teams <= users <= agents:
        with pytest.raises(ValueError, match="teams <= users <= agents"):
            Roster(agents, users, teams)
        return
    roster = Roster(agents, users, teams)
    everyone = [roster.agent(number) for number in range(agents)]
    assert len({who.agent_id for who in everyone}) == agents
    assert len({who.user_id for who in everyone}) == users
    assert len({who.team_id for who in everyone}) == teams
    assert len({(who.user_id, who.team_id) for who in everyone}) == users


@given(
    tokens_in=st.integers(0, 10**9),
    tokens_out=st.integers(0, 10**9),
    price_in=st.decimals(0, 1000, places=4),
    price_out=st.decimals(0, 1000, places=4),
)
def test_prices_agree_with_a_computation_in_decimals(tokens_in, tokens_out, price_in, price_out):
    """USD per million tokens, rounded half-even to nine decimals, once."""
    usd = (tokens_in * price_in + tokens_out * price_out).scaleb(-6)
    if usd >= 10**9:
        return
    rounded = usd.quantize(Decimal("1e-9"), rounding=ROUND_HALF_EVEN)
    assert to_decimal(Prices(price_in, price_out).cost_nano(tokens_in, tokens_out)) == rounded


def test_a_shift_moves_all_times_alike(trace):
    """The last call is made now, and the distances stay."""
    shift = trace.shift_to_end(NOW)
    times = [record.occurred_at for record in records(trace, shift=shift)]
    assert times[-1] == NOW
    assert [at - shift for at in times] == [call.at for call in trace.calls()]


def test_kept_times_are_those_of_the_file(trace):
    """Without a shift nothing moves."""
    assert [r.occurred_at for r in records(trace)] == [call.at for call in trace.calls()]


@given(now=st.integers(1_700_000_000, 1_900_000_000))
def test_within_a_day_it_never_crosses_midnight(tmp_path_factory, now):
    """It ends now, or begins with today where that would begin it yesterday."""
    now = datetime.fromtimestamp(now, UTC)
    path = tmp_path_factory.getbasetemp() / "within_day.csv"
    path.write_text(HEADER + ROWS)
    trace = Trace(path)
    shift = trace.shift_within_day(now)
    first, last = trace.first_at + shift, trace.last_at + shift
    assert first.date() == now.date()
    assert last >= now
    assert last == now or first.time() == datetime.min.time()
    assert last - now < timedelta(days=1)


def test_a_call_becomes_a_record_of_its_caller(trace):
    """With the ids of its roster, its tokens and its price."""
    record = records(trace)[0]
    assert record.organization_id == "acme"
    assert (record.agent_id, record.user_id, record.team_id) == Roster().caller(0)
    assert (record.input_tokens, record.output_tokens) == (374, 44)
    assert record.cost_usd == "0.001375"  # 374 at 2.5 millionths and 44 at 10


@pytest.mark.skipif("OUTLAY_TRACE_DIR" not in os.environ, reason="OUTLAY_TRACE_DIR is not set")
def test_the_real_trace_has_the_sums_of_its_file():
    """19,366 calls; their costs together are what the token counts say, to the nano-dollar."""
    path = Path(os.environ["OUTLAY_TRACE_DIR"]) / "azure_llm_conversations_2023.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    tokens_in = sum(int(row["ContextTokens"]) for row in rows)
    tokens_out = sum(int(row["GeneratedTokens"]) for row in rows)
    usd = (tokens_in * Decimal("2.50") + tokens_out * Decimal("10.00")) / 1_000_000
    sent = records(Trace(path))
    assert len(sent) == len(rows) == 19_366
    assert sum(Decimal(record.cost_usd) for record in sent) == usd
