"""The real trace through the whole path, compared with an independent computation."""

from __future__ import annotations

import csv
import json
import os
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from outlay.cli.replay import ReplayOptions, run_replay
from outlay.frame import is_frame
from outlay.judging import split_usage
from outlay.trace import Prices, Roster
from tests.e2e.conftest import Running
from tests.kafka_log import Sums, wait_until

ORGANIZATION = "trace"
RECORDS = 19_366


@pytest.fixture
def trace_file() -> Path:
    folder = os.environ.get("OUTLAY_TRACE_DIR")
    if not folder:
        pytest.skip("OUTLAY_TRACE_DIR is not set: the real trace is not here")
    return Path(folder) / "azure_llm_conversations_2023.csv"


def priced(trace_file: Path) -> list[tuple[int, int, Fraction]]:
    """Input tokens, output tokens and USD of each row: nothing of the product takes part."""
    with trace_file.open(newline="") as file:
        rows = [(int(r["ContextTokens"]), int(r["GeneratedTokens"])) for r in csv.DictReader(file)]
    return [(i, o, Fraction(i * 25 + o * 100, 10**7)) for i, o in rows]


def sums_of_wire(running: Running) -> Sums:
    """The sums of what went over the wire, by scope and window."""
    sums: Sums = defaultdict(lambda: [0, 0, 0, 0])
    own = f'"organization_id":"{ORGANIZATION}"'.encode()
    for message in running.kafka.read(running.stack.topics.usage):
        if is_frame(message.value):
            decoded = [json.loads(each) for each in split_usage(message.value)]
        elif own in message.value:
            decoded = json.loads(message.value)
        else:  # other tests', some of which are not JSON
            continue
        for record in decoded if isinstance(decoded, list) else [decoded]:
            if record["organization_id"] == ORGANIZATION:
                add(sums, record)
    return dict(sums)


def add(sums: Sums, record: dict[str, str]) -> None:
    organization = f"organization:{ORGANIZATION}"
    team, user = f"team:{record['team_id']}", f"user:{record['user_id']}"
    scopes = (
        organization,
        f"{organization}/{team}",
        f"{organization}/{user}",
        f"{organization}/{team}/{user}",
        f"{organization}/agent:{record['agent_id']}",
    )
    nano = Fraction(record["cost_usd"]) * 10**9
    assert nano.denominator == 1
    amounts = (int(nano), 1, int(record["input_tokens"]), int(record["output_tokens"]))
    for scope in scopes:
        for window in (record["occurred_at"][:10], record["occurred_at"][:7]):
            for i, amount in enumerate(amounts):
                sums[scope, window][i] += amount


def test_every_total_of_the_trace_is_exact(running: Running, trace_file: Path) -> None:
    """Organization, teams, users, members and agents; in the stream and in the history."""
    options = ReplayOptions(
        file=trace_file,
        speed=None,
        organization_id=ORGANIZATION,
        roster=Roster(agents=200, users=40, teams=8),
        prices=Prices(),
        keep_times=False,
        bootstrap_servers=running.stack.bootstrap_servers,
        topics=running.stack.topics,
    )
    assert run_replay(options) == 0

    rows = priced(trace_file)
    assert len(rows) == RECORDS
    wire = sums_of_wire(running)
    months = {w for s, w in wire if s == f"organization:{ORGANIZATION}" and len(w) == 7}
    whole = [sum(wire[f"organization:{ORGANIZATION}", m][i] for m in months) for i in range(4)]
    cost = sum((usd for _, _, usd in rows), Fraction(0)) * 10**9
    assert whole == [cost, RECORDS, sum(r[0] for r in rows), sum(r[1] for r in rows)]

    wait_until("the totals hold it", lambda: running.totals(ORGANIZATION) == wire, 30)
    kinds = [key[0].split("/")[-1].split(":")[0] for key in wire if len(key[1]) == 7]
    assert kinds.count("agent") >= 200
    assert {"organization", "team", "user"} <= set(kinds)

    wait_until(
        "the history holds it",
        lambda: sum(r["records"] for r in running.spend(ORGANIZATION, "team")) == RECORDS,
    )
    for group_by in ("organization", "team", "user", "agent"):
        for row in running.spend(ORGANIZATION, group_by):
            scope = f"organization:{ORGANIZATION}"
            if group_by != "organization":
                scope += f"/{group_by}:{row['group']}"
            assert Decimal(row["cost_usd"]) * 10**9 == wire[scope, row["window"]][0]
            assert row["executions"] == wire[scope, row["window"]][1]
