"""Workers die with SIGKILL and stand still with SIGSTOP under load, and every number is exact."""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from outlay import Budget, BudgetClient, DecisionFeed, Scope, TopicNames
from outlay.budget import Amounts, Rules, evaluate
from outlay.embedded import Broker
from outlay.money import to_nano
from outlay.stack import Worker
from tests.crash.cluster import SESSION_TIMEOUT_S, Cluster
from tests.crash.load import AGENTS, ORGANIZATION, TEAMS, USERS, Load
from tests.kafka_log import wait_until


def daily(limit_usd: int) -> Budget:
    return Budget(daily_budget_usd=Decimal(limit_usd))


BUDGETS = {
    Scope(ORGANIZATION): daily(1_000),
    **{Scope(ORGANIZATION, team_id=f"team-{n}"): daily(10 ** (n + 1)) for n in range(TEAMS)},
    **{Scope(ORGANIZATION, user_id=f"user-{n}"): daily(50 * n) for n in range(USERS)},
    **{Scope(ORGANIZATION, agent_id=f"agent-{n}"): daily(5 * n) for n in range(AGENTS)},
}
TRIES_MAX = 5
UNFLUSHED_TIMEOUT_S = 30.0


def test_killed_and_paused_workers_leave_every_number_exact(kafka: Broker, tmp_path: Path) -> None:
    """50,000 records, two kills and a zombie."""
    if not kafka.transactions:
        pytest.skip(f"{kafka.name} has no transactions: a paused worker is not fenced")
    run_crash_test(kafka, tmp_path, records=50_000, kills=2, per_second=1_500)


@pytest.mark.crash
def test_five_kills_and_a_zombie_over_500_000_records(kafka: Broker, tmp_path: Path) -> None:
    """The same, larger."""
    if not kafka.transactions:
        pytest.skip(f"{kafka.name} has no transactions: a paused worker is not fenced")
    run_crash_test(kafka, tmp_path, records=500_000, kills=5, per_second=5_000)


def run_crash_test(
    kafka: Broker, data_dir: Path, *, records: int, kills: int, per_second: float
) -> None:
    cluster = Cluster(kafka, data_dir, f"crash-{uuid.uuid4().hex[:8]}")
    rng = random.Random(time.time_ns())
    with cluster.stack as stack, DecisionFeed(stack.bootstrap_servers, topics=stack.topics) as feed:
        stack.wait_ready()
        wait_until("both workers own partitions", cluster.both_own)
        feed.wait_ready()
        asyncio.run(put_budgets(stack.bootstrap_servers, feed, stack.topics))
        load = Load(stack.bootstrap_servers, stack.topics, records=records, per_second=per_second)
        load.start()
        for n in range(kills):
            time.sleep(rng.uniform(0.5, 3.0))
            kill_and_restart(cluster, cluster.workers[n % 2])
        assert stack.api is not None
        stack.api.kill()
        stack.api.start()
        pause_past_the_session(cluster, cluster.workers[rng.randrange(2)])
        load.finish()
        assert load.sent >= records
        wait_until("every stage has caught up", cluster.is_settled)
        check_totals(cluster, load)
        check_decisions(feed, load)
        check_history(stack.api_url, load)
    assert [worker.exit_code for worker in cluster.workers] == [0, 0]


async def put_budgets(servers: str, feed: DecisionFeed, topics: TopicNames) -> None:
    async with BudgetClient(servers, feed=feed, topics=topics) as budgets:
        await asyncio.gather(*(budgets.aput(*budget) for budget in BUDGETS.items()))


def kill_and_restart(cluster: Cluster, worker: Worker) -> None:
    """SIGKILL at a moment with lag and with applied records that are not flushed.

    A flush may come between the look and the kill: then another is tried.
    """
    for _ in range(TRIES_MAX):
        before = catch_unflushed(cluster, worker)
        worker.kill()
        found = bool(unflushed(cluster, before)) and cluster.lag() > 0
        worker.start()
        wait_until("both workers own partitions again", cluster.both_own)
        if found:
            return
    raise AssertionError(f"of {TRIES_MAX} kills none found anything unflushed")


