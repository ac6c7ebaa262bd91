"""Caller: who asks a gateway, and the answers that are kept ready for whoever asks again."""

from __future__ import annotations

from collections import OrderedDict

from outlay.asking import Ids, checked_keys
from outlay.scope import ID_LENGTH_MAX, scope_keys
from outlay.standing import UNLIMITED, CheckResult, Standing

CALLERS_MAX = 65_536
"""How many callers a gateway keeps ready; beyond, the one that came first is forgotten."""

KEYS_LENGTH_MAX = 1_024
"""Up to how many characters a caller's keys may have together to be kept ready: those of ids of
250 characters would take a gigabyte."""

Today = tuple[float, float, int]
"""From when until when it is today, in seconds since the epoch, and the day's ordinal."""

Asked = tuple[int, int, int, int]
"""Nano-dollars, executions, input and output tokens."""

_NEVER = object()  # a generation that no state has
_Within = tuple[object, float, float, int, int, int, int, int, CheckResult]
_WITHIN_NOTHING: _Within = (_NEVER, 0.0, 0.0, -1, -1, -1, -1, -1, CheckResult())
_Exactly = tuple[object, int, Asked, CheckResult]
_EXACTLY_NOTHING: _Exactly = (_NEVER, 0, (-1, -1, -1, -1), CheckResult())


class Caller:
    """One organization, team, user and agent that asks: the keys of its scopes, and answers.

    An answer holds in the generation of `outlay.feed_state.FeedState` that it was made in and on
    the day that it was made for, while the feed is fresh and nothing is held.

    Attributes:
        keys: the keys of the scopes that its calls count in, widest first.
        asked_in: the generation in which it asked last, while no answer is kept: for who asks
            once, and again when all decisions are others, it would be made in vain.
        within: the generation, from when until when it is that day, how much may be asked for of
            cost, executions, tokens, input and output tokens, and the answer to all up to that.
        exactly: the generation, the day, what was asked for, and the answer to just that: a limit
            would be passed, and the answer says by how much.
    """

    __slots__ = ("asked_in", "exactly", "keys", "within")

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        self.asked_in: object | None = _NEVER
        self.within = _WITHIN_NOTHING
        self.exactly = _EXACTLY_NOTHING

    def keep(
        self,
        generation: object,
        today: Today,
        standings: list[Standing],
        asked: Asked,
        result: CheckResult,
    ) -> None:
        """Keep an answer, for all that the same rules answer in the same way.

        A call that passes no limit changes nothing in the answer, however much it asks for.

        Args:
            standings: how the budgets of the caller's scopes stand today.
        """
        cost = executions = tokens = inputs = outputs = UNLIMITED
        for standing in standings:
            cost = min(cost, standing.cost_room)
            executions = min(executions, standing.executions_room)
            tokens = min(tokens, standing.tokens_room)
            inputs = min(inputs, standing.input_tokens_room)
            outputs = min(outputs, standing.output_tokens_room)
        begins_s, ends_s, day = today
        if (
            asked[0] <= cost
            and asked[1] <= executions
            and asked[2] + asked[3] <= tokens
            and asked[2] <= inputs
            and asked[3] <= outputs
        ):
            rooms = cost, executions, tokens, inputs, outputs
            self.within = (generation, begins_s, ends_s, *rooms, result)
        else:
            self.exactly = (generation, day, asked, result)


class Callers:
    """The callers that are kept ready, at most `CALLERS_MAX`; safe in any thread."""

    def __init__(self) -> None:
        self._callers: OrderedDict[Ids, Caller] = OrderedDict()
        self.get = self._callers.get

    def __len__(self) -> int:
        return len(self._callers)

    def add(self, ids: Ids) -> Caller:
        """One more, whose ids are checked; it is kept unless its keys are overlong.

        Raises:
            ValueError, TypeError: an id that cannot be.
        """
        caller = Caller(keys_of(ids))
        if sum(map(len, caller.keys)) <= KEYS_LENGTH_MAX:
            self._callers[ids] = caller
            if len(self._callers) > CALLERS_MAX:
                self._callers.popitem(last=False)
        return caller


def keys_of(ids: Ids) -> tuple[str, ...]:
    """The keys of a caller's scopes, of ids that are checked; nearly all are right at first sight.

    Raises:
        ValueError, TypeError: an id that cannot be.
    """
    for value in ids:
        if value is not None and not (type(value) is str and 0 < len(value) <= ID_LENGTH_MAX):
            return checked_keys.__wrapped__(*ids)
    return checked_keys.__wrapped__(*ids) if ids[0] is None else scope_keys(*ids)
