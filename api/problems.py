"""Problems: every error of the API in one shape, RFC 9457's `application/problem+json`.

The `type` is the contract; texts may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from api.correlation import ACCOUNT, REQUEST_ID_HEADER, current_request_id
from api.headers import SECURITY_HEADERS
from outlay.apikey import without_keys
from outlay.errors import BudgetRefused, BudgetRequestTimeout, FeedNotReady
from schemas import http
from streams.clickhouse_errors import HistoryError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:outlay:problem:"

RETRY_AFTER_S = 5
"""When a client may ask again after a 503."""

Kind = Literal[
    "malformed-request",  # it is no HTTP, or its head is over its bound
    "invalid-request",  # a parameter or the body is not as it must be; `errors` names the parts
    "body-too-large",  # the body is over its bound
    "unauthorized",  # there is no key in force in the request
    "forbidden",  # the key is for other things; what is another organization's is not found
    "too-many-attempts",  # too many wrong keys from this address
    "too-many-requests",  # more requests than the key may make
    "stopping",  # this process ends, and could not finish the request before
    "too-many-connections",  # as many connections as there may be
    "cors-refused",  # a page of this origin may not ask so
    "not-found",  # there is no such resource
    "method-not-allowed",  # the resource knows other methods
    "misdirected",  # the Host header names another host
    "budget-refused",  # the budget would be one that cannot be
    "budget-timeout",  # what became of a change is not known (yet); `budget_request_id` names it
    "budget-deleted",  # the change was made under this key before, and the budget deleted since
    "version-mismatch",  # the budget is another than the request expects; `version` is its own
    "version-not-seen",  # the decisions feed has not seen the version asked for (yet)
    "idempotency-key-reused",  # the key was used for another request before
    "feed-unavailable",  # the decisions feed has not caught up
    "budget-exceeded",  # a budget has no room for a call; the members say which, and for what
    "budget-stale",  # a budget blocks calls while the decisions feed is silent (`on_stale`)
    "too-many-streams",  # as many streams are open as there may be
    "history-unavailable",  # ClickHouse does not answer
    "report-too-large",  # the report has too many rows: narrow it
    "not-ready",  # `checks` says what is not in order
    "request-timeout",  # the body did not come in time
    "unsupported-media-type",  # the body's Content-Type or Content-Encoding is not one of ours
    "usage-busy",  # too many records, or bodies, are under way: none of these was sent
    "broker-unavailable",  # the broker does not take it now: nothing was sent
    "usage-unconfirmed",  # not acknowledged yet: those at `unconfirmed` may still be counted
    "usage-unknown",  # whether those at `unconfirmed` are counted will not be known
    "internal-error",  # a bug here
]

STATUS: dict[Kind, int] = {
    "malformed-request": 400,
    "invalid-request": 422,
    "body-too-large": 413,
    "unauthorized": 401,
    "forbidden": 403,
    "too-many-attempts": 429,
    "too-many-requests": 429,
    "stopping": 503,
    "too-many-connections": 503,
    "cors-refused": 400,
    "not-found": 404,
    "method-not-allowed": 405,
    "misdirected": 421,
    "budget-refused": 422,
    "budget-timeout": 503,
    "budget-deleted": 409,
    "version-mismatch": 412,
    "version-not-seen": 503,
    "idempotency-key-reused": 422,
    "feed-unavailable": 503,
    "budget-exceeded": 402,
    "budget-stale": 402,
    "too-many-streams": 503,
    "history-unavailable": 503,
    "report-too-large": 422,
    "not-ready": 503,
    "request-timeout": 408,
    "unsupported-media-type": 415,
    "usage-busy": 503,
    "broker-unavailable": 503,
    "usage-unconfirmed": 503,
    "usage-unknown": 502,
    "internal-error": 500,
}

ANY_REQUEST: tuple[Kind, ...] = ("misdirected", "internal-error")
"""The problems that a request to any resource may meet."""

KEYED_REQUEST: tuple[Kind, ...] = (
    "unauthorized",
    "forbidden",
    "not-found",
    "too-many-attempts",
    "too-many-requests",
)
"""Those that a request to a resource that needs a key may meet; `api.openapi` adds them."""

_VALUE_ERROR_PREFIX = "Value error, "  # pydantic's, before the message of a ValueError of ours

log = structlog.get_logger("outlay.api")


class ProblemError(Exception):
    """An answer that is a problem; `more` are further members of its body."""

    headers: Mapping[str, str] | None = None
    """Further headers of the answer; to be set before it is raised."""

    def __init__(self, kind: Kind, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.more = more


def problem(
    path: str,
    kind: Kind,
    detail: str,
    more: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response that says what is wrong with a request to `path`."""
    status = STATUS[kind]
    return _response(status, TYPE_PREFIX + kind, _title(kind), detail, path, more, headers)


