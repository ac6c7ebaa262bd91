"""Checking: the answer to one call, from the decisions and from what is held beside them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from outlay.budget import NOTHING, Amounts
from outlay.caller import Asked, Caller, Today
from outlay.explaining import Explanation, ScopeView, explain_scope
from outlay.feed import DecisionFeed
from outlay.feed_state import FeedState
from outlay.held import Held
from outlay.holds import Holds
from outlay.money import to_usd
from outlay.standing import ALLOWED, UNLIMITED, CheckResult, KnownBudget, Standing, cost_room
from outlay.verdict import BLOCKED, SILENT, judge, judge_stale

_NOTHING_HELD: Mapping[str, Held] = {}
_NOTHING = (NOTHING, NOTHING)  # of the day and of the month
_NOT_READY = "the decisions feed is not ready, no budget is known"

_Look = tuple[str, KnownBudget | None, tuple[Amounts, Amounts], bool]
"""A scope's key, what is known of it, what counts as used, and whether that may be out of date."""


class Checker:
    """Answers by the decisions of a feed and what is held; safe in any thread.

    `plain` and `holding` give the usual answer, where all is fresh and no budget has anything to
    say; they answer None where one may have, and then `in_full` answers.
    """

    def __init__(self, feed: DecisionFeed, holds: Holds, *, blocks_not_ready: bool) -> None:
        self._feed = feed
        self._holds = holds
        self._scopes = holds.scopes
        self._monotonic = feed.monotonic
        self._blocks_not_ready = blocks_not_ready

    def plain(
        self,
        caller: Caller,
        today: Today,
        cost_nano: int,
        executions: int,
        input_tokens: int,
        output_tokens: int,
    ) -> CheckResult | None:
        """The usual answer while nothing is held, kept for a caller that asks again."""
        feed = self._feed
        state = feed.state
        generation = state.generation  # first: what comes in from now on ends what is kept
        if not (state.ready and self._monotonic() - state.oldest_seen_s <= feed.stale_after_s):
            return None
        day = today[2]
        get = state.decisions.get
        tokens = input_tokens + output_tokens
        least: Standing | None = None
        least_room = UNLIMITED
        for key in caller.keys:
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
        usual = ALLOWED if least is None else least.allowed
        if caller.asked_in is not generation:
            caller.asked_in = generation
        elif generation is not None:
            asked = cost_nano, executions, input_tokens, output_tokens
            caller.keep(generation, today, _standings(state, caller.keys, day), asked, usual)
        return usual

    def holding(
        self,
        caller: Caller,
        today: Today,
        cost_nano: int,
        executions: int,
        input_tokens: int,
        output_tokens: int,
    ) -> CheckResult | None:
        """The usual answer while something is held: no budget warns, even after the call.

        What is held for a scope has nearly always been spent today, and then all of it counts for
        the day and for the month. Otherwise `in_full` has the word.
        """
        feed, holds, scopes = self._feed, self._holds, self._scopes
        state, now_s = feed.state, self._monotonic()
        if now_s >= holds.next_expiry_s:
            holds.expire()
        if not (state.ready and now_s - state.oldest_seen_s <= feed.stale_after_s):
            return None
        get, get_watermark, day = state.decisions.get, state.watermarks.get, today[2]
        least: Standing | None = None
        least_room = UNLIMITED
        for key in caller.keys:
            held = scopes.get(key)  # before the decision: what is held no more is in that
            known = get(key)
            if known is None:
                continue
            standing = known.standing
            if standing is None or standing.day != day:
                standing = known.stand(day)
            held_nano, count, inputs, outputs = 0, executions, input_tokens, output_tokens
            if held is not None:
                if held.known is not known or held.watermark is not get_watermark(known.partition):
                    holds.compare(key, held)
                # What is reserved first: what is settled is emitted before it is reserved no more.
                reserved, days = held.reserved, held.days
                if held.in_month or held.in_day:
                    return None
                held_nano = reserved.cost_nano
                count += reserved.executions
                inputs += reserved.input_tokens
                outputs += reserved.output_tokens
                if days:
                    emitted = days.get(day)
                    if emitted is None or len(days) > 1:
                        return None
                    held_nano += emitted.cost_nano
                    count += emitted.executions
                    inputs += emitted.input_tokens
                    outputs += emitted.output_tokens
                if held.known is not known:
                    return None
            if held_nano + cost_nano >= standing.cost_calm or not (
                standing.calm_by_cost
                or (
                    count < standing.executions_calm
                    and inputs + outputs < standing.tokens_calm
                    and inputs < standing.input_tokens_calm
                    and outputs < standing.output_tokens_calm
                )
            ):
                return None
            room = standing.plain_cost_room - held_nano
            if room < least_room and standing.plain_cost_room != UNLIMITED:
                least, least_room = standing, room
        if feed.state is not state:  # read anew: what is held no more is in that one only
            return None
        if least is None:
            return ALLOWED
        if least_room == least.plain_cost_room:
            return least.allowed
        return CheckResult(remaining_usd=Decimal(to_usd(least_room)))

    def in_full(
        self, caller: Caller, today: Today, asked: Asked, *, is_holding: bool
    ) -> CheckResult:
        """The answer by the one rule; where nothing is held it is kept for the caller.

        What another thread begins to hold in the meantime does not count then, as it could not be
        in what is kept.
        """
        if is_holding:
            return self._weigh(caller.keys, today[2], Amounts(*asked), self._scopes)
        feed = self._feed
        state = feed.state
        generation = state.generation  # first, as in `plain`
        made_in, made_for, same, result = caller.exactly
        if (
            made_in is generation
            and made_for == today[2]
            and same == asked
            and self._monotonic() - state.oldest_seen_s <= feed.stale_after_s
        ):
            return result
        result = self._weigh(caller.keys, today[2], Amounts(*asked), _NOTHING_HELD)
        if generation is not None and not result.stale:
            standings = _standings(state, caller.keys, today[2])
            caller.keep(generation, today, standings, asked, result)
        return result

    def _weigh(
        self, keys: tuple[str, ...], day: int, asked: Amounts, scopes: Mapping[str, Held]
    ) -> CheckResult:
        """The answer in full, by the one rule."""
        feed, holds = self._feed, self._holds
        if not feed.state.ready:
            return self._not_ready
        all_fresh = self._monotonic() - feed.state.oldest_seen_s <= feed.stale_after_s
        looks: list[_Look] = []
        for key in keys:
            is_stale = not all_fresh and feed.is_stale(key)
            known: KnownBudget | None
            used = _NOTHING
            held = scopes.get(key)  # before the decision: what is held no more is in that
            if held is None:
                known = feed.state.decisions.get(key)
                if known is not None:
                    used = known.stand(day).used
            else:
                with holds.lock:
                    holds.compare(key, held)
                    known = held.known
                    if known is not None:
                        used = held.added_to(known.stand(day).used, day)
            looks.append((key, known, used, is_stale))
        return self._answer(looks, day, asked)

    def _answer(self, looks: list[_Look], day: int, asked: Amounts) -> CheckResult:
        stale = False
        least_room = UNLIMITED
        strictest = SILENT
        for key, known, used, is_stale in looks:
            stale = stale or is_stale
            if known is None:
                continue
            standing = known.stand(day)
            room = standing.cost_room if used is standing.used else cost_room(known.rules, used)
            if room < least_room:
                least_room = room
            if is_stale:
                verdict = judge_stale(key, known, day, used, asked, self._feed.stale_after_s)
            else:
                verdict = judge(key, known, day, used, asked)
            if verdict.rank > strictest.rank:  # among equals the widest scope, which comes first
                strictest = verdict
        return CheckResult(
            strictest.rank < BLOCKED,
            strictest.state,
            strictest.degraded,
            strictest.reason,
            strictest.scope,
            None if least_room == UNLIMITED else Decimal(to_usd(least_room)),
            stale,
        )

    def explain(self, keys: tuple[str, ...], day: int, asked: Amounts, now_s: float) -> Explanation:
        """The answer, made of the numbers of each scope that it is told with."""
        looks: list[_Look] = []
        scopes = []
        with self._holds.lock:
            self._holds.expire()
            ready = self._feed.state.ready
            for key in keys:
                age_s = self._feed.scope_age_s(key)
                stale = age_s > self._feed.stale_after_s
                view = self.view(key, day)
                scopes.append(explain_scope(key, view, day, asked, stale=stale, age_s=age_s))
                known, used = (None, _NOTHING) if view is None else (view.known, view.used)
                looks.append((key, known, used, stale))
        result = self._answer(looks, day, asked) if ready else self._not_ready
        return Explanation(result, datetime.fromtimestamp(now_s, UTC), tuple(scopes))

    @property
    def _not_ready(self) -> CheckResult:
        return CheckResult(allowed=not self._blocks_not_ready, reason=_NOT_READY, stale=True)

    def view(self, key: str, day: int) -> ScopeView | None:
        """What is known of a scope with a budget, of one moment."""
        with self._holds.lock:
            held = self._scopes.get(key)
            if held is None:
                known = self._feed.state.decisions.get(key)
                return None if known is None else ScopeView(known, known.stand(day).used)
            self._holds.compare(key, held)
            known = held.known
            if known is None:
                return None
            reserved = held.reserved.amounts
            return ScopeView(known, known.stand(day).used, held.emitted(day), reserved)


def _standings(state: FeedState, keys: tuple[str, ...], day: int) -> list[Standing]:
    """How the budgets of some scopes stand on a day, of those that have one."""
    return [known.stand(day) for known in map(state.decisions.get, keys) if known is not None]
