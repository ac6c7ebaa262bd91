"""FastAPI's problem: the answer of a dependency that lets a request not through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import Request
from fastapi.exceptions import HTTPException
from fastapi.responses import Response

from outlay.integrations.problem import MEDIA_TYPE, RETRY_AFTER_S, SCHEMA

_HANDLERS = "starlette.exception_handlers"  # where a request's scope has those of its app
_encode = msgspec.json.Encoder().encode


class BudgetProblem(HTTPException):
    """A request that is not let through; answered as `application/problem+json`.

    An app that wants another answer registers an exception handler for this class, or for its
    status code. One for all `HTTPException`s does not see it.

    Attributes:
        members: those of the body, `type`, `detail`, `scope` and so on.
    """

    def __init__(self, members: Mapping[str, Any]) -> None:
        status = members["status"]
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
        super().__init__(status, members["detail"], headers)
        self.members = members


async def problem_response(request: Request, error: BudgetProblem) -> Response:
    """The exception handler of `BudgetProblem`; there is no need to register it."""
    return Response(_encode(error.members), error.status_code, error.headers, MEDIA_TYPE)


def budget_responses(status_code: int = 402) -> dict[int | str, dict[str, Any]]:
    """What to give a route or an app as `responses`, so that its OpenAPI tells of the problems."""
    content = {MEDIA_TYPE: {"schema": SCHEMA}}
    return {
        status_code: {"description": "A budget has no room for the call", "content": content},
        503: {"description": "The budgets are not known now", "content": content},
    }


def problem_of(request: Request, members: Mapping[str, Any]) -> BudgetProblem:
    """The exception to raise for these members, which its app has an answer for."""
    # A dependency cannot return a response, and this is where Starlette looks up who makes one of
    # an exception. Were it elsewhere in another version, `HTTPException`'s would: the same status
    # and reason in FastAPI's own shape.
    handlers = request.scope.get(_HANDLERS)
    if handlers:
        handlers[0].setdefault(BudgetProblem, problem_response)
    return BudgetProblem(members)
