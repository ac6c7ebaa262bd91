"""Which hosts the API is: without keys, a page in a browser must not reach it by another name.

A name that an attacker's server first answers for and then points to 127.0.0.1 makes the browser
take this API for that server. Its `Host` header gives it away. Known are the names of loopback,
the only place where the API runs without keys.

Where there are keys any name is taken, so that a proxy may pass its own on: such a page has no key,
and a browser adds none by itself, as it does cookies.
"""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import problem


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own, for sure."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_of(header: str) -> str:
    """The host in a `Host` header, without its port: `localhost`, `::1`."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


def _host(scope: Scope) -> str:
    return host_of(Headers(scope=scope).get("host", ""))


class KnownHosts:
    """ASGI middleware: requests for another host than loopback are refused."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with a problem."""
        if scope["type"] != "http" or is_loopback(_host(scope)):
            await self._app(scope, receive, send)
            return
        refusal = problem(scope["path"], "misdirected", "the Host header names another host")
        await refusal(scope, receive, send)
