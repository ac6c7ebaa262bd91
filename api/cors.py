"""CORS: which pages a browser lets ask the API; a refusal is a problem as all others are."""

from __future__ import annotations

from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.problems import problem


class Cors(CORSMiddleware):
    """Starlette's, whose refused preflights are plain text."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a preflight."""
        answer = super().preflight_response(request_headers)
        return _Refused(answer) if answer.status_code >= 400 else answer


class _Refused(Response):
    """The same as a problem, once it is known for which path."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self._detail = bytes(answer.body).decode()
        own = ("content-length", "content-type")
        self._more = {name: each for name, each in answer.headers.items() if name not in own}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        refusal = problem(scope["path"], "cors-refused", self._detail, headers=self._more)
        await refusal(scope, receive, send)
