"""The guard: finds who asks by the key in a request, and counts and limits what fails."""

from __future__ import annotations

from typing import Literal

import structlog
from fastapi import Request

from api.callers import ANYONE, Caller
from api.keys import Keyring
from api.limits import FailureLimit
from api.metrics import ApiMetrics
from api.problems import Kind, ProblemError
from api.rates import RequestRate
from outlay.apikey import looks_like_key

CHALLENGE = 'Bearer realm="outlay"'

Reason = Literal[
    "missing",  # no Authorization header
    "malformed",  # one that is no bearer key
    "unknown",  # a key that is not of the file
    "revoked",  # a key that was revoked
]

_WRONG = "the key in the Authorization header is not in force"

log = structlog.get_logger("outlay.api")


class Guard:
    """Authenticates requests against a `Keyring`; without one, everybody is `ANYONE`."""

    def __init__(
        self,
        keys: Keyring | None,
        metrics: ApiMetrics,
        limit: FailureLimit | None = None,
        rate: RequestRate | None = None,
    ) -> None:
        self._keys = keys
        self._metrics = metrics
        self._limit = limit or FailureLimit()
        self._rate = rate

    def __call__(self, request: Request) -> Caller:
        """The caller.

        Raises:
            ProblemError: there is no key in force in the request, and too many such, maybe; or
                the key makes more requests than it may.
        """
        if self._keys is None:
            return ANYONE
        header = request.headers.get("Authorization")
        if header is None:
            # Whoever shows no key tries none: this is how a client learns that it needs one.
            self._count("missing")
            raise _refusal("unauthorized", "this needs a key: Authorization: Bearer outlay_sk_…")
        scheme, _, key = header.partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not looks_like_key(key):
            raise self._failed(request, "malformed")
        found = self._keys.find(key)
        if found is None:
            raise self._failed(request, "unknown")
        if not found.in_force:
            raise self._failed(request, "revoked", found.id)
        if self._rate is not None and (wait_s := self._rate.take(found.id)) is not None:
            detail = f"this key makes more requests than it may: wait {wait_s} s"
            raise _refusal("too-many-requests", detail, wait_s)
        return Caller(found.name, found.organization_id, frozenset(found.roles), found.id)

    def in_force(self, caller: Caller) -> bool:
        """Whether a caller's key was not revoked since; for answers that go on for long."""
        if self._keys is None or caller.key_id is None:
            return self._keys is None
        return self._keys.is_in_force(caller.key_id)

    def _failed(self, request: Request, reason: Reason, key_id: str | None = None) -> ProblemError:
        self._count(reason)
        address = request.client.host if request.client else None
        wait_s = self._limit.failed(address)
        if wait_s is None:
            log.warning("a key was refused", reason=reason, client=address, key=key_id)
            return _refusal("unauthorized", _WRONG)
        detail = f"{_WRONG}, and too many such came from this address: wait {wait_s} s"
        return _refusal("too-many-attempts", detail, wait_s)

    def _count(self, reason: Reason) -> None:
        self._metrics.auth_failures.labels(reason).inc()


def _refusal(kind: Kind, detail: str, wait_s: int | None = None) -> ProblemError:
    refusal = ProblemError(kind, detail)
    if wait_s is None:
        # RFC 6750: whoever shows no key is told no error, but which scheme there is.
        wrong = ', error="invalid_token"' if detail == _WRONG else ""
        refusal.headers = {"WWW-Authenticate": CHALLENGE + wrong}
    else:
        refusal.headers = {"Retry-After": str(wait_s)}
    return refusal