def described(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """The `responses` of routes that may answer with these, or with those of `ANY_REQUEST`."""
    titles: dict[int, list[str]] = {}
    for kind in (*kinds, *ANY_REQUEST):
        titles.setdefault(STATUS[kind], []).append(_title(kind))
    # Without FastAPI's `model`, which would stand under the media type of the good answer.
    content = {MEDIA_TYPE: {"schema": http.Problem.model_json_schema()}}
    return {
        status: {"description": "; ".join(names), "content": content}
        for status, names in titles.items()
    }


def _title(kind: Kind) -> str:
    return kind.replace("-", " ").capitalize()


def _response(
    status: int,
    type_: str,
    title: str,
    detail: str,
    path: str,
    more: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    request_id = current_request_id()
    members = ({} if request_id is None else {"request_id": request_id}) | dict(more or {})
    body = http.Problem(
        type=type_, title=title, status=status, detail=detail, instance=path, **members
    )
    retry = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    # A key that was sent in the place of something else is not sent back.
    content = without_keys(http.encode(body).decode())
    return Response(content, status, retry | dict(headers or {}), MEDIA_TYPE)


def errors_of(error: RequestValidationError | ValidationError, where: str = "") -> list[Any]:
    """What is wrong where, without the values: they may be secrets."""
    return [
        {
            "location": ".".join(map(str, (*([where] if where else []), *each["loc"]))),
            "message": each["msg"].removeprefix(_VALUE_ERROR_PREFIX),
        }
        for each in error.errors()
    ]


def install(app: FastAPI) -> None:
    """Have the app answer every error with a problem."""

    @app.exception_handler(ProblemError)
    async def _problem(request: Request, error: ProblemError) -> Response:
        return problem(request.url.path, error.kind, error.detail, error.more, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        more = {"errors": errors_of(error)}
        return problem(request.url.path, "invalid-request", _sentence(more["errors"]), more)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        path, headers = request.url.path, error.headers
        if error.status_code == 404:
            return problem(path, "not-found", f"there is no {path}", headers=headers)
        if error.status_code == 405:
            detail = f"{request.method} is not for {path}"
            return problem(path, "method-not-allowed", detail, headers=headers)
        if error.status_code == 400:  # the framework could not read the body, of a form say
            return problem(path, "malformed-request", str(error.detail), headers=headers)
        title = HTTPStatus(error.status_code).phrase
        return _response(
            error.status_code, "about:blank", title, str(error.detail), path, headers=headers
        )

    @app.exception_handler(BudgetRefused)
    async def _refused(request: Request, error: BudgetRefused) -> Response:
        more = {"version": error.version}
        return problem(request.url.path, "budget-refused", error.reason, more)

    @app.exception_handler(BudgetRequestTimeout)
    async def _timeout(request: Request, error: BudgetRequestTimeout) -> Response:
        more = {"budget_request_id": error.request_id}
        return problem(request.url.path, "budget-timeout", str(error), more)

    @app.exception_handler(FeedNotReady)
    async def _feed(request: Request, error: FeedNotReady) -> Response:
        return problem(request.url.path, "feed-unavailable", str(error))

    @app.exception_handler(HistoryError)
    async def _history(request: Request, error: HistoryError) -> Response:
        log.warning("the history does not answer", error=str(error))
        return problem(request.url.path, "history-unavailable", "ClickHouse does not answer now")

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> Response:
        # The server logs the trace.
        log.error("a request failed", path=request.url.path, error=repr(error))
        detail = "the request failed; the log says why"
        # This answer goes past the middleware that gives the others these headers.
        own = {REQUEST_ID_HEADER: request.scope[ACCOUNT].request_id}
        return problem(request.url.path, "internal-error", detail, headers=SECURITY_HEADERS | own)


def _sentence(errors: list[Any]) -> str:
    return "; ".join(f"{each['location']}: {each['message']}" for each in errors[:3])
