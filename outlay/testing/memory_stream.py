"""The in-memory stream: emitter, budgets, feed and gateway in one place, for users' tests."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from outlay.closing import Closing
from outlay.delivery import OnDelivered
from outlay.emitter import BUFFER_RECORDS_MAX
from outlay.feed import STALE_AFTER_S
from outlay.gateway import BudgetGateway
from outlay.testing.clock import SettableClock
from outlay.testing.memory_broker import MemoryBroker
from outlay.testing.memory_budgets import InMemoryBudgets
from outlay.testing.memory_emitter import InMemoryEmitter
from outlay.testing.memory_feed import InMemoryFeed
from outlay.testing.rejected import Rejected
from outlay.usage import UsageRecord

__all__ = ["InMemoryStream"]

USAGE_PARTITIONS = 4
DECISIONS_PARTITIONS = 2


class InMemoryStream(Closing):
    """All of outlay in one object, without a broker, a thread or a sleep.

    Usage that is emitted and budgets that are set take effect before the call returns, by the
    rules of the real stream and through its messages, encoded and decoded. Time stands still
    until `clock` is moved. It may be used from any thread and any event loop; what several threads
    emit at the very same moment, one of them delivers for all, and `emitter.flush` waits for that.

        >>> from datetime import UTC, datetime
        >>> from outlay import Budget, Scope
        >>> with InMemoryStream(datetime(2026, 11, 21, 12, tzinfo=UTC)) as stream:
        ...     _ = stream.budgets.put(Scope("acme"), Budget(monthly_budget_usd=1))
        ...     _ = stream.emitter.emit(organization_id="acme", agent_id="w", cost_usd="0.6")
        ...     stream.gateway.check(organization_id="acme", estimated_cost_usd="0.5").allowed
        False

    Args:
        now: the time to begin with, with a zone; the machine's by default.
        auto_publish: whether decisions contain usage as soon as it has arrived. Otherwise they do
            when `publish` is called.
        broker_away: whether it begins without a broker, so that the feed is not ready.
        on_not_ready: what the gateway answers while the feed is not ready.
        stale_after_s: when the feed is stale without a sign of life, in seconds of the clock.
        buffer_records_max: how many records the emitter buffers while the broker is away.
        usage_partitions: how many partitions the usage topic has.
        decisions_partitions: how many partitions the decisions topic has.

    Attributes:
        clock: the time, to be set.
        budgets: sets budgets, like a `BudgetClient`.
        emitter: reports usage, like a `UsageEmitter`.
        feed: what is known of the decisions, like a `DecisionFeed`; it is started.
        gateway: a `BudgetGateway` over that feed, emitter and clock.

    Raises:
        ValueError: a time without a zone, or a bound below one.
    """

    def __init__(
        self,
        now: datetime | None = None,
        *,
        auto_publish: bool = True,
        broker_away: bool = False,
        on_not_ready: Literal["allow", "block"] = "allow",
        stale_after_s: float = STALE_AFTER_S,
        buffer_records_max: int = BUFFER_RECORDS_MAX,
        usage_partitions: int = USAGE_PARTITIONS,
        decisions_partitions: int = DECISIONS_PARTITIONS,
    ) -> None:
        for count in (usage_partitions, decisions_partitions):
            if type(count) is not int or count < 1:
                raise ValueError(f"a topic has at least one partition, not {count!r}")
        self.clock = SettableClock(now)
        self._auto_publish = auto_publish
        self._broker = MemoryBroker(
            self.clock,
            usage_partitions=usage_partitions,
            decisions_partitions=decisions_partitions,
            auto_publish=auto_publish,
        )
        self._broker.away = broker_away
        self.feed = self.new_feed(stale_after_s=stale_after_s)
        self.feed.start()
        self.emitter = self.new_emitter(buffer_records_max=buffer_records_max)
        self.budgets = InMemoryBudgets(self._broker, self.feed)
        self.gateway = BudgetGateway(
            feed=self.feed,
            emitter=self.emitter,
            clock=self.clock.time,
            on_not_ready=on_not_ready,
        )

    def new_feed(self, *, stale_after_s: float = STALE_AFTER_S) -> InMemoryFeed:
        """Another feed of the stream, as another process has one; it is not started."""
        return InMemoryFeed(self._broker, stale_after_s=stale_after_s)

    def new_emitter(
        self,
        *,
        source: str | None = None,
        buffer_records_max: int = BUFFER_RECORDS_MAX,
        on_delivered: OnDelivered | None = None,
    ) -> InMemoryEmitter:
        """Another emitter of the stream, as another process has one."""
        return InMemoryEmitter(
            self._broker,
            source=source,
            buffer_records_max=buffer_records_max,
            on_delivered=on_delivered,
        )

    # -- what came in

    @property
    def records(self) -> tuple[UsageRecord, ...]:
        """The records that arrived and count, in their order (the last 100,000 are remembered)."""
        with self._broker.lock:
            return tuple(self._broker.usage.records)

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """What was emitted and does not count, with the reasons (the last 10,000)."""
        with self._broker.lock:
            return tuple(self._broker.usage.rejected)

    # -- between a delivery and the decision that contains it

    def hold(self) -> None:
        """From now on usage arrives, but no decision contains it; the feed stays fresh."""
        with self._broker.lock:
            self._broker.usage.holds = True

    def publish(self) -> None:
        """Have the decisions contain all usage that has arrived; ends `hold`.

        Without `auto_publish` what comes later waits for the next call.
        """
        with self._broker.lock:
            self._broker.usage.release()
            self._broker.usage.holds = not self._auto_publish
        self._broker.work()

    # -- what may go wrong

    def stall(self) -> None:
        """The workers stand still: usage arrives, and nothing is decided or published.

        The feed is stale once the clock has moved on by its `stale_after_s`.
        """
        self._broker.stalled = True

    def resume(self) -> None:
        """The workers go on, with all that has come in meanwhile."""
        self._broker.stalled = False
        self._broker.work()

    @property
    def broker_away(self) -> bool:
        """Whether nothing gets through: emitters buffer, and the feed hears nothing.

        Set it to False again, and all is delivered and published at once.
        """
        return self._broker.away

    @broker_away.setter
    def broker_away(self, away: bool) -> None:
        self._broker.away = away
        self._broker.work()

    @property
    def deliveries_fail(self) -> bool:
        """Whether usage that is sent fails to arrive, for good: it is not sent again."""
        return self._broker.failing

    @deliveries_fail.setter
    def deliveries_fail(self, fail: bool) -> None:
        self._broker.failing = fail

    def close(self) -> bool:
        """Close emitter, gateway, budgets and feed; whether all was delivered."""
        delivered = self.emitter.close()  # first: the gateway hears of what is delivered now
        self.gateway.close()
        self.budgets.close()
        self.feed.close()
        return delivered

    async def aclose(self) -> bool:
        """`close` for code in an event loop."""
        return self.close()
