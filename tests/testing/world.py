"""A world to run the contract in: outlay in memory, or on a broker with a worker."""

import time
from datetime import UTC, datetime
from decimal import Decimal

from outlay import Budget, BudgetClient, BudgetGateway, DecisionFeed, Scope, UsageEmitter
from outlay.testing import InMemoryStream
from outlay.window import day_ordinal

IMPATIENT_S = 3.0
"""After which time of silence the impatient gateway's feed is stale: some watermarks' intervals."""

SETTLE_TIMEOUT_S = 60.0
NANO = 10**9
DOLLAR = Budget(monthly_budget_usd=Decimal(1))
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ACME = Scope("acme")
REPORT = {"organization_id": "acme", "agent_id": "a", "cost_usd": "0.5"}


def used(world, scope, window="month"):
    """What the published decision of a scope says was used of the current day or month.

    In a world, or in an `InMemoryStream`.
    """
    decision = world.feed.decisions[scope.key].decision
    now = world.clock.now if isinstance(world, InMemoryStream) else world.now
    return decision.used(day_ordinal(now))[window == "month"]


class MemoryWorld:
    """`outlay.testing`, all of it."""

    def __init__(self):
        self.stream = InMemoryStream(NOON)
        self.emitter = self.stream.emitter
        self.budgets = self.stream.budgets
        self.feed = self.stream.feed
        self.gateway = self.stream.gateway
        self._impatient = self.stream.new_feed(stale_after_s=IMPATIENT_S)
        self._impatient.start()
        self.impatient_gateway = BudgetGateway(feed=self._impatient, clock=self.stream.clock.time)

    @property
    def now(self):
        return self.stream.clock.now

    def new_emitter(self, **options):
        return self.stream.new_emitter(**options)

    def settle(self):
        """Nothing: here there is nothing to wait for."""

    def pause(self):
        self.stream.stall()

    def resume(self):
        self.stream.resume()

    def let_pass(self, seconds):
        self.stream.clock.advance(seconds=seconds)

    def close(self):
        self._impatient.close()
        assert self.stream.close()


class KafkaWorld:
    """The real ones, on a stack that runs."""

    def __init__(self, stack):
        servers, topics = stack.bootstrap_servers, stack.topics
        self._stack = stack
        self._ends = {}
        self.feed = DecisionFeed(servers, topics=topics)
        self._impatient = DecisionFeed(servers, topics=topics, stale_after_s=IMPATIENT_S)
        for feed in (self.feed, self._impatient):
            feed.start()
            feed.wait_ready()
        self.emitter = self.new_emitter()
        self.budgets = BudgetClient(servers, self.feed)
        self.gateway = BudgetGateway(feed=self.feed, emitter=self.emitter)
        self.impatient_gateway = BudgetGateway(feed=self._impatient)

    @property
    def now(self):
        return datetime.now(UTC)

    def new_emitter(self, *, on_delivered=None, **options):
        def delivered(details):
            self._ends[details.partition] = max(
                details.offset, self._ends.get(details.partition, -1)
            )
            if on_delivered is not None:
                on_delivered(details)

        return UsageEmitter(
            self._stack.bootstrap_servers,
            topics=self._stack.topics,
            on_delivered=delivered,
            **options,
        )

    def settle(self):
        """Wait until the decisions contain all that was delivered, in both feeds."""
        assert self.emitter.flush()
        ends = dict(self._ends)
        for feed in (self.feed, self._impatient):
            feed.wait_until(lambda feed=feed: _reaches(feed, ends) or None, SETTLE_TIMEOUT_S)

    def pause(self):
        for worker in self._stack.workers:
            worker.pause()

    def resume(self):
        for worker in self._stack.workers:
            worker.resume()

    def let_pass(self, seconds):
        time.sleep(seconds)

    def close(self):
        self.gateway.close()
        self.budgets.close()
        assert self.emitter.close()
        self.feed.close()
        self._impatient.close()


def _reaches(feed, ends):
    """Whether the decisions of every partition contain the usage topic up to these offsets."""
    return all(
        (mark := feed.watermark(number)) is not None
        and all(mark.offsets.get(partition, -1) >= end for partition, end in ends.items())
        for number in range(feed.partitions)
    )
