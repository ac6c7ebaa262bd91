"""Envoy's `ext_authz`, as an HTTP service: 200 lets a request through, 402 answers it.

Envoy asks with the method, the path and some headers of the request that it has, and without its
body: `http_service.path_prefix` puts `/api/v1/ext_authz` before the path. What the call is about
stands in headers, all of which start with `x-outlay-`:

- `x-outlay-organization` (without it: the key's own), `-agent`, `-team`, `-user`: who it counts
  for, as UTF-8, at most 256 characters each;
- `x-outlay-estimated-cost-usd` (without it: not known, the least there is),
  `x-outlay-estimated-input-tokens`, `x-outlay-estimated-output-tokens`, `x-outlay-executions`.

Whoever sends them says who pays, so they have to be the gateway's: it sets them, or takes them away
from what clients send, before this filter; one that comes twice is refused. The key goes into
`Authorization`: `authorization_request.headers_to_add` puts it there in place of the client's
own, which Envoy would send otherwise.

Every answer has `x-outlay-state`, `x-outlay-degraded` and, where it is known,
`x-outlay-remaining-usd`; a blocked one is a problem, with `RateLimit` and `Retry-After`. By default
Envoy passes all headers and the body of such an answer on to its client: `allowed_client_headers`
names those that it may.

While the feed is not there the answer is 503, for which Envoy has a rule of its own
(`failure_mode_allow`). A budget with `on_stale: block` blocks with 402 when the feed is silent:
that is an answer, and no failure.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from api.any_path import ANY
from api.callers import Caller, needs
from api.checking import Checked, check
from api.live import Live, live
from api.problems import Kind, ProblemError, described, errors_of, problem
from api.services import PREFIX
from schemas.http_check import CheckRequest

HEADER_PREFIX = "x-outlay-"

FIELDS = {
    "x-outlay-organization": "organization_id",
    "x-outlay-agent": "agent_id",
    "x-outlay-team": "team_id",
    "x-outlay-user": "user_id",
    "x-outlay-estimated-cost-usd": "estimated_cost_usd",
    "x-outlay-estimated-input-tokens": "estimated_input_tokens",
    "x-outlay-estimated-output-tokens": "estimated_output_tokens",
    "x-outlay-executions": "executions",
}
"""The headers of a request, and what they give of a check."""

PATH = f"{PREFIX}/ext_authz"

_COUNTS = ("estimated_input_tokens", "estimated_output_tokens", "executions")
_is_count = re.compile(r"[0-9]{1,16}", re.ASCII).fullmatch
_needs = needs("emitter", "viewer")

router = APIRouter(tags=["checks"])


async def _caller(request: Request) -> Caller:
    # Without the query: it is that of the client's request, whatever its parameters are called.
    return await _needs(Request({**request.scope, "query_string": b""}))


@router.get(
    PATH + f"/{{original_path:{ANY}}}",
    response_class=Response,
    openapi_extra={
        "security": [{_needs.scheme_name: []}],
        "parameters": [
            {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}
            for name in FIELDS
        ],
    },
    responses=described("invalid-request", "budget-exceeded", "feed-unavailable"),
)
async def ext_authz(
    original_path: str,
    request: Request,
    caller: Annotated[Caller, Depends(_caller)],
    have: Annotated[Live, Depends(live)],
) -> Response:
    """May this call be made? Envoy's `ext_authz`; any other method is answered alike."""
    return _decide(request, caller, have)


class _AnyMethod:
    """The same for all methods, which FastAPI's routes would have to name."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = ANY_METHOD  # what the metrics name the request by
        request = Request(scope, receive)
        response = _decide(request, await _caller(request), await live(request))
        await response(scope, receive, send)


# Not only behind a slash: the path of `OPTIONS *` has none.
ANY_METHOD = Route(PATH + f"{{original_path:{ANY}}}", _AnyMethod(), include_in_schema=False)
ANY_METHOD.path_format = PATH + "/{original_path}"  # one name in the metrics
router.routes.append(ANY_METHOD)


def _decide(request: Request, caller: Caller, have: Live) -> Response:
    fields = _fields(request)
    fields["organization_id"] = _organization(fields.get("organization_id"), caller, request)
    checked = check(have.gateway, _ask(fields), have.now())
    headers = checked.headers | _headers(checked)
    if checked.result.allowed:
        return Response(None, 200, headers)
    kind: Kind = "budget-stale" if checked.is_unavailable else "budget-exceeded"
    path = request.path_params["original_path"]
    path = path if path.startswith("/") else f"/{path}"
    return problem(path, kind, checked.result.reason, checked.blocking, headers)


def _organization(named: object, caller: Caller, request: Request) -> str:
    if named is not None:
        caller.check(str(named), request.url.path)
        return str(named)
    if caller.organization_id is None:
        raise _invalid("x-outlay-organization", "this key is for all: say which one")
    return caller.organization_id


def _fields(request: Request) -> dict[str, Any]:
    """What the headers say, by the names of a check.

    Raises:
        ProblemError: one that is unknown, comes twice or is not UTF-8.
    """
    fields: dict[str, Any] = {}
    for raw_name, raw_value in request.headers.raw:
        name = raw_name.decode("latin-1").lower()
        if not name.startswith(HEADER_PREFIX):
            continue
        if name not in FIELDS:
            raise _invalid(name, "there is no such header")
        field = FIELDS[name]
        if field in fields:
            raise _invalid(name, "it comes more than once")
        try:
            value = raw_value.decode()
        except UnicodeDecodeError:
            raise _invalid(name, "it is not UTF-8") from None
        # A count as a number; what is none is refused as what it is.
        fields[field] = int(value) if field in _COUNTS and _is_count(value) else value
    return fields


def _ask(fields: dict[str, Any]) -> CheckRequest:
    try:
        return CheckRequest.model_validate(fields)
    except ValidationError as error:
        names = {field: name for name, field in FIELDS.items()}
        errors = [
            {**each, "location": f"header.{names.get(each['location'], each['location'])}"}
            for each in errors_of(error)
        ]
        detail = "; ".join(f"{each['location']}: {each['message']}" for each in errors[:3])
        raise ProblemError("invalid-request", detail, errors=errors) from None


def _invalid(name: str, message: str) -> ProblemError:
    errors = [{"location": f"header.{name}", "message": message}]
    return ProblemError("invalid-request", f"header.{name}: {message}", errors=errors)


def _headers(checked: Checked) -> dict[str, str]:
    body = checked.body
    headers = {
        "x-outlay-state": body.state,
        "x-outlay-degraded": str(body.degraded).lower(),
        "x-outlay-stale": str(body.stale).lower(),
    }
    if body.remaining_usd is not None:
        headers["x-outlay-remaining-usd"] = body.remaining_usd
    return headers
