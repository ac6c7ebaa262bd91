"""Bodies of requests: read up to a bound, and checked by a model."""

from __future__ import annotations

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from api.problems import ProblemError, errors_of
from schemas import http

BODY_BYTES_MAX = 65_536
"""The largest body of a request about one resource, in bytes."""

_Model = TypeVar("_Model", bound=BaseModel)


async def read_body(request: Request, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """The whole body; no more of it is read than may be.

    Raises:
        ProblemError: it is over `bytes_max`.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > bytes_max:
            raise ProblemError("body-too-large", f"the body is over {bytes_max} bytes")
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
