"""Usage: records of agents that have no Kafka client, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response

from api.callers import Caller, needs
from api.encoded_bodies import BodyRoom, whole_body
from api.ingest import IngestBusy, UsageIngest
from api.problems import ProblemError, described
from api.repeats import KeyReused, Repeats
from api.services import PREFIX
from api.tickets import Ticket
from api.usage_forms import RECORDS_MAX, Given, form_of, parse
from api.usage_records import Judged, fingerprint_of, judged
from outlay.sending import SenderFactory
from schemas.http_usage import UsageAccepted, request_body

DELIVERY_TIMEOUT_S = 5.0
"""How long a request waits for the broker, in seconds; then it is answered with what is known."""

KEY_LENGTH_MAX = 255
"""How long an `Idempotency-Key` may be, in characters."""

REPLAYED_HEADER = "Idempotent-Replayed"
"""Says `true` where the records of a request had been accepted before, and were not sent again."""

router = APIRouter(prefix=PREFIX, tags=["usage"])

_encode = msgspec.json.Encoder().encode


class _Taken(NamedTuple):
    """The records of a request, their ticket, and whether it was made for them."""

    records: list[Judged]
    ticket: Ticket
    is_new: bool


class UsageService:
    """What the route needs: the way to the broker, the keys that came, and room for bodies."""

    def __init__(
        self,
        sender_factory: SenderFactory,
        now: Callable[[], datetime],
        *,
        ingest: UsageIngest | None = None,
        delivery_timeout_s: float = DELIVERY_TIMEOUT_S,
    ) -> None:
        self.ingest = UsageIngest(sender_factory) if ingest is None else ingest
        self.repeats = Repeats()
        self.room = BodyRoom()
        self._now = now
        self.delivery_timeout_s = delivery_timeout_s

    async def aclose(self) -> None:
        """End it; what has not been sent will not be."""
        await self.ingest.aclose()

    async def take(self, request: Request, caller: Caller, key: str | None) -> _Taken:
        """Read the records of a request, judge them and hand them in.

        The body is held no longer than this takes, so that the wait for the broker holds none.

        Raises:
            ProblemError: nothing was sent.
        """
        form = form_of(request.headers)
        async with whole_body(request, self.room, owner=caller.organization_id) as body:
            given = parse(form, request.headers, body)
            records = judged(given, caller, self._now(), key)
            return _Taken(records, *self._ticket(given, records, caller, key))

    async def settle(self, taken: _Taken) -> Response:
        """Wait for the broker's acknowledgement of all records.

        Raises:
            ProblemError: nothing was sent, or what was is not known to have arrived.
        """
        ticket = taken.ticket
        state = await self.ingest.settled(ticket, self.delivery_timeout_s)
        if state == "delivered":
            return _accepted(taken)
        if state == "withdrawn":
            detail = "the broker does not take the records now; none of them was sent"
            raise ProblemError("broker-unavailable", detail)
        raise _unconfirmed(ticket)

    def _ticket(
        self, given: Given, records: list[Judged], caller: Caller, key: str | None
    ) -> tuple[Ticket, bool]:
        """The ticket of these records, and whether it is new. Nothing is awaited in between."""
        if key is None and given.event_key is not None:
            key = f"event {given.event_key}"  # no header's key has a space
        if key is None:
            return self._submit(records, caller), True
        fingerprint, name = fingerprint_of(given), repr((caller.organization_id, caller.key_id))
        try:
            found = self.repeats.find(name, key, fingerprint)
        except KeyReused:
            detail = "this key, or this event, came before with other records; these were not sent"
            raise ProblemError("idempotency-key-reused", detail) from None
        if found is not None:
            return found, False
        ticket = self._submit(records, caller)
        self.repeats.keep(name, key, fingerprint, ticket)
        return ticket, True

    def _submit(self, records: list[Judged], caller: Caller) -> Ticket:
        try:
            return self.ingest.submit(records, caller.organization_id)
        except IngestBusy:
            detail = "too many records wait for the broker now; none of these was sent"
            raise ProblemError("usage-busy", detail) from None


_Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_LENGTH_MAX,
        pattern=r"^[\x21-\x7e]+$",
        description="Makes it safe to send the same body again to this API process: for an hour"
        " it does not count twice.",
    ),
]


@router.post(
    "/usage",
    status_code=202,
    response_model=UsageAccepted,
    openapi_extra={"requestBody": request_body(RECORDS_MAX)},
    responses=described(
        "request-timeout",
        "body-too-large",
        "unsupported-media-type",
        "invalid-request",
        "idempotency-key-reused",
        "usage-unknown",
        "usage-busy",
        "broker-unavailable",
        "usage-unconfirmed",
    ),
)
async def post_usage(
    request: Request,
    caller: Annotated[Caller, Depends(needs("emitter"))],
    idempotency_key: _Key = None,
) -> Response:
    """Report usage: one record or an array, NDJSON, or CloudEvents; gzip and zstd are read.

    202 says that the broker has all of them. Where one record is wrong none is sent, and the answer
    names each wrong one by its index. `broker-unavailable` and `usage-busy` say that none was sent:
    send them again. `usage-unconfirmed` says that those at `unconfirmed` may still be counted: with
    an `Idempotency-Key`, send the same again for the outcome; without, they may count twice. After
    `usage-unknown` nobody will know whether those at `unconfirmed` are counted.
    """
    have: UsageService = request.app.state.usage
    return await have.settle(await have.take(request, caller, idempotency_key))


def _accepted(taken: _Taken) -> Response:
    listed = [{"index": n, "id": each.record.id} for n, each in enumerate(taken.records)]
    body = _encode({"accepted": len(listed), "records": listed})
    headers = {} if taken.is_new else {REPLAYED_HEADER: "true"}
    return Response(body, 202, headers, "application/json")


def _unconfirmed(ticket: Ticket) -> ProblemError:
    more: dict[str, Any] = {"unconfirmed": ticket.unconfirmed}
    if ticket.state == "unknown":
        detail = (
            f"whether {len(more['unconfirmed'])} of {ticket.count} records are counted will not be"
            " known; sent with another key they may count twice"
        )
        return ProblemError("usage-unknown", detail, **more)
    detail = (
        f"the broker has not acknowledged {len(more['unconfirmed'])} of {ticket.count} records yet;"
        " send the same with the same Idempotency-Key for the outcome"
    )
    return ProblemError("usage-unconfirmed", detail, **more)
