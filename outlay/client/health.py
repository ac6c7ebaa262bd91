"""Health: whether a process of the API lives, and can answer. On the client itself."""

from __future__ import annotations

import msgspec

from outlay.client.calls import Answer, Ask, reading
from outlay.client.operations import R, Resource, operation

NOT_READY = frozenset({"not-ready"})


class ReadinessCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that must be in order."""

    ok: bool
    detail: str = ""


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests can be answered, thing by thing."""

    ready: bool = False
    checks: dict[str, ReadinessCheck]


class _Alive(msgspec.Struct):
    status: str


_read_alive = reading(_Alive)
_read_readiness = reading(Readiness)


class Health(Resource[R]):
    """What needs no key."""

    @operation("GET", "/healthz")
    def alive(self) -> Ask[bool]:
        """Whether the process lives; where it does not, it raises `NoAnswer`."""
        return Ask(read=lambda answer: _read_alive(answer).status == "ok")

    @operation("GET", "/readyz")
    def ready(self) -> Ask[Readiness]:
        """Whether it can answer, and what is not in order where it cannot."""
        return Ask(read=_readiness, read_kinds=NOT_READY)

    @operation("GET", "/metrics")
    def metrics(self) -> Ask[str]:
        """Its metrics, as Prometheus reads them."""
        return Ask(read=lambda answer: answer.content.decode())


def _readiness(answer: Answer) -> Readiness:
    return msgspec.structs.replace(_read_readiness(answer), ready=answer.status == 200)
