"""Check: how fast a gateway answers over five scopes, beside five dictionary look-ups and Redis.

Each call counts in five scopes, each of which has a hard budget and a decision; meanwhile all of
these come in again once a second, as they do where all are in use. The answers are compared with
what the budgets say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from bench.plan import Plan
from bench.redis_server import redis_server, why_absent
from bench.report import Report
from outlay import Amounts, Budget, BudgetGateway, Decision, DecisionFeed, Watermark, Window
from outlay.decision import WATERMARK_KEY, encode, window_usage
from outlay.embedded.ports import LOOPBACK
from outlay.reading import Message
from outlay.scope import scope_keys

ORGANIZATION = "acme"
AGENTS = 200
USERS = 50
TEAMS = 10
REFRESH_S = 1.0
READ_PAUSE_S = 0.05

LIMIT_USD = 1_000_000
BLOCKED_AGENTS = 10
"""One agent in so many has used up its budget, where calls are to be blocked."""

CHECKS_PER_S_MIN = 300_000
REDIS_RATIO_MIN = 50.0


def run(plan: Plan, report: Report) -> None:
    """Measure checks that are allowed and some that are blocked, and what they are held against."""
    with ExitStack() as stack:
        fleet = _Fleet(plan, report)
        variants = {
            "check_per_s": _Checks(fleet, "check", blocked_every=None).per_s,
            "check_tenth_blocked_per_s": _Checks(
                fleet, "check_tenth_blocked", blocked_every=BLOCKED_AGENTS
            ).per_s,
        }
        if not plan.smoke:
            variants["dict_get_per_s"] = fleet.dict_get_per_s
            if (why := why_absent()) is None:
                port = stack.enter_context(redis_server(plan.directory))
                redis = stack.enter_context(_Redis(fleet, port))
                variants["redis_pipeline_per_s"] = redis.per_s
            else:
                report.skip("redis_pipeline_per_s", why)
            report.skip("POST /check", "measured under load by `python -m bench api`")
        report.measure(variants, warmups=0 if plan.smoke else 1)
    report.ratio("check / five dict.get", "check_per_s", "dict_get_per_s")
    redis_ratio = report.ratio(
        "check / five GETs in a Redis pipeline", "check_per_s", "redis_pipeline_per_s"
    )
    if not plan.smoke:
        report.goal("checks/s", report.value("check_per_s"), at_least=CHECKS_PER_S_MIN)
    report.goal("check / Redis", redis_ratio, at_least=REDIS_RATIO_MIN)
    report.note(
        f"{AGENTS} agents in turn, of {USERS} users in {TEAMS} teams; every scope has a hard "
        "budget, and its decision comes in again each second. One thread asks, and Redis is on "
        "loopback."
    )


class _Call(NamedTuple):
    """What one check asks for, and the keys of its five scopes."""

    team_id: str
    user_id: str
    agent_id: str
    keys: tuple[str, ...]


class _Fleet:
    """Who asks, in turn, and how often."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self.report = report
        self.calls = [_call(agent) for agent in range(plan.size(AGENTS, 20))]
        self.turns = plan.size(250, 3)
        self.redis_turns = plan.size(5, 1)
        self.keys = list(dict.fromkeys(key for call in self.calls for key in call.keys))

    def dict_get_per_s(self) -> float:
        """Five look-ups a call in a plain dictionary, by keys that are ready."""
        get = dict.fromkeys(self.keys, 1).get
        found = 0
        keys = [call.keys for call in self.calls]
        started = time.perf_counter()
        for _ in range(self.turns):
            for a, b, c, d, e in keys:
                if get(a) and get(b) and get(c) and get(d) and get(e):
                    found += 1
        elapsed = time.perf_counter() - started
        self.report.expect("found in the dictionary", found, self.turns * len(keys))
        return found / elapsed


