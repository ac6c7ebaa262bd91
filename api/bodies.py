"""Bodies of requests: read up to a bound, and checked by a model."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from api.problems import ProblemError, errors_of
from schemas import http

BODY_BYTES_MAX = 65_536
"""The largest body of a request about one resource, in bytes."""

BODY_TIMEOUT_S = 15.0
"""How long a body may take to come in, in seconds."""

_Model = TypeVar("_Model", bound=BaseModel)


async def read_body(
    request: Request, bytes_max: int = BODY_BYTES_MAX, timeout_s: float = BODY_TIMEOUT_S
) -> bytes:
    """The whole body; no more of it is read than may be, and no longer.

    Raises:
        ProblemError: it is over `bytes_max`, too slow, or broken off.
    """
    content = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                content += chunk
                if len(content) > bytes_max:
                    raise ProblemError("body-too-large", f"the body is over {bytes_max} bytes")
    except TimeoutError:
        detail = f"the body did not come within {timeout_s:g} s"
        raise ProblemError("request-timeout", detail) from None
    except ClientDisconnect:
        raise ProblemError("request-timeout", "the body broke off") from None
    return bytes(content)


def parse_body(model: type[_Model], content: bytes) -> _Model:
    """The body as its model, numbers read as decimals.

    Raises:
        ProblemError: it cannot be; `errors` names the parts.
    """
    try:
        return model.model_validate(http.decode(content))
    except ValidationError as error:
        errors = errors_of(error, "body")
        detail = "; ".join(f"{each['location']}: {each['message']}" for each in errors[:3])
        raise ProblemError("invalid-request", detail, errors=errors) from None
    except ValueError as error:
        raise invalid_body(str(error)) from None


def invalid_body(message: str) -> ProblemError:
    """The problem of a body that is wrong as a whole."""
    errors = [{"location": "body", "message": message}]
    return ProblemError("invalid-request", f"body: {message}", errors=errors)
