"""The scene: everything that takes part in the demo, and its acts in their order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack

from outlay.budgets import BudgetClient
from outlay.demo.alarms import Alarms, crossings_in
from outlay.demo.board import Board
from outlay.demo.display import Counts, Display
from outlay.demo.driver import Deployment, Driver
from outlay.demo.evidence import REPORTED, Evidence, counted_in
from outlay.demo.ledger import Ledger, Sum
from outlay.demo.plan import plan_budgets
from outlay.demo.probe import Probe
from outlay.demo.receiver import Arrival, Receiver
from outlay.demo.rest import ApiClient
from outlay.demo.tenant import Tenant
from outlay.demo.workload import Workload
from outlay.emitter import Delivered, UsageEmitter
from outlay.feed import DecisionFeed
from outlay.gateway import BudgetGateway
from outlay.scope import Scope
from outlay.stack import Stack

SETTLE_TIMEOUT_S = 30.0
"""How long the stream, and then the history, may take to have everything at the end."""

BUDGETS_TIMEOUT_S = 60.0
REFRESH_INTERVAL_S = 0.25
HISTORY_POLL_INTERVAL_S = 0.5
USERS_WATCHED = 2


class Scene:
    """What takes part once the stack is ready; what it opens, `opened` closes."""

    def __init__(self, stack: Stack, workload: Workload, opened: ExitStack, tenant: Tenant) -> None:
        self.organization_id = tenant.organization_id
        self.plan = plan_budgets(workload, self.organization_id)
        self.scopes = self.plan.scopes(self.organization_id)
        self._stack = stack
        self._workload = workload
        self._api = ApiClient(stack.api_url, self.organization_id, tenant.key)
        self._ledger = Ledger()
        self._board = Board([scope.key for scope in self.scopes])
        servers, topics = stack.bootstrap_servers, stack.topics
        self._feed = opened.enter_context(DecisionFeed(servers, topics=topics))
        self._budgets = opened.enter_context(
            BudgetClient(servers, self._feed, topics=topics, requested_by="outlay demo")
        )
        self._gateway = BudgetGateway(feed=self._feed)
        self._emitter = opened.enter_context(
            UsageEmitter(servers, topics=topics, on_delivered=self._delivered)
        )
        self._deployment = Deployment(self.organization_id, self._gateway, self._emitter)
        self._probe = Probe(self._deployment)
        self._receiver = opened.enter_context(Receiver())
        self._feed.add_listener(self._board.decided)
        self._feed.add_listener(self._probe.decided)

    def _delivered(self, details: Delivered) -> None:
        self._ledger.delivered(details)
        self._probe.delivered(details)

    # -- the acts

    def set_budgets(self) -> None:
        """Set all budgets and wait for their decisions; raises what the client or API says."""
        self._feed.wait_ready()
        asyncio.run(self._put_budgets())
        for agent_id, changes in self.plan.patches.items():
            self._api.patch_budget(agent_id, changes)
        wanted = {scope.key for scope in self.scopes}
        self._wait(lambda: wanted <= self._feed.decisions.keys(), BUDGETS_TIMEOUT_S)
        alerts = {
            "webhook_url": self._receiver.url,
            "webhook_secrets": [self._receiver.secret],
            "include_forecast": False,  # whether there is one depends on the day of the month
            "cooldown_minutes": 0,  # the demo is over before another one would be
        }
        self._api.put_alerts(self.plan.alerted, alerts)

    async def _put_budgets(self) -> None:
        async with asyncio.TaskGroup() as group:
            for scope, budget in self.plan.budgets.items():
                group.create_task(self._budgets.aput(scope, budget, timeout_s=BUDGETS_TIMEOUT_S))

    def drive(self, display: Callable[[Board], Display]) -> None:
        """Let the agents live, and show it, until they have made all their calls."""
        driver = Driver(self._deployment, self._workload)
        try:
            with display(self._board) as shown:
                self._probe.start()
                driver.start()
                while driver.running:
                    time.sleep(REFRESH_INTERVAL_S)
                    self._stack.tend()
                    for arrival in self.take_arrivals():
                        shown.tell(arrival.line)
                    shown.update(Counts(self._gateway.stats, self._emitter.stats))
        finally:
            self._probe.stop()
            driver.stop()

    def settle(self) -> Evidence:
        """Deliver the rest, wait (bounded) until everyone has it, and gather what they say."""
        self._emitter.flush()
        sent, months = self._ledger.sums(), self._ledger.months
        self._wait(self._stream_has_all, SETTLE_TIMEOUT_S)
        decisions = self._feed.decisions
        counted = {
            scope.key: counted_in(decisions[scope.key].decision, months)
            for scope in self.scopes
            if scope.key in decisions
        }
        self._wait(lambda: self._alarms().all_arrived, SETTLE_TIMEOUT_S)
        return Evidence(
            broker=self._stack.broker.name,
            organization_key=Scope(self.organization_id).key,
            emitter=self._emitter.stats,
            gateway=self._gateway.stats,
            sent=sent,
            counted=counted,
            history=self._history(sent, months),
            states_seen=self._board.states_seen,
            latency=self._probe.latency,
            alarms=self._alarms(),
        )

    def _alarms(self) -> Alarms:
        key = self.plan.alerted.key
        known = self._feed.decisions.get(key)
        crossed = [] if known is None else crossings_in(known.decision)
        return Alarms(key, crossed, self._receiver.arrivals)

    def take_arrivals(self) -> list[Arrival]:
        """The alerts that have arrived and were not shown yet."""
        return self._receiver.take_new()

    @property
    def watched(self) -> list[str]:
        """The keys of the scopes to show: the organization, all teams, a few users and agents."""
        keys = [scope.key for scope in self.scopes if scope.kind in ("organization", "team")]
        keys += [scope.key for scope in self.scopes if scope.kind == "user"][:USERS_WATCHED]
        agents = [Scope(self.organization_id, agent_id=agent_id) for agent_id in self.plan.patches]
        return keys + [scope.key for scope in agents]

    # -- waiting and asking

    def _stream_has_all(self) -> bool:
        """Whether all decisions reach to the end of what was sent."""
        ends = self._ledger.offsets
        marks = [self._feed.watermark(partition) for partition in range(self._feed.partitions)]
        return all(
            mark is not None and all(mark.offsets.get(p, -1) >= end for p, end in ends.items())
            for mark in marks
        )

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Whether it came true in time; a check later says what is missing if it did not."""
        deadline_s = time.monotonic() + timeout_s
        while not done() and time.monotonic() < deadline_s:
            time.sleep(REFRESH_INTERVAL_S)
            self._stack.tend()
        return done()

    def _history(self, sent: dict[str, Sum], months: list[str]) -> dict[str, Sum]:
        """What the history's reports say, once it has all the records or its time is over."""
        key = Scope(self.organization_id).key
        total = sent.get(key, Sum())

        def has_all() -> bool:
            time.sleep(HISTORY_POLL_INTERVAL_S)
            return self._api.spend("organization", months).get(key, Sum()).records >= total.records

        if not months or not self._wait(has_all, SETTLE_TIMEOUT_S):
            return {}
        reports = [self._api.spend(kind, months) for kind in REPORTED]
        return {scope: found for report in reports for scope, found in report.items()}