def catch_unflushed(cluster: Cluster, worker: Worker) -> dict[tuple[str, int], int]:
    """The worker's positions at a moment when it has applied more than it has committed."""
    deadline = time.monotonic() + UNFLUSHED_TIMEOUT_S
    while time.monotonic() < deadline:
        committed = cluster.committed()
        positions = cluster.positions(worker)
        owned = {tp: at for tp, at in positions.items() if tp[0] == cluster.usage}
        if owned and all(at > committed.get(tp, 0) for tp, at in owned.items()):
            return positions
    raise AssertionError("the worker never had anything unflushed")


def unflushed(cluster: Cluster, before: dict[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    """Of the usage partitions that were at these positions, those not committed up to there."""
    committed = cluster.committed()
    held = {tp: at for tp, at in before.items() if tp[0] == cluster.usage}
    return {tp: at for tp, at in held.items() if at > committed.get(tp, 0)}


def pause_past_the_session(cluster: Cluster, worker: Worker) -> None:
    """SIGSTOP with unflushed state; SIGCONT when the other has taken over and flushed."""
    other = cluster.workers[1 - worker.index]
    for _ in range(TRIES_MAX):
        before = catch_unflushed(cluster, worker)
        worker.pause()
        time.sleep(0.2)  # what it had sent already is done
        if unflushed(cluster, before):
            break
        worker.resume()  # a flush came between
    else:
        raise AssertionError(f"of {TRIES_MAX} pauses none found anything unflushed")
    held = {tp: at for tp, at in before.items() if tp[0] == cluster.usage}
    time.sleep(SESSION_TIMEOUT_S)
    wait_until("the other owns all", lambda: set(held) <= set(cluster.positions(other)))
    wait_until(
        "the other has flushed beyond",
        lambda: all(cluster.committed().get(tp, 0) > at for tp, at in held.items()),
    )
    worker.resume()
    wait_until("its write is refused", lambda: "was taken over" in cluster.log(worker))
    wait_until("it has ended or recovered", lambda: _tend(worker) and cluster.both_own())


def _tend(worker: Worker) -> bool:
    if not worker.running:
        assert worker.exit_code == 75, "a fenced worker ends in an order of its own"
        worker.start()
    return True


# -- what must be true in the end


def check_totals(cluster: Cluster, load: Load) -> None:
    assert cluster.kafka.totals(cluster.app_id) == load.sums


def check_decisions(feed: DecisionFeed, load: Load) -> None:
    day = max(window for _, window in load.sums if len(window) > 7)

    def spent(scope: Scope) -> Amounts:
        return Amounts(*load.sums.get((scope.key, day), [0, 0, 0, 0]))

    def shown(scope: Scope) -> Amounts | None:
        usage = feed.decisions[scope.key].decision.windows.get(day)
        return None if usage is None else usage.amounts

    wait_until("all decisions are out", lambda: all(shown(s) == spent(s) for s in BUDGETS), 15)
    for scope, budget in BUDGETS.items():
        decision = feed.decisions[scope.key].decision
        assert decision.state == evaluate(Rules(budget), spent(scope), Amounts()).state, scope


def check_history(api_url: str, load: Load) -> None:
    now = datetime.now(UTC)
    first, last = ((now + timedelta(days=days)).date() for days in (-2, 2))
    span = f"from={first}T00:00:00Z&to={last}T00:00:00Z"

    def report(group_by: str) -> list[dict[str, Any]]:
        url = f"{api_url}/api/v1/reports/spend?{span}&interval=month&group_by={group_by}"
        with urllib.request.urlopen(url, timeout=30) as response:
            rows: list[dict[str, Any]] = json.load(response)["rows"]
            return rows

    wait_until(
        "the history has it all", lambda: sum(r["records"] for r in report("team")) >= load.sent
    )
    for group_by in ("organization", "team", "user", "agent"):
        rows = report(group_by)
        assert sum(row["records"] for row in rows) == load.sent  # each record's id once
        for row in rows:
            name = f"organization:{ORGANIZATION}"
            if group_by != "organization":
                name += f"/{group_by}:{row['group']}"
            assert to_nano(row["cost_usd"]) == load.sums[name, row["window"]][0]
