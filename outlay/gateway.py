"""Gateway: may this call be made? Answered from memory, before the call, without waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Literal, NoReturn

from outlay.budget import Amounts
from outlay.closing import Closing
from outlay.counting import Counter
from outlay.feed import READY_TIMEOUT_S, DecisionFeed
from outlay.money import Money, to_nano
from outlay.scope import SCOPE_KEYS_CACHE_MAX, Scope, scope_keys
from outlay.standing import ALLOWED, UNLIMITED, CheckResult, Standing
from outlay.topics import TopicNames
from outlay.verdict import BLOCKED, SILENT, judge, judge_stale

__all__ = ["BudgetGateway", "CheckResult", "GatewayStats"]

ESTIMATES_CACHE_MAX = 4_096
"""How many estimated costs are kept ready in nano-dollars."""

_DAY_S = 86_400
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_UNKNOWN_COST_NANO = 1  # the least there is: a budget that is used up exactly has no room for it
_NOT_READY = "the decisions feed is not ready, no budget is known"


@dataclass(frozen=True, slots=True)
class GatewayStats:
    """How many checks were answered, and how many of them with a block."""

    checks: int
    blocked: int


class BudgetGateway(Closing):
    """Answers checks from the decisions that a feed keeps in memory; safe in any thread or loop.

    A check never waits and never raises for the state of things. While the feed is not ready
    nothing is known: calls are allowed with `stale` set, or blocked with `on_not_ready="block"`.
    Later, where the feed has gone stale, a budget's `on_stale` says whether the last known
    decision counts or the call is blocked. A scope without a budget has nothing to say.

    Args:
        bootstrap_servers: `host:port`, several separated by commas; for a feed of its own.
        topics: the names of the topics; for a feed of its own.
        feed: the feed to go by; it is started and closed by whoever made it.
        clock: the time in seconds since the epoch; the day and month are those of UTC.
        on_not_ready: what to answer before the feed is ready.
        feed_options: more arguments for a `DecisionFeed` of its own.
    """

    def __init__(
        self,
        bootstrap_servers: str = "127.0.0.1:9092",
        *,
        topics: TopicNames | None = None,
        feed: DecisionFeed | None = None,
        clock: Callable[[], float] = time.time,
        on_not_ready: Literal["allow", "block"] = "allow",
        **feed_options: Any,
    ) -> None:
        self._owns_feed = feed is None
        self.feed = feed or DecisionFeed(bootstrap_servers, topics=topics, **feed_options)
        self._clock = clock
        self._monotonic = self.feed.monotonic
        self._blocks_not_ready = on_not_ready == "block"
        self._today = (0.0, 0.0, 0)  # from when, until when, and the day's ordinal
        self._checks = Counter()
        self._count_check = self._checks.up.__next__
        self._blocked = Counter()

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
        try:
            keys = _keys(organization_id, team_id, user_id, agent_id)
            cost_nano = (
                _UNKNOWN_COST_NANO if estimated_cost_usd is None else _nano(estimated_cost_usd)
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
            _refuse(cost_nano, executions, estimated_input_tokens, estimated_output_tokens)
        self._count_check()
        now_s = self._clock()
        begins_s, ends_s, day = self._today
        if not begins_s <= now_s < ends_s:
            day = self._turn_to(now_s)
        result = self._check_plain(
            keys, day, cost_nano, executions, estimated_input_tokens, estimated_output_tokens
        )
        if result is None:
            asked = Amounts(cost_nano, executions, estimated_input_tokens, estimated_output_tokens)
            result = self._weigh(keys, day, asked)
            if not result.allowed:
                next(self._blocked.up)
        return result

    def _turn_to(self, now_s: float) -> int:
        """The ordinal of the day that a time falls in, kept for the checks that follow."""
        days = int(now_s // _DAY_S)
        self._today = (days * _DAY_S, (days + 1) * _DAY_S, days + _EPOCH_DAY)
        return days + _EPOCH_DAY

    def _check_plain(
        self,
        keys: tuple[str, ...],
        day: int,
        cost_nano: int,
        executions: int,
        input_tokens: int,
        output_tokens: int,
    ) -> CheckResult | None:
        """The usual answer: all is fresh, and no budget has anything to say. None: it may have."""
        feed = self.feed
        state = feed.state
        if not (state.ready and self._monotonic() - state.oldest_seen_s <= feed.stale_after_s):
            return None
        get = state.decisions.get
        tokens = input_tokens + output_tokens
        least: Standing | None = None
        least_room = UNLIMITED
        for key in keys:
            known = get(key)
            if known is None:
                continue
            standing = known.standing
            if standing is None or standing.day != day:
                standing = known.stand(day)
            room = standing.plain_cost_room
            if cost_nano > room or executions > standing.executions_room:
                return None
            if tokens and (  # nothing asked fits in any room of a budget that is plain
                tokens > standing.tokens_room
                or input_tokens > standing.input_tokens_room
                or output_tokens > standing.output_tokens_room
            ):
                return None
            if room < least_room:
                least, least_room = standing, room
        return ALLOWED if least is None else least.allowed

    def _weigh(self, keys: tuple[str, ...], day: int, asked: Amounts) -> CheckResult:
        """The answer in full, by the one rule."""
        state = self.feed.state
        if not state.ready:
            return CheckResult(allowed=not self._blocks_not_ready, reason=_NOT_READY, stale=True)
        stale = False
        least: Standing | None = None
        strictest = SILENT
        for key in keys:
            is_stale = self.feed.is_stale(key)
            stale = stale or is_stale
            known = state.decisions.get(key)
            if known is None:
                continue
            standing = known.stand(day)
            if least is None or standing.cost_room < least.cost_room:
                least = standing
            if is_stale:
                verdict = judge_stale(key, known, standing, asked, self.feed.stale_after_s)
            else:
                verdict = judge(key, known, standing, asked)
            if verdict.rank > strictest.rank:  # among equals the widest scope, which comes first
                strictest = verdict
        return CheckResult(
            strictest.rank < BLOCKED,
            strictest.state,
            strictest.degraded,
            strictest.reason,
            strictest.scope,
            None if least is None else least.remaining_usd,
            stale,
        )

    @property
    def stats(self) -> GatewayStats:
        """How many checks were answered so far."""
        return GatewayStats(self._checks.value, self._blocked.value)

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
        """Close the feed, where it is the gateway's own; checks go on by what is known."""
        if self._owns_feed:
            self.feed.close()

    async def aclose(self) -> None:
        """`close` for code in an event loop."""
        if self._owns_feed:
            await self.feed.aclose()


def _refuse(*asked: object) -> NoReturn:
    for amount in asked:
        if type(amount) is not int or amount < 0:
            raise ValueError(f"an estimate must be a whole number, not negative: {amount!r}")
    raise AssertionError("nothing to refuse")


@lru_cache(maxsize=SCOPE_KEYS_CACHE_MAX)
def _keys(
    organization_id: str, team_id: str | None, user_id: str | None, agent_id: str | None
) -> tuple[str, ...]:
    """The scopes' keys, of ids that are checked.

    Raises:
        ValueError, TypeError: an id that cannot be.
    """
    for value in (organization_id, team_id, user_id, agent_id):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"an id must be a string, not {value!r}")
    if organization_id is None:
        raise TypeError("a check needs an organization_id")
    Scope(organization_id, team_id, user_id)
    Scope(organization_id, agent_id=agent_id)
    return scope_keys(organization_id, team_id, user_id, agent_id)


# By type, too: True and 1 are equal, and only one of them is an amount.
_nano = lru_cache(maxsize=ESTIMATES_CACHE_MAX, typed=True)(to_nano)
