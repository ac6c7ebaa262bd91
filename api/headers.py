"""Security headers: what a browser may do with the answers, and CORS where it was set.

The API answers programs. A browser shows nothing of it but `/docs`, whose page loads Swagger UI.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DOCS_PATH = "/docs"

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Of every answer that does not say otherwise: budgets and spend are for who asked, and for now."""

DOCS_POLICY = (
    "default-src 'none'; connect-src 'self'; frame-ancestors 'none';"
    " script-src 'unsafe-inline' https://cdn.jsdelivr.net;"
    " style-src 'unsafe-inline' https://cdn.jsdelivr.net;"
    " img-src 'self' data: https://fastapi.tiangolo.com"
)
"""The policy of the page at `DOCS_PATH`: what FastAPI's Swagger UI loads, and nothing else."""

CORS_REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "X-Request-ID",
    "traceparent",
)
CORS_ANSWER_HEADERS = (
    "ETag",
    "Idempotent-Replayed",
    "Location",
    "Outlay-Stale",
    "Outlay-Version",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
)
CORS_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class SecureHeaders:
    """ASGI middleware that gives every answer the headers that it lacks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if scope["path"] == DOCS_PATH:
                    headers.setdefault("Content-Security-Policy", DOCS_POLICY)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, secured)
