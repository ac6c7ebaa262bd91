"""Stream store: budgets and totals of the stream, behind the `BudgetStore` that enforcers use."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from outlay.budget import NOTHING
from outlay.budgets import BudgetClient
from outlay.emitter import UsageEmitter
from outlay.errors import FeedNotReady, OutlayError
from outlay.feed import DecisionFeed
from outlay.governance.amounts import aware, usd_of
from outlay.governance.budget import ExternalAgentBudget
from outlay.governance.config import ExternalAgentBudgetConfig
from outlay.governance.mapping import agent_budget, budget_changes, stream_scope, usage_record
from outlay.governance.scope import BudgetScope
from outlay.governance.usage import BudgetUsageRecord, PeriodUsage
from outlay.standing import KnownBudget
from outlay.window import Window


class StreamBudgetStore:
    """A `BudgetStore` over the stream: its feed says what is known, the emitter reports usage.

    What it answers is the stream's published totals: usage is in them shortly after it was
    recorded, whoever recorded it. The stream keeps days and months in UTC, and totals of an
    organization, team, user, member and agent: what else is asked of it is refused with a
    `ValueError`. Nothing here is started or closed. Safe in any thread and event loop.

    Args:
        feed: where budgets and totals are known from; started by whoever made it.
        emitter: what usage is reported with.
        budgets: what budgets are changed through; without it they can only be read.
        clock: the time in seconds since the epoch, which says what day and month it is.
    """

    def __init__(
        self,
        feed: DecisionFeed,
        emitter: UsageEmitter,
        budgets: BudgetClient | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._feed = feed
        self._emitter = emitter
        self._budgets = budgets
        self._clock = clock

    def check_config(self, config: ExternalAgentBudgetConfig) -> None:
        """See that the stream keeps what an enforcer's configuration asks for.

        Raises:
            ValueError: weeks, a time zone other than UTC, rollover, or periods that do not begin
                with the day or month.
        """
        if config.period == "weekly":
            raise ValueError("the stream keeps no weeks: use period='daily' or 'monthly'")
        if config.timezone != "UTC":
            raise ValueError(f"the stream keeps days and months in UTC, not in {config.timezone}")
        if config.rollover_unused:
            raise ValueError("the stream rolls nothing over: use rollover_unused=False")
        now = self._now()
        window = Window.day(now) if config.period == "daily" else Window.month(now)
        if config.get_period_boundaries(now) != (window.start, window.end):
            raise ValueError(
                "the stream's days and months begin at midnight and on the first: leave"
                " period_start out"
            )

    async def get_budget(self, agent_id: str, scope: BudgetScope) -> ExternalAgentBudget | None:
        """The budget that a scope has in the stream, with what day and month have used of it.

        Raises:
            ValueError: the stream keeps no total of the scope.
            FeedNotReady: nothing is known yet; or what is known is out of date, and the budget's
                `on_stale` is "block".
        """
        key = stream_scope(agent_id, scope).key
        known = self._known(key)
        if known is None:
            return None
        if known.decision.budget.on_stale == "block" and self._feed.is_stale(key):
            raise FeedNotReady(
                f"{key}: no decisions for over {self._feed.stale_after_s:g} s, "
                "and this budget blocks while there are none"
            )
        return agent_budget(agent_id, scope, known, self._now())

    async def update_budget(
        self, agent_id: str, scope: BudgetScope, budget: ExternalAgentBudget
    ) -> None:
        """Give a scope these limits, thresholds and modes; returns when they are in force.

        What was spent is the stream's to say: what the stream itself or an enforcer has counted on
        the budget is not sent, and a new budget must count nothing. A threshold of None is the
        stream's own default, 0.75 and 0.90.

        Raises:
            ValueError: what the stream does not keep: metadata, a cost per execution, amounts of a
                new budget, a scope without totals; or a budget of another agent or scope.
            OutlayError: the store was made without a `BudgetClient`; or what that raises.
        """
        target = stream_scope(agent_id, scope)
        changes = budget_changes(agent_id, scope, budget)
        if self._budgets is None:
            raise OutlayError("this store only reads budgets: it was made without a BudgetClient")
        await self._budgets.apatch(target, changes)

    async def record_usage(self, record: BudgetUsageRecord) -> None:
        """Report what an invocation has used; it is sent in the background.

        Raises:
            ValueError: tokens of which it is not known how many were read and how many written, or
                what else the stream would reject.
            OutlayError: the emitter's buffer is full, or it is closed: the record was not taken.
        """
        if not self._emitter.emit(usage_record(record)):
            raise OutlayError(
                f"the usage of invocation {record.invocation_id} was not taken: the emitter's"
                " buffer is full, or it is closed"
            )

    async def get_period_usage(
        self, agent_id: str, scope: BudgetScope, start: datetime, end: datetime
    ) -> PeriodUsage:
        """What the current day or month has used in a scope that has a budget.

        The stream does not count failures apart.

        Raises:
            ValueError: another time than the current UTC day or month, or a scope without a
                budget, whose totals are not published.
            FeedNotReady: nothing is known yet.
        """
        key = stream_scope(agent_id, scope).key
        window = self._current(aware("start", start), aware("end", end))
        known = self._known(key)
        if known is None:
            raise ValueError(f"{key} has no budget: the stream publishes no totals of it")
        used = known.amounts.get(window.name, NOTHING)
        return PeriodUsage(
            cost=usd_of(used.cost_nano),
            tokens=used.input_tokens + used.output_tokens,
            invocations=used.executions,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            failures=None,
        )

    async def reset_period_usage(self, agent_id: str, scope: BudgetScope) -> None:
        """Refused: the stream never takes back what was counted.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"the totals of {stream_scope(agent_id, scope).key} are not reset: a new day or month"
            " begins with nothing used by itself; report a correction where usage was wrong"
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _known(self, key: str) -> KnownBudget | None:
        state = self._feed.state
        if not state.ready:
            raise FeedNotReady("the decisions feed is not ready, no budget is known")
        return state.decisions.get(key)

    def _current(self, start: datetime, end: datetime) -> Window:
        now = self._now()
        for window in (Window.month(now), Window.day(now)):
            if (start, end) == (window.start, window.end):
                return window
        raise ValueError(
            "the stream knows the usage of the current UTC day and month, not that from"
            f" {start.isoformat()} to {end.isoformat()}: ask the history"
        )