class _Checks:
    """What a gateway answers; of the agents some have nothing left, where that is asked for."""

    def __init__(self, fleet: _Fleet, name: str, *, blocked_every: int | None) -> None:
        self._fleet = fleet
        self._name = name
        self._spent = {
            call.keys[-1]: LIMIT_USD
            for number, call in enumerate(fleet.calls)
            if blocked_every is not None and number % blocked_every == 0
        }

    def per_s(self) -> float:
        """Checks a second of one thread; the CPU time of each beside it."""
        fleet = self._fleet
        with (
            DecisionFeed(reader_factory=lambda: _Reader(fleet.keys, self._spent)) as feed,
            BudgetGateway(feed=feed) as gateway,
        ):
            gateway.wait_ready()
            cpu_s, started = time.thread_time(), time.perf_counter()
            allowed = self._ask(gateway)
            elapsed_s = time.perf_counter() - started
            cpu_s = time.thread_time() - cpu_s
            asked = fleet.turns * len(fleet.calls)
            self._compare(gateway, asked, allowed)
        fleet.report.add(f"{self._name}_cpu_us", cpu_s / asked * 1e6)
        return asked / elapsed_s

    def _ask(self, gateway: BudgetGateway) -> int:
        """How many of the fleet's calls are allowed."""
        check = gateway.check
        allowed = 0
        for _ in range(self._fleet.turns):
            for team_id, user_id, agent_id, _keys in self._fleet.calls:
                if check(
                    organization_id=ORGANIZATION, team_id=team_id, user_id=user_id,
                    agent_id=agent_id, estimated_cost_usd="0.004",
                ).allowed:  # fmt: skip
                    allowed += 1
        return allowed

    def _compare(self, gateway: BudgetGateway, asked: int, allowed: int) -> None:
        """The answers, the counts, and one more answer of each agent are as the budgets say."""
        fleet = self._fleet
        expect = fleet.report.expect
        blocked = fleet.turns * len(self._spent)
        expect(f"{self._name}: allowed", allowed, asked - blocked)
        stats = gateway.stats
        expect(f"{self._name}: counted", (stats.checks, stats.blocked), (asked, blocked))
        for call in fleet.calls:
            result = gateway.check(
                organization_id=ORGANIZATION,
                team_id=call.team_id,
                user_id=call.user_id,
                agent_id=call.agent_id,
            )
            left = LIMIT_USD - max(_used_usd(key, self._spent) for key in call.keys)
            is_spent = call.keys[-1] in self._spent
            expect(
                f"{self._name}: the answer to {call.agent_id}",
                (result.allowed, result.scope, result.remaining_usd, result.stale),
                (not is_spent, call.keys[-1] if is_spent else "", Decimal(left), False),
            )


class _Redis:
    """The same five keys of each call in a Redis, asked for in one pipeline."""

    def __init__(self, fleet: _Fleet, port: int) -> None:
        import redis

        self._fleet = fleet
        self._client: Any = redis.Redis(host=LOOPBACK, port=port)

    def __enter__(self) -> _Redis:
        self._client.mset({key: encode(_decision(key, {})) for key in self._fleet.keys})
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def per_s(self) -> float:
        """Calls a second of one thread, each five GETs and one round trip."""
        pipeline = self._client.pipeline(transaction=False)
        fleet = self._fleet
        found = 0
        started = time.perf_counter()
        for _ in range(fleet.redis_turns):
            for call in fleet.calls:
                for key in call.keys:
                    pipeline.get(key)
                found += all(pipeline.execute())
        elapsed = time.perf_counter() - started
        fleet.report.expect("found in Redis", found, fleet.redis_turns * len(fleet.calls))
        return found / elapsed


class _Reader:
    """A decisions topic of one partition in which every decision comes again each `REFRESH_S`."""

    partitions = 1

    def __init__(self, keys: list[str], spent: dict[str, int]) -> None:
        self._keys = keys
        self._spent = spent
        self._offset = 0
        self._due = self._messages()

    async def start(self) -> dict[int, int]:
        return {0: len(self._keys) + 1}

    async def read(self) -> list[Message]:
        await asyncio.sleep(READ_PAUSE_S)
        share = max(int(len(self._keys) * READ_PAUSE_S / REFRESH_S), 1)
        if self._offset == 0:
            share = len(self._keys) + 1
        found = [next(self._due) for _ in range(share)]
        self._offset += len(found)
        return found

    async def position(self, partition: int) -> int:
        return self._offset

    async def stop(self) -> None:
        """Nothing is open."""

    def _messages(self) -> Iterator[Message]:
        while True:
            watermark = encode(Watermark({0: 1}, datetime.now(UTC)))
            yield Message(0, 0, WATERMARK_KEY, watermark)
            for key in self._keys:
                yield Message(0, 0, key.encode(), encode(_decision(key, self._spent)))


def _call(agent: int) -> _Call:
    user = agent % USERS
    ids = f"team-{user % TEAMS}", f"user-{user}", f"agent-{agent:04d}"
    return _Call(*ids, scope_keys(ORGANIZATION, *ids))


def _used_usd(key: str, spent: dict[str, int]) -> int:
    """What a scope has used: nothing near its limit, or all of it; each kind another amount."""
    return spent.get(key, len(key))


def _decision(key: str, spent: dict[str, int]) -> Decision:
    now = datetime.now(UTC)
    used = window_usage(Amounts(_used_usd(key, spent) * 10**9, 10, 1_000, 1_000), {0: 1})
    windows = {Window.day(now).name: used, Window.month(now).name: used}
    budget = Budget(monthly_budget_usd=Decimal(LIMIT_USD), daily_execution_limit=10**9)
    return Decision(key, 1, "ok", budget, windows, "r", now)
