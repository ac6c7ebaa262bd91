"""Idempotency of budget writes: a client's key becomes the ids of its budget requests.

Under one id the scope's owner carries out one request, whichever API process sends it, so a write
whose answer was lost is asked again under the same key and done once. An id holds hashes of

- the caller and the organization, with the key: nobody meets the key of somebody else;
- what is asked for: other content under the same key is another request, and told from a retry;
- the condition, and how many times it was tried (see `api.budget_writing`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import uuid_utils
from fastapi import Header

from api.callers import Caller
from api.correlation import current_request_id
from api.problems import ProblemError

KEY_LENGTH_MAX = 255
"""The longest `Idempotency-Key`, in characters."""

_HASH_LENGTH = 32  # hexadecimal digits: 128 bits

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_LENGTH_MAX,
        description="Of the client's choice, new for each write: asked again under the same key,"
        " it is carried out once.",
    ),
]

_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class RequestIds:
    """The ids of the budget requests that one write makes.

    Under a client's key the same write has the same ids. Without one each has new ids, which hold
    that of the HTTP request, so that the audit leads to its log lines.
    """

    key: str | None
    content: str
    condition: str

    @classmethod
    def of(
        cls,
        caller: Caller,
        organization_id: str,
        key: str | None,
        content: object,
        condition: object,
    ) -> RequestIds:
        """Those of a write under a client's key."""
        who = (caller.name, caller.organization_id, organization_id)
        return cls(
            None if key is None else _hash((*who, key)), _hash(content), _hash(condition)[:8]
        )

    def of_attempt(self, attempt: int) -> str:
        """The id of the attempt with a number."""
        if self.key is None:
            # No key's ids begin so: nobody can take them by naming a request like them.
            return f"request-{current_request_id() or 'none'}-{uuid_utils.uuid7()}"
        return f"api-{self.key}-{self.content}-{self.condition}-{attempt}"

    def check(self, last_request_id: str) -> None:
        """Compare with the id of the request that changed the budget last.

        Raises:
            ProblemError: that was made under the same key, and asked for something else.
        """
        if self.key is None or not last_request_id.startswith(f"api-{self.key}-"):
            return
        if not last_request_id.startswith(f"api-{self.key}-{self.content}-"):
            detail = "this Idempotency-Key was used for another change: take a new one"
            raise ProblemError("idempotency-key-reused", detail)


def _hash(what: Any) -> str:
    return hashlib.sha256(_encode(what)).hexdigest()[:_HASH_LENGTH]
