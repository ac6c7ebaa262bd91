"""Decisions as they change: `client.decisions`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, get_args

import msgspec

from outlay.budget import State
from outlay.client.addresses import scope_key
from outlay.client.amounts import AnsweredBudget, make_plain
from outlay.client.calls import Answer, Ask
from outlay.client.events import ServerEvent
from outlay.client.explanation import WindowSpend
from outlay.client.following import Subscription
from outlay.client.operations import R, Resource, stream
from outlay.scope import Scope

EventKind = Literal["decision", "deleted", "reset", "synced"]
_KINDS: tuple[EventKind, ...] = get_args(EventKind)


class PublishedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a budget when it was published, and what was used, by day and month."""

    scope: str
    version: int
    state: State
    budget: AnsweredBudget
    windows: dict[str, WindowSpend]
    published_at: datetime

    def __post_init__(self) -> None:
        make_plain(self, "budget")


class DecisionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that changed.

    Attributes:
        kind: `decision`: a budget's state, as a whole; `deleted`: a scope has no budget any more;
            `reset`: forget all scopes you know, the decisions up to the next `synced` are all there
            are; `synced`: that was all you lacked, from here on there are changes.
        scope: the key of the scope; empty for `reset` and `synced`.
        decision: of a `decision`.
        id: gives `last_event_id` for a later stream of the same filter; empty while there is none.
    """

    kind: EventKind
    scope: str = ""
    decision: PublishedDecision | None = None
    id: str = ""


class _Deleted(msgspec.Struct):
    scope: str


_decode_decision = msgspec.json.Decoder(PublishedDecision).decode
_decode_deleted = msgspec.json.Decoder(_Deleted).decode


class Decisions(Resource[R]):
    """The stream of decisions."""

    @stream("GET", "/api/v1/decisions/stream")
    def stream(
        self,
        *,
        organization_id: str | None = None,
        scope: Scope | str | None = None,
        last_event_id: str = "",
    ) -> Subscription[DecisionEvent]:
        """What changes, of all scopes that the key sees, or of one and all within; without an end.

        It begins with what you lack: everything, or what came after `last_event_id`. Where it
        breaks off it goes on by itself, behind the last event, and raises when that has failed ten
        times in a row. Leave it with `contextlib.closing` (`aclosing`) to close its connection.

        Raises:
            ApiError: it cannot go on.
        """
        key = None if scope is None else scope_key(scope)
        if not all("!" <= c <= "~" for c in last_event_id):
            raise ValueError("last_event_id is the id of an event, as it was told")
        query = {"organization_id": organization_id, "scope": key}
        return Subscription(Ask(read=_unread, query=query), _event, last_event_id)


def _event(event: ServerEvent) -> DecisionEvent | None:
    kind = next((each for each in _KINDS if each == event.name), None)
    if kind is None:  # of a newer server
        return None
    if kind == "decision":
        decision = _decode_decision(event.data)
        return DecisionEvent(kind=kind, scope=decision.scope, decision=decision, id=event.id)
    scope = _decode_deleted(event.data).scope if kind == "deleted" else ""
    return DecisionEvent(kind=kind, scope=scope, id=event.id)


def _unread(answer: Answer) -> None:
    raise ValueError("a stream is read event by event")
