"""Budgets: the owner of a scope decides each request to change its budget, once.

There is one writer to a budget, the worker that owns its scope, so no two API processes can
overwrite each other unseen. A deleted budget leaves its version behind for as long as days are
kept, so that a budget made after it is not taken for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from outlay.alert_config import SECRET_PREFIX, AlertConfig
from outlay.budget import Budget
from outlay.budget_request import Held, requested
from outlay.decision import BudgetRequest, decode_request
from outlay.scope import Scope
from schemas.messages import AuditRecord
from streams import messages
from streams.audit import audit_record
from streams.batch import SourceRecord, day_of
from streams.flush import Message
from streams.messages import cut_reason
from streams.wants import Awaited

RECENT_MAX = 16
"""How many answers are kept per scope, for requests that come again."""


class Answer(msgspec.Struct, frozen=True):
    """What became of a request; `version` is the budget's after it, 0 when there is none."""

    request_id: str
    accepted: bool
    version: int
    reason: str = ""


class BudgetState(msgspec.Struct, frozen=True):
    """What the owner keeps of a scope: its budget if it has one, and the requests decided.

    `day` is that of the last request's message, as an ordinal. `made` is the version at which the
    budget was made, and `made_at` the offset of the request that made it; `alerts` its own alert
    configuration and `alerts_version` the version at which that was changed or taken away; 0 where
    it never had one.
    """

    budget: Budget | None = None
    version: int = 0
    offset: int = -1
    day: int = 0
    request_id: str = ""
    recent: tuple[Answer, ...] = ()
    made: int = 0
    made_at: int = -1
    alerts: AlertConfig | None = None
    alerts_version: int = 0

    @property
    def held(self) -> Held:
        """What the scope has."""
        return Held(self.budget, self.alerts)


NO_BUDGET = BudgetState()


class Decided(NamedTuple):
    """What a request led to: the answer to publish, and the record of what was decided now.

    There is no answer where the one that was given once is not kept any more, and no record of a
    request that was decided before, or that is not for the scope's owner to decide.
    """

    scope: str
    answer: Answer | None
    audit: AuditRecord | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(BudgetState).decode


class RequestError(ValueError):
    """A message on the budgets topic that is no budget request."""


class Budgets:
    """The budgets of one totals partition."""

    def __init__(self, partition: int, partition_of: Callable[[str], int]) -> None:
        self.partition = partition
        self._partition_of = partition_of
        self.states: dict[str, BudgetState] = {}
        self.awaited = Awaited()
        """Those whose totals have not all arrived: as if they had no budget until then."""
        self._dirty: set[str] = set()

    def load(self, records: Sequence[SourceRecord]) -> None:
        """Take over records of the changelog, in their order."""
        for record in records:
            scope = messages.key_of(record).decode()
            if record.value is None:
                self.states.pop(scope, None)
            else:
                self.states[scope] = _decode(record.value)

    def begin(self, wants_taken: int) -> None:
        """All of the changelog was loaded; so far the wants have been taken over everywhere.

        Raises:
            ValueError: an older version wrote it.
        """
        made = ((s, state.made_at) for s, state in self.states.items() if state.budget is not None)
        self.awaited.load(made, wants_taken)

    @property
    def reaches(self) -> int:
        """The highest offset of a request that was decided."""
        return max((state.offset for state in self.states.values()), default=-1)

    def decide(self, value: bytes | None, offset: int, timestamp_ms: int) -> Decided:
        """Decide the request at an offset.

        A request that was decided before gets the answer that it got then.

        Raises:
            RequestError: not a budget request for a scope.
        """
        request = _parse(value)
        scope = request.scope
        home = self._partition_of(scope)
        if home != self.partition:  # a producer with a partitioner of its own
            reason = f"sent to partition {self.partition}, but the scope belongs to {home}"
            return Decided(scope, Answer(request.request_id, False, 0, reason))
        state = self.states.get(scope, NO_BUDGET)
        self._dirty.add(scope)
        known = next((a for a in state.recent if a.request_id == request.request_id), None)
        if offset <= state.offset:
            return Decided(scope, known)
        if known is not None:
            self.states[scope] = msgspec.structs.replace(state, offset=offset)
            return Decided(scope, known)
        after, answer = _carry_out(state, request, offset)
        if (after.budget is None) != (state.budget is None):
            self.awaited.changed(scope, offset, made=after.budget is not None)
        self.states[scope] = msgspec.structs.replace(
            after,
            offset=offset,
            day=day_of(timestamp_ms),
            recent=(*state.recent, answer)[-RECENT_MAX:],
        )
        record = audit_record(
            request,
            accepted=answer.accepted,
            version=answer.version,
            reason=answer.reason,
            before=state.held,
            after=after.held,
            partition=self.partition,
            offset=offset,
            timestamp_ms=timestamp_ms,
        )
        return Decided(scope, answer, record)

    def forget(self, before_day: int) -> None:
        """Drop what is kept of scopes without a budget since before a day (its ordinal)."""
        for scope, state in list(self.states.items()):
            if state.budget is None and state.day < before_day:
                del self.states[scope]
                self._dirty.add(scope)

    def take_changes(self) -> Iterator[Message]:
        """The changelog records of all that changed; they count as written from then on."""
        for scope in self._dirty:
            state = self.states.get(scope)
            yield scope.encode(), None if state is None else _encode(state)
        self._dirty.clear()


def _carry_out(
    state: BudgetState, request: BudgetRequest, offset: int
) -> tuple[BudgetState, Answer]:
    """The state that a request leads to, and the answer; the same if refused."""
    try:
        held = requested(state.held, state.version, request)
    except ValueError as error:
        version = state.version if state.budget is not None else 0
        reason = cut_reason(_is_secret.sub(f"{SECRET_PREFIX}…", str(error)))
        return state, Answer(request.request_id, False, version, reason)
    version = state.version + 1
    concerns_alerts = request.action.endswith("_alerts") or held.alerts != state.alerts
    after = msgspec.structs.replace(
        state,
        budget=held.budget,
        version=version,
        request_id=request.request_id,
        made=version if state.budget is None else state.made,
        made_at=offset if state.budget is None else state.made_at,
        alerts=held.alerts,
        alerts_version=version if concerns_alerts else state.alerts_version,
    )
    return after, Answer(request.request_id, True, version if held.budget is not None else 0)


def showable(value: bytes | None) -> bytes | None:
    """What is no request, as a dead letter may show it: None where it may hold secrets."""
    return None if value and any(word in value for word in _SECRET_WORDS) else value


_SECRET_WORDS = (b"webhook_", SECRET_PREFIX.encode())
_is_secret = re.compile(rf"{SECRET_PREFIX}[^\s'\"`]*")  # one that stands where it does not belong


def _parse(value: bytes | None) -> BudgetRequest:
    try:
        request = decode_request(value or b"")
        Scope.parse(request.scope)
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError) as error:
        raise RequestError(f"not a budget request: {error}") from None
    return request
