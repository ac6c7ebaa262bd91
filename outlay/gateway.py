"""Gateway: may this call be made? Answered from memory, before the call, without waiting."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, ParamSpec, TypeVar, get_args

from outlay.asking import UNKNOWN_COST_NANO, nano_of, refuse, understand
from outlay.caller import Callers, Today
from outlay.checking import Checker
from outlay.closing import Closing
from outlay.counting import Counter
from outlay.errors import BudgetExceededError
from outlay.explaining import Explanation
from outlay.feed import READY_TIMEOUT_S, DecisionFeed
from outlay.guarding import Actual, guard
from outlay.holds import Holds
from outlay.money import Money
from outlay.reservation import Emits, Reservation
from outlay.standing import CheckResult
from outlay.topics import TopicNames

__all__ = ["BudgetGateway", "CheckResult", "GatewayStats"]

OnNotReady = Literal["allow", "block"]

RESERVATION_EXPIRES_S = 600.0
"""How long a reservation counts that is neither settled nor released, in seconds."""

_DAY_S = 86_400
_EPOCH_DAY = date(1970, 1, 1).toordinal()

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class GatewayStats:
    """How many checks were answered, how many of them with a block; how many calls are open.

    A reservation is a check, too. `reservations` are those that are open.
    """

    checks: int
    blocked: int
    reservations: int = 0


class BudgetGateway(Closing):
    """Answers checks from the decisions that a feed keeps in memory; safe in any thread or loop.

    A check never waits and never raises for the state of things. While the feed is not ready
    nothing is known: calls are allowed with `stale` set, or blocked with `on_not_ready="block"`.
    Later, where the feed has gone stale, a budget's `on_stale` says whether the last known
    decision counts or the call is blocked. A scope without a budget has nothing to say.

    With an `emitter`, what that emits counts at once, and until a decision contains it. So does
    what is reserved. What other processes spend counts when a decision contains it.

    Args:
        bootstrap_servers: `host:port`, several separated by commas; for a feed of its own.
        topics: the names of the topics; for a feed of its own.
        feed: the feed to go by; it is started and closed by whoever made it.
        emitter: what this process emits with; it is closed by whoever made it.
        clock: the time in seconds since the epoch; the day and month are those of UTC.
        on_not_ready: what to answer before the feed is ready.
        feed_options: more arguments for a `DecisionFeed` of its own.

    Raises:
        ValueError: an `on_not_ready` that is neither.
        TypeError: an argument that there is not, or one for a feed of its own beside a `feed`.
    """

    def __init__(
        self,
        bootstrap_servers: str = "127.0.0.1:9092",
        *,
        topics: TopicNames | None = None,
        feed: DecisionFeed | None = None,
        emitter: Emits | None = None,
        clock: Callable[[], float] = time.time,
        on_not_ready: OnNotReady = "allow",
        **feed_options: Any,
    ) -> None:
        if on_not_ready not in get_args(OnNotReady):
            raise ValueError(f"on_not_ready must be allow or block, not {on_not_ready!r}")
        if feed is not None and (topics is not None or feed_options):
            given = ", ".join(["topics"] * (topics is not None) + list(feed_options))
            raise TypeError(f"only for a feed of the gateway's own: {given}")
        self._owns_feed = feed is None
        self.feed = feed or DecisionFeed(bootstrap_servers, topics=topics, **feed_options)
        self._clock, self._monotonic = clock, self.feed.monotonic
        self._emitter = emitter
        self._holds = Holds(self.feed)
        self._held_scopes = self._holds.scopes
        self._checker = Checker(self.feed, self._holds, blocks_not_ready=on_not_ready == "block")
        self._plain, self._holding = self._checker.plain, self._checker.holding
        self._callers = Callers()
        self._find_caller = self._callers.get
        self._today: Today = (0.0, 0.0, 0)
        self._checks = Counter()
        self._count_check = self._checks.up.__next__
        self._blocked = Counter()
        if emitter is not None:
            emitter.watch(self._holds)

    def check(
        self,
        *,
        organization_id: str,
        agent_id: str | None = None,
        team_id: str | None = None,
        user_id: str | None = None,
        estimated_cost_usd: Money | None = None,
        estimated_input_tokens: int = 0,
        estimated_output_tokens: int = 0,
        executions: int = 1,
    ) -> CheckResult:
        """What the budgets of all scopes that the call counts in say to it; the strictest counts.

        A cost that is not known (None) asks for the least there is, so that a budget that is used
        up exactly blocks; an explicit 0 asks for nothing.

        Raises:
            ValueError: an id or an estimate that cannot be.
        """
        ids = organization_id, team_id, user_id, agent_id
        try:
            caller = self._find_caller(ids) or self._callers.add(ids)
            cost_nano = (
                UNKNOWN_COST_NANO if estimated_cost_usd is None else nano_of(estimated_cost_usd)
            )
        except TypeError as error:
            raise ValueError(str(error)) from None
        # Written out, and not as a loop over a tuple, which would take a tenth of the call.
        if not (
            cost_nano >= 0
            and type(executions) is int
            and executions >= 0
            and type(estimated_input_tokens) is int
            and estimated_input_tokens >= 0
            and type(estimated_output_tokens) is int
            and estimated_output_tokens >= 0
        ):
            refuse(cost_nano, executions, estimated_input_tokens, estimated_output_tokens)
        self._count_check()
        now_s = self._clock()
        if self._held_scopes:  # before the state: what is held no more is in that
            answer = self._holding
        else:
            answer = self._plain
            made_in, begins_s, ends_s, cost, count, tokens, inputs, outputs, known = caller.within
            feed = self.feed
            state = feed.state
            if (
                made_in is state.generation
                and begins_s <= now_s < ends_s
                and cost_nano <= cost
                and executions <= count
                and estimated_input_tokens + estimated_output_tokens <= tokens
                and estimated_input_tokens <= inputs
                and estimated_output_tokens <= outputs
                and self._monotonic() - state.oldest_seen_s <= feed.stale_after_s
            ):
                return known
        today = self._today
        if not today[0] <= now_s < today[1]:
            today = self._turn_to(now_s)
        result = answer(
            caller, today, cost_nano, executions, estimated_input_tokens, estimated_output_tokens
        )
        if result is None:
            asked = cost_nano, executions, estimated_input_tokens, estimated_output_tokens
            is_holding = answer is self._holding
            result = self._checker.in_full(caller, today, asked, is_holding=is_holding)
            if not result.allowed:
                next(self._blocked.up)
        return result

    def explain(
        self,
        *,
        organization_id: str,
        agent_id: str | None = None,
        team_id: str | None = None,
        user_id: str | None = None,
        estimated_cost_usd: Money | None = None,
        estimated_input_tokens: int = 0,
        estimated_output_tokens: int = 0,
        executions: int = 1,
    ) -> Explanation:
        """What `check` would answer, with the numbers of each scope that lead to it.

        `print` it to read it. It is not counted as a check, and takes longer than one.

        Raises:
            ValueError: an id or an estimate that cannot be.
        """
        ask = understand(
            (organization_id, team_id, user_id, agent_id),
            (estimated_cost_usd, executions, estimated_input_tokens, estimated_output_tokens),
        )
        now_s = self._clock()
        return self._checker.explain(ask.keys, self._day(now_s), ask.asked, now_s)

    def reserve(
        self,
        *,
        organization_id: str,
        agent_id: str | None = None,
        team_id: str | None = None,
        user_id: str | None = None,
        estimated_cost_usd: Money | None = None,
        estimated_input_tokens: int = 0,
        estimated_output_tokens: int = 0,
        executions: int = 1,
        expires_s: float = RESERVATION_EXPIRES_S,
    ) -> Reservation:
        """Check a call and, where it is allowed, hold what it asks for, in one step.

        Of calls that ask at the same moment no more are let through than there is room for. The
        arguments are those of `check`; it neither waits, nor is there another form of it for code
        in an event loop.

        Args:
            expires_s: after how many seconds it no longer counts, settled or not.

        Raises:
            BudgetExceededError: a budget blocks it; `result` is the answer of the check.
            TooManyReservations: `outlay.holds.RESERVATIONS_MAX` are open.
            ValueError: an id or an estimate that cannot be; no agent, where there is an emitter.
        """
        ids = (organization_id, team_id, user_id, agent_id)
        estimates = (
            estimated_cost_usd,
            executions,
            estimated_input_tokens,
            estimated_output_tokens,
        )
        keys, asked = understand(ids, estimates)
        lasts_s = _seconds(expires_s)
        if agent_id is None and self._emitter is not None:
            raise ValueError("a reservation whose usage is to be emitted needs an agent_id")
        with self._holds.lock:
            result = self.check(
                organization_id=organization_id,
                agent_id=agent_id,
                team_id=team_id,
                user_id=user_id,
                estimated_cost_usd=estimated_cost_usd,
                estimated_input_tokens=estimated_input_tokens,
                estimated_output_tokens=estimated_output_tokens,
                executions=executions,
            )
            if not result.allowed:
                raise BudgetExceededError(result.reason, result)
            hold = self._holds.reserve(keys, asked, lasts_s)
        return Reservation(result, hold, self._holds, self._emitter, self._clock, ids, executions)

    def guard(
        self,
        *,
        actual: Callable[[Any], Actual],
        actual_on_error: Callable[[BaseException], Actual] | None = None,
        **asked: Any,
    ) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
        """A decorator for a function that spends, sync or async: `reserve` before, settle after.

        A call that a budget blocks raises `BudgetExceededError` instead of being made. One that
        fails is reported too, with `success=False`.

        Args:
            actual: given what the function returned, what the call has used: its cost, or a
                mapping with the arguments of `Reservation.settle`.
            actual_on_error: the same, given what it raised; without it, or where it fails, a failed
                call cost nothing.
            asked: the arguments of `reserve`; each may be a function of the call's arguments.

        Raises:
            ValueError: no function, or a generator, which would go on after its call. So does what
                returns an awaitable and is not `async` itself: then the call is refused.
        """
        return guard(self.reserve, asked, actual, actual_on_error)

    def _day(self, now_s: float) -> int:
        begins_s, ends_s, day = self._today
        return day if begins_s <= now_s < ends_s else self._turn_to(now_s)[2]

    def _turn_to(self, now_s: float) -> Today:
        """The day that a time falls in, kept for the checks that follow."""
        days = int(now_s // _DAY_S)
        today = float(days * _DAY_S), float((days + 1) * _DAY_S), days + _EPOCH_DAY
        self._today = today
        return today

    @property
    def emitter(self) -> Emits | None:
        """What this process emits with, where the gateway knows it."""
        return self._emitter

    @property
    def stats(self) -> GatewayStats:
        """How many checks were answered so far."""
        self._holds.expire()
        reservations = self._holds.open_reservations
        return GatewayStats(self._checks.value, self._blocked.value, reservations)

    def start(self) -> None:
        """Start the feed, where it is the gateway's own; returns at once."""
        if self._owns_feed:
            self.feed.start()

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until the feed has caught up.

        Raises:
            FeedNotReady: it has not within `timeout_s` seconds.
        """
        self.feed.wait_ready(timeout_s)

    async def await_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """`wait_ready` for code in an event loop."""
        await self.feed.await_ready(timeout_s)

    def close(self) -> None:
        """Close the feed, where it is the gateway's own; checks go on by what is known.

        What the emitter emits from now on is not added any more, nor what it has not delivered:
        nobody would say when a decision contains it.
        """
        self._unwatch()
        if self._owns_feed:
            self.feed.close()

    async def aclose(self) -> None:
        """`close` for code in an event loop."""
        self._unwatch()
        if self._owns_feed:
            await self.feed.aclose()

    def _unwatch(self) -> None:
        if self._emitter is not None:
            self._emitter.unwatch(self._holds)
            self._holds.ended()


def _seconds(expires_s: float) -> float:
    """How long a reservation lasts.

    Raises:
        ValueError: no time that can pass.
    """
    if not isinstance(expires_s, bool):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            if 0 < (seconds := float(expires_s)) < float("inf"):
                return seconds
    raise ValueError(f"expires_s must be a number of seconds above zero, not {expires_s!r}")
